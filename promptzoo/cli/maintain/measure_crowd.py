"""Measure many boxes in one call: ``python -m promptzoo.cli.maintain.measure_crowd BUNDLE DATALIST``.

The connected parts of masks (nuclei, say) are boxed and asked for all at once, once through a window for each and once
through windows that they share (:data:`promptzoo.inference.sam.SHARED`). Writes the block ``many boxes, real`` of the
bundle's ``docs/results.json``.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any
from unittest import mock

import numpy as np
from scipy import ndimage

from promptzoo.core.bundles import get_bundle
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference import load_predictor, sam
from promptzoo.prompts.types import Box, PromptSet

MODULE = "python -m promptzoo.cli.maintain.measure_crowd"
LEAST_VOXELS = 30
"""Smaller parts are left out."""


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure many boxes in one call.")
    parser.add_argument("bundle")
    parser.add_argument("datalist")
    parser.add_argument("--match", nargs="+", default=["dsb2018", "sem_axon"], help="parts of the ids of images")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    found: dict[str, dict[str, Any]] = {}
    for match in options.match:
        source = Datalist.read(options.datalist, match=match)
        cases = [source.load(row) for row in source.rows]
        for name, least in (("a window each", sys.maxsize), ("shared windows", 1)):
            with mock.patch.object(sam, "CROWD", least):
                predictor = load_predictor(info.path)
                told = [told_of(predictor, case) for case in cases]
            dices = np.concatenate([one["dice"] for one in told])
            found[f"{match}, {name}"] = {"images": len(told), "objects": len(dices),
                                         "dice": round(float(dices.mean()), 4),
                                         "seconds": round(sum(one["seconds"] for one in told), 1)}
            print(json.dumps(found), flush=True)
    place = info.path / "docs" / "results.json"
    content = json.loads(place.read_text())
    content["many boxes, real"] = {"command": f"{MODULE} {info.name} datalist.csv --match {' '.join(options.match)}",
                                   "engine": predictor.engine, "measured": found, "hardware": hardware(),
                                   "versions": versions()}
    place.write_text(json.dumps(content, indent=1) + "\n")
    return 0


def told_of(predictor: Any, case: Case) -> dict[str, Any]:
    """Dice of each connected part of a mask by its box, all parts in one call, and how long the call took."""
    labels = ndimage.label(case.mask)[0]
    parts = [(n + 1, where) for n, where in enumerate(ndimage.find_objects(labels))
             if (labels[where] == n + 1).sum() >= LEAST_VOXELS]
    boxes = PromptSet(tuple(Box(tuple(float(s.start) for s in where), tuple(float(s.stop) for s in where), n, "voxel")
                            for n, where in parts))
    state, started = predictor.encode(case.volume), time.perf_counter()
    answer = predictor.decode(state, boxes)
    seconds = time.perf_counter() - started
    return {"dice": [dice(one.mask, labels == n) for (n, _), one in zip(parts, answer.objects)], "seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
