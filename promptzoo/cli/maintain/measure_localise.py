"""Measure boxes that come by themselves: ``python -m promptzoo.cli.maintain.measure_localise BUNDLE
[--variant ID]``.

Two procedural torsos are the finished volumes, others the new ones, whole, upside down and mirrored. Per organ: IoU of
the box beside that of a box of the finished one's size in the middle, distance of the middles, and Dice of the voted
mask, of the answer, and of the answer to the true box. Writes ``docs/results.json``.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.prompts import Box, PromptSet, ReferencePrompt
from promptzoo.training.organs import ORGANS, torso

MODULE = "python -m promptzoo.cli.maintain.measure_localise"
SEED = 977_000_011
ASKED = ("liver", "spleen", "kidney left", "aorta")


def bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Half-open bounds of a mask, two vectors of three."""
    at = np.argwhere(mask)
    return at.min(0), at.max(0) + 1


def box_iou(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    """Intersection over union of two boxes, half-open bounds."""
    both = np.prod(np.clip(np.minimum(one[1], two[1]) - np.maximum(one[0], two[0]), 0, None))
    return float(both / (np.prod(one[1] - one[0]) + np.prod(two[1] - two[0]) - both))


def finished(folder: Path, count: int = 2) -> list[tuple[str, str]]:
    """Files of procedural torsos and their labels."""
    names = []
    for n in range(count):
        data, labels, spacing = torso(SEED + n)
        pair = str(folder / f"{n}_image.nii.gz"), str(folder / f"{n}_labels.nii.gz")
        for name, array in zip(pair, (data, labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([*spacing, 1.0])), name)
        names.append(pair)
    return names


def measure(predictor: Any, folder: Path, count: int) -> dict[str, Any]:
    """Numbers per organ over new torsos, and the similarities of whole, upside-down and mirrored ones."""
    names, found = finished(folder), {organ: [] for organ in ASKED}  # type: ignore[var-annotated]
    alike: dict[str, list[float]] = {"whole": [], "upside down": [], "mirrored": []}
    for n in range(count):
        data, labels, spacing = torso(SEED + 2 + n)
        for kind, turned in (("whole", data), ("upside down", data[:, :, ::-1]), ("mirrored", data[::-1])):
            state = predictor.encode(Volume(turned.copy(), Grid(data.shape, np.diag([*spacing, 1.0]))))
            for organ in ASKED if kind == "whole" else ASKED[:1]:
                value = ORGANS.index(organ) + 1
                place = predictor.propose(state, [ReferencePrompt(*pair, value) for pair in names])
                alike[kind].append(place.similarity)
                truth = labels == value
                if kind != "whole" or not truth.any() or not len(place.prompts):
                    continue
                box = place.prompts.to_voxel(state.canonical).of("box")[0]
                own, true = (np.array(box.low), np.array(box.high)), bounds(truth)
                half = (true[1] - true[0]) / 2
                middle = np.asarray(truth.shape) / 2
                given = PromptSet((Box(tuple(map(float, true[0])), tuple(map(float, true[1])), 1, "voxel"),))
                found[organ].append((box_iou(own, true), box_iou((middle - half, middle + half), true),
                                     float(np.linalg.norm((np.add(*own) - np.add(*true)) / 2 * spacing)),
                                     np.nan if place.voted is None else dice(place.voted, truth), dice(predictor.decode(
                                         state, place.prompts).objects[0].mask, truth),
                                     dice(predictor.decode(state, given).objects[0].mask, truth)))
    keys = ("box_iou", "box_iou_of_middle_box", "middle_off_mm", "dice_voted", "dice_answer", "dice_true_box")
    return {"n": count, **{organ: {key: round(float(mean), 4) for key, mean in zip(keys, np.mean(values, 0))
                                   if np.isfinite(mean)} for organ, values in found.items() if values},
            "similarity": {kind: [round(min(values), 3), round(max(values), 3)] for kind, values in alike.items()}}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    from promptzoo.inference import load_predictor

    parser = argparse.ArgumentParser(prog=MODULE, description="Measure automatic boxes.")
    parser.add_argument("bundle")
    parser.add_argument("--variant", help="system id of a variant")
    parser.add_argument("--limit", type=int, default=4, help="new torsos")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    predictor: Any = load_predictor(info.path, variant=options.variant)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(predictor, Path(folder), options.limit)
    place = info.path / "docs" / "results.json"
    variant = f" --variant {options.variant}" if options.variant else ""
    results = json.loads(place.read_text()) if place.is_file() else {}
    results[f"procedural torsos, {options.variant}" if variant else "procedural torsos"] = {
        "command": f"{MODULE} {info.name}{variant} --limit {options.limit}", "engine": predictor.engine, **found,
        "hardware": hardware(), "versions": versions()}
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
