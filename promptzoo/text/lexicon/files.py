"""Files of the lexicon: read, checked by the schema, merged, and expanded to left and right."""
from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from jsonschema import Draft7Validator

from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.text.lexicon.concepts import Concept, Side

FOLDER = Path(__file__).parent
LISTS = ("synonyms", "latin", "abbreviations", "everyday")
SIDES: tuple[Side, Side] = ("left", "right")
_LATIN = {"us": ("sinister", "dexter"), "er": ("sinister", "dexter"), "a": ("sinistra", "dextra"),
          "um": ("sinistrum", "dextrum"), "ren": ("sinister", "dexter"), "pulmo": ("sinister", "dexter")}


def shipped() -> tuple[Path, ...]:
    """The files of the package, by name."""
    return tuple(sorted((FOLDER / "regions").glob("*.json")))


@cache
def _validator() -> Draft7Validator:
    return Draft7Validator(json.loads((FOLDER / "schema.json").read_text(encoding="utf-8")))


def read(path: str | Path) -> dict[str, Any]:
    """One file, checked.

    Raises:
        NotFoundError: if there is no such file.
        PromptZooError: if it is not JSON, or not as ``schema.json`` says; names the entry.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        raise NotFoundError(complain("lexicon file", str(path), "an existing JSON file"))
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PromptZooError(complain(f"lexicon file {place.name}", str(error), "JSON")) from error
    problem = next(iter(_validator().iter_errors(told)), None)
    if problem is not None:
        where = "/".join(str(p) for p in problem.absolute_path)
        raise PromptZooError(complain(f"lexicon file {place.name} at {where or 'its root'}", problem.message,
                                      "what promptzoo/text/lexicon/schema.json says"))
    return told


def merged(paths: Iterable[str | Path]) -> dict[str, dict[str, Any]]:
    """Entries of several files by id; a later entry adds its words to an earlier one and replaces what else it states.

    Raises:
        NotFoundError, PromptZooError: as :func:`read`; also for a new entry without a name, and for a parent or part
            that is nowhere.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        told = read(path)
        for entry in told["concepts"]:
            found[entry["id"]] = _joined(found.get(entry["id"], {"region": told["region"]}), entry)
            if "name" not in found[entry["id"]]:
                raise PromptZooError(complain(f"lexicon file {Path(path).name}, concept {entry['id']}", "no name",
                                              "a name for a new concept"))
    return found


def _joined(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    joined = {**old, **new}
    for key in LISTS:
        words = (*old.get(key, ()), *new.get(key, ()))
        if words:
            joined[key] = tuple(dict.fromkeys(words))
    for key in ("attributes", "codes"):
        joined[key] = {**old.get(key, {}), **new.get(key, {})}
    for key in SIDES:
        if key in old and key in new:
            joined[key] = _joined(old[key], new[key])
    return joined


def concepts(entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Concept]:
    """The concepts of merged entries; a lateral one gives itself and its left and right.

    Raises:
        PromptZooError: for a parent or part that is nowhere.
    """
    known = set(entries) | {f"{i}_{s}" for i, e in entries.items() for s in SIDES if e.get("lateral") in (True, s)}
    for ident, entry in entries.items():
        for other in (*entry.get("parts", ()), *([entry["parent"]] if "parent" in entry else ())):
            if other not in known:
                raise PromptZooError(complain(f"parent or part of {ident}", other, "the id of a concept"))
        only = entry.get("lateral") if entry.get("lateral") in SIDES else None
        yield _concept(entry, f"{ident}_{only}" if only else ident, only)
        if entry.get("lateral") is True:
            for side in SIDES:
                yield _sided(entry, side, entries, known)


def _concept(entry: Mapping[str, Any], ident: str, side: Side | None, **changes: Any) -> Concept:
    told = {**{key: tuple(entry.get(key, ())) for key in (*LISTS, "parts")}, "parent": entry.get("parent"),
            "name": entry["name"], **changes}
    return Concept(id=ident, side=side, region=entry["region"], codes=dict(told.pop("codes", entry.get("codes", {}))),
                   attributes={k: tuple(v) for k, v in entry.get("attributes", {}).items()},
                   kind=entry.get("kind", "anatomy"), group=bool(entry.get("group", False)), **told)


def _sided(entry: Mapping[str, Any], side: Side, entries: Mapping[str, Any], known: set[str]) -> Concept:
    own = entry.get(side, {})
    name = own.get("name", f"{side} {entry['name']}")
    words = {key: tuple(dict.fromkeys((*own.get(key, ()), *(f"{side} {w}" for w in entry.get(key, ())))))
             for key in ("synonyms", "everyday")}
    if name != f"{side} {entry['name']}":
        words["synonyms"] = (f"{side} {entry['name']}", *words["synonyms"])
    parent = entry.get("parent")
    parent = f"{parent}_{side}" if parent and entries.get(parent, {}).get("lateral") is True else entry["id"]
    parts = []
    for part in entry.get("parts", ()):
        at = entries.get(part, {}).get("lateral")
        if at in (True, side, None, False):
            parts.append(f"{part}_{side}" if at in (True, side) else part)
    return _concept(entry, f"{entry['id']}_{side}", side, name=name, parent=parent, parts=tuple(parts),
                    latin=(*own.get("latin", ()), *_latin(entry.get("latin", ()), side)),
                    abbreviations=tuple(own.get("abbreviations", ())), codes=own.get("codes", {}), **words)


def _latin(words: Iterable[str], side: Side) -> tuple[str, ...]:
    """Latin names with their side, where the ending of the first word tells the gender."""
    found = []
    for word in words:
        ending = next((e for e in _LATIN if word.split()[0].endswith(e)), None)
        if ending:
            found.append(f"{word} {_LATIN[ending][SIDES.index(side)]}")
    return tuple(found)
