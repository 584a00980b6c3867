"""Measure answers to finished cases: ``python -m promptzoo.cli.maintain.measure_reference BUNDLE DATALIST
--set NAME=MATCH …``.

Every case of a set is the reference of every other one (``--limit`` cases, largest slices). Beside the answer: the
reference's mask copied as it is, and the bundle asked with as many random points from inside the rectangle of the
copied mask. Cases of other sets as references count how often images unlike the reference are refused.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Sequence

import nibabel
import numpy as np

from promptzoo.core.bundles import get_bundle
from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference.resample import Window
from promptzoo.prompts import Point, PromptSet, ReferencePrompt

MODULE = "python -m promptzoo.cli.maintain.measure_reference"


def as_reference(case: Case, folder: Path) -> ReferencePrompt:
    """A case written to files, as a prompt."""
    stem = case.row.id.replace("/", "_").replace(":", "_").replace(" ", "_")
    names = [str(folder / f"{stem}_{part}.nii.gz") for part in ("image", "mask")]
    for name, data in zip(names, (case.volume.data, case.mask.astype(np.uint8))):
        nibabel.save(nibabel.Nifti1Image(data, case.grid.affine), name)
    return ReferencePrompt(*names)


def copied(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A mask stretched to another shape."""
    step = [a / b for a, b in zip(mask.shape, shape)]
    window = Window(tuple((s - 1) / 2 for s in step), tuple(step), tuple(shape))
    return window.sample(mask.astype(np.float32)) >= 0.5


def measure(predictor: Any, cases: Sequence[Case], others: Sequence[Case]) -> dict[str, Any]:
    """Numbers of one set."""
    found: dict[str, list[float]] = {name: [] for name in ("answer", "answer where given", "copied mask",
                                                           "random points", "similarity")}
    refused, wrong = 0, 0
    with tempfile.TemporaryDirectory() as name:
        for n, case in enumerate(cases):
            state = predictor.encode(case.volume)
            for m, other in enumerate(cases):
                if n == m:
                    continue
                answer = predictor.decode(state, PromptSet((as_reference(other, Path(name)),))).objects[0]
                refused += "generated" not in answer.info
                copy = copied(other.mask, case.mask.shape)
                box = np.argwhere(copy)
                draws = generator(n, m).integers(box.min(0), box.max(0) + 1, (6, 3))
                points = PromptSet(tuple(Point(tuple(map(float, p)), True, 1, "voxel") for p in draws))
                for key, mask in (("answer", answer.mask), ("copied mask", copy),
                                  ("random points", predictor.decode(state, points).objects[0].mask)):
                    found[key].append(dice(mask, case.mask))
                if "generated" in answer.info:
                    found["answer where given"].append(found["answer"][-1])
                found["similarity"].append(answer.info["similarity"])
            for other in others:
                answer = predictor.decode(state, PromptSet((as_reference(other, Path(name)),))).objects[0]
                wrong += "generated" not in answer.info
    means = {key: round(float(np.mean(values)), 4) for key, values in found.items() if values}
    return {"pairs": len(found["answer"]), **means, "least_similarity": round(min(found["similarity"]), 4),
            "refused": refused, "unlike_pairs": len(cases) * len(others), "unlike_refused": wrong}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    from promptzoo.inference import load_predictor

    parser = argparse.ArgumentParser(prog=MODULE, description="Measure reference prompts.")
    parser.add_argument("bundle")
    parser.add_argument("datalist", help="CSV of cases")
    parser.add_argument("--set", action="append", required=True, help="NAME=MATCH: a structure and its rows")
    parser.add_argument("--limit", type=int, default=4, help="cases per set")
    parser.add_argument("--variants", default="default", help="names, or default")
    options = parser.parse_args(arguments)
    info, sets = get_bundle(options.bundle), {}
    for entry in options.set:
        source = Datalist.read(options.datalist, match=entry.partition("=")[2], slices="largest")
        loaded = (source.load(row) for row in source.rows[:options.limit])
        sets[entry.partition("=")[0]] = [case for case in loaded if case.mask.any()]
    place = info.path / "docs" / "results.json"
    for variant in options.variants.split(","):
        predictor = load_predictor(info.path, variant=None if variant == "default" else variant)
        block = {name: measure(predictor, cases, [one[0] for other, one in sets.items() if other != name])
                 for name, cases in sets.items()}
        told = " ".join([MODULE, info.name, "index.csv", *(f"--set {entry}" for entry in options.set), "--limit",
                         str(options.limit), "--variants", variant])
        results = json.loads(place.read_text()) if place.is_file() else {}
        results[f"references, {variant}"] = {"command": told, "engine": getattr(predictor, "engine", ""), **block,
                                             "hardware": hardware(), "versions": versions()}
        place.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({variant: block}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
