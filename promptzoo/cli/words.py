"""``promptzoo words``: how a text is read, what the lexicon knows of a name, and whether a hospital's file is sound."""
from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional

import typer

from promptzoo.cli.common import JSON_OPTION, print_json, print_table
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import BundleError, UnclearTextError, complain

UNCLEAR = 2
"""Exit code for a text that leads to a question, as for any prompt that cannot be used."""


def words(
    text: Optional[str] = typer.Argument(None, help="A name, a list or a sentence. Without it: a count."),
    bundle: Optional[str] = typer.Option(None, "--bundle", "-b", help="Read it for the classes of this bundle."),
    lexicon: Optional[List[Path]] = typer.Option(None, help="Further file of words, checked and used; several times. "
                                                            "Those of $PROMPTZOO_LEXICON are always used."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Read a text as a prompt would be read: which concepts it names, which it leaves out, or what is asked back."""
    from promptzoo.text.lexicon import Lexicon, class_for, resolve

    known = None
    if bundle is not None:
        info = get_bundle(bundle)
        known = info.spoken_classes
        if not known:
            raise BundleError(complain(f"classes as which {info.name} reads words", "none",
                                       "a bundle that takes text and tells its classes",
                                       "It takes no text, or reads whole sentences by itself"))
    lex = Lexicon.load(*(lexicon or ()))
    if text is None:
        _count(lex, as_json)
        return
    found = resolve(text, lex, known)
    rows = [_row(match, known and class_for(match.concept, known, lex), "wanted") for match in found.wanted]
    rows += [_row(match, known and class_for(match.concept, known, lex), "left out") for match in found.excluded]
    if as_json:
        print_json({"text": text, "matches": rows, "question": found.question or "",
                    "candidates": [match.concept.name for match in found.candidates]})
    elif rows:
        print_table(["", "concept", "id", "read from", "how", "confidence", "part of", "SNOMED CT", "class"],
                    [[row["role"], row["name"], row["id"], row["phrase"], row["how"], row["confidence"], row["parent"],
                      row["codes"].get("snomed", ""), row["class"] or ""] for row in rows], text)
    if found.question:
        if as_json:
            raise typer.Exit(UNCLEAR)
        raise UnclearTextError(found.question, [match.concept.name for match in found.candidates])


def _row(match: Any, name: str | None, role: str) -> dict[str, Any]:
    concept = match.concept
    return {"role": role, "id": concept.id, "name": concept.name, "phrase": match.phrase, "how": match.how,
            "confidence": round(float(match.confidence), 3), "parent": concept.parent or "", "region": concept.region,
            "codes": dict(concept.codes), "attributes": {k: list(v) for k, v in concept.attributes.items()},
            "class": name}


def _count(lexicon: Any, as_json: bool) -> None:
    regions: dict[str, list[int]] = {}
    for concept in lexicon.concepts:
        count = regions.setdefault(concept.region, [0, 0, 0])
        for place, more in enumerate((1, len(concept.phrases), bool(concept.codes))):
            count[place] += more
    if as_json:
        print_json({region: dict(zip(("concepts", "phrases", "coded"), count)) for region, count in regions.items()})
        return
    total = [sum(column) for column in zip(*regions.values())]
    print_table(["region", "concepts", "words and phrases", "with codes"],
                [[region, *count] for region, count in sorted(regions.items())] + [["all", *total]])
