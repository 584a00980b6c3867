"""``promptzoo study --text``: how robust the reading of text prompts, and the masks that they give, are."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from promptzoo.cli.common import print_json, print_table, progress, say, waiting
from promptzoo.core.bundles import BundleInfo, read_json
from promptzoo.core.errors import PromptZooError, complain

LEXICON = "lexicon"
READING = ("right", "refused", "flipped")
MASKS = ("refused", "empty", "dice", "spread", "flipped", "elsewhere")


def study_text(target: str, command: str, datalist: str | None = None, variant: str | None = None,
               engine: str = "auto", precision: str = "auto", limit: int | None = None, seed: int = 0,
               slices: str = "auto", out: Path | None = None, as_json: bool = False, quiet: bool = False
               ) -> dict[str, Any]:
    """Study a bundle that takes text, or the lexicon alone.

    Args:
        target: ``lexicon``, or the name or path of a bundle.
        command: as it was typed, for the record.
        datalist: images with masks; default: procedural ones.
        variant, engine, precision: of the bundle.
        limit: at most this many concepts and forgotten words (lexicon) or objects of the datalist.
        seed: of all draws.
        slices: as for ``bench``.
        out: folder for ``text.json``.
        as_json: print JSON instead of tables.
        quiet: print nothing.

    Returns:
        What ``text.json`` holds.

    Raises:
        PromptZooError: for a bundle that takes no text or tells no classes, and for a datalist beside ``lexicon``.
    """
    if target == LEXICON:
        if datalist is not None or variant is not None:
            raise PromptZooError(complain("with --text lexicon", datalist or variant, "no datalist and no variant"))
        told = study_lexicon(limit, seed, as_json or quiet)
    else:
        told = _bundle(target, datalist, variant, engine, precision, limit, seed, slices, as_json or quiet)
    told = {"command": command, **told}
    if out is not None:
        place = out.expanduser()
        place.mkdir(parents=True, exist_ok=True)
        (place / "text.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"Results: {place / 'text.json'}")
    if as_json:
        print_json(told)
    elif not quiet:
        show(told)
    return told


def study_lexicon(limit: int | None = None, seed: int = 0, quiet: bool = True) -> dict[str, Any]:
    """The shipped lexicon, read with our tower."""
    from promptzoo.evaluation.text_robustness import study_forgotten, study_reading
    from promptzoo.text.lexicon import Lexicon
    from promptzoo.text.towers import load_tower
    from promptzoo.text.towers.ngrams import WEIGHTS

    lexicon, tower = Lexicon.load(), load_tower()
    with progress("Reading texts", quiet) as report:
        found = study_reading(lexicon, tower=tower, limit=limit, seed=seed, progress=report)
    held = {kind: dict(list(pairs.items())[:limit])
            for kind, pairs in read_json(WEIGHTS.with_name("results.json"))["held_out"].items()}
    return {"target": LEXICON, "reading": found, "forgotten": study_forgotten(lexicon, held, tower)}


def _bundle(target: str, datalist: str | None, variant: str | None, engine: str, precision: str, limit: int | None,
            seed: int, slices: str, quiet: bool) -> dict[str, Any]:
    from promptzoo.cli.bench import checked_bundle, slices_of, tasks_of
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.evaluation.text_masks import datalist_cases, phantom_cases, study_masks
    from promptzoo.evaluation.text_robustness import study_reading
    from promptzoo.inference import load_predictor
    from promptzoo.text.lexicon import Lexicon
    from promptzoo.text.lexicon.known import known_of
    from promptzoo.text.towers import load_tower

    info = checked_bundle(target, variant, False)
    known, lexicon = classes_of(info), Lexicon.load()
    asked = known_of(known, lexicon)
    concepts = [c for c in asked.lexicon.concepts if c.id in asked.classes]
    reading = study_reading(lexicon, known, load_tower(), concepts, seed=seed)
    cases = phantom_cases(known) if datalist is None else datalist_cases(
        Datalist.read(datalist, tasks=tasks_of(info, False), slices=slices_of(info, slices, False)), known, limit, seed)
    with waiting(f"Loading {info.name}", quiet):
        predictor = load_predictor(info.path, engine, precision, variant)
    with progress(f"{info.name}, objects", quiet) as report:
        masks = study_masks(cases, predictor, known, seed=seed, progress=report)
    if not masks["objects"]:
        raise PromptZooError(complain("images for the study", datalist or "phantoms",
                                      "images with a class of the bundle", "Give a datalist with label_name"))
    return {"target": info.name, "variant": variant, "bundle_version": info.version,
            "images": Path(datalist).name if datalist else "phantoms", "reading": reading, "masks": masks}


def classes_of(info: BundleInfo) -> tuple[str, ...]:
    """Class names of a bundle that takes text.

    Raises:
        PromptZooError: if it takes no text, or its metadata tells no classes.
    """
    known = tuple(str(name) for name in info.label.get("labels", ()))
    if "text" not in info.prompts or not known:
        raise PromptZooError(complain(f"prompts of {info.name}", ", ".join(info.prompts), "text, with classes",
                                      "See: promptzoo bundles"))
    return known


def show(told: Mapping[str, Any]) -> None:
    """Tables of a study."""
    kinds = told["reading"]["kinds"]
    print_table(["texts", "n", *READING], [[kind, block["n"], *(block[r] for r in READING)]
                                           for kind, block in kinds.items()],
                f"{told['target']}: {told['reading']['texts']} texts for {told['reading']['concepts']} concepts")
    if "forgotten" in told:
        rows = [[f"{kind}, {way.replace('_', ' ')}", block["n"], *(block[way][r] for r in (*READING, "offered"))]
                for kind, block in told["forgotten"].items() for way in ("with_tower", "without")]
        print_table(["words that it does not know", "n", *READING, "offered"], rows)
    if "masks" in told:
        rows = [[kind, block["n"], *(block.get(m) for m in MASKS), (block.get("worst") or {}).get("text")]
                for kind, block in told["masks"]["kinds"].items()]
        print_table(["texts", "n", *MASKS, "worst"], rows,
                    f"{told['target']}, masks: {told['masks']['objects']} objects on {told['images']}")
