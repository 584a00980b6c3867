"""Measure label-free detection: ``python -m promptzoo.cli.maintain.measure_self_training BUNDLE DATALIST``.

Boxes are those of the connected parts of masks that labels of one structure give (touching objects are one box). The
plain name, sorted captions and a student that learned from their boxes are compared by COCO's AP; no label is used but
for that. Writes the block ``label-free, real`` of the bundle's ``docs/results.json``.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.bundles import get_bundle
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.detection import average_precision
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference.loader import load_network, load_predictor
from promptzoo.inference.picture import Picture
from promptzoo.training.self_training import ITERATIONS, self_trained

MODULE = "python -m promptzoo.cli.maintain.measure_self_training"
TEACHER = "attriprompter"
SEED = 0


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure detection without labels.")
    parser.add_argument("bundle")
    parser.add_argument("datalist")
    parser.add_argument("--match", default="dsb2018", help="part of the ids or paths of the pictures")
    parser.add_argument("--text", default="nucleus")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    source = Datalist.read(options.datalist, match=options.match)
    cases = [source.load(row) for row in source.rows]
    volumes = [case.volume for case in cases]
    plain, teacher = (load_predictor(info.path, "torch", variant=name) for name in (None, TEACHER))
    found = {"plain name": score(plain, cases, options.text), "sorted captions": score(teacher, cases, options.text)}
    network, parser_ = load_network(info)
    inferer = parser_.get_parsed_content("inferer")
    even, odd = list(range(0, len(cases), 2)), list(range(1, len(cases), 2))
    for name, splits in (("student, same pictures", [(even + odd, even + odd)]),
                         ("student, other pictures", [(even, odd), (odd, even)])):
        seeds = []
        for seed in range(options.seeds):
            boxes: list[Any] = [None] * len(cases)
            for learned, asked in splits:
                student, _ = self_trained(network, teacher, [volumes[n] for n in learned], options.text, seed=seed)
                predictor = inferer.predictor(inferer.wrap(student))
                for n in asked:
                    boxes[n] = predictor.find(predictor.encode(volumes[n]), options.text)[0]
            seeds.append(_precision(boxes, cases))
            print(json.dumps({name: seeds[-1], "seed": seed}), flush=True)
        found[name] = {"n": len(cases),
                       **{key: round(float(np.mean([one[key] for one in seeds])), 4) for key in seeds[0]},
                       "AP50 deviation": round(float(np.std([one["AP50"] for one in seeds])), 4), "seeds": len(seeds)}
    place = Path(info.path / "docs" / "results.json")
    content = json.loads(place.read_text())
    command = f"{MODULE} {info.name} datalist.csv --match {options.match} --text {options.text} --seeds {options.seeds}"
    content["label-free, real"] = {"command": command, "engine": "torch", "iterations": ITERATIONS, "measured": found,
                                   "hardware": hardware(), "versions": versions()}
    place.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


def score(predictor: Any, cases: Sequence[Case], text: str) -> dict[str, Any]:
    """AP of what a predictor finds by a text, see :func:`promptzoo.evaluation.detection.average_precision`."""
    found = [predictor.find(predictor.encode(case.volume), text)[0] for case in cases]
    return {"n": len(cases), **_precision(found, cases)}


def boxes_of_mask(case: Case) -> np.ndarray:
    """``[n, 4]`` boxes ``x0, y0, x1, y1`` in pixels of the shown picture around the connected parts of a mask."""
    shown = Picture.of(Volume(case.mask.astype(np.float32) * 255, case.grid, {"format": "raster"})).rgb[..., 0] > 0.5
    places = ndimage.find_objects(ndimage.label(shown)[0])
    return np.array([(x.start, y.start, x.stop, y.stop) for y, x in places], float).reshape(-1, 4)


def _precision(found: Sequence[Any], cases: Sequence[Case]) -> dict[str, float]:
    truth = [boxes_of_mask(case) for case in cases]
    told = average_precision([(one.boxes, np.zeros(len(one), int), one.scores) for one in found],
                             [(one, np.zeros(len(one), int)) for one in truth], ["object"])
    return {name: round(told[name], 4) for name in ("AP", "AP50", "AP75")}


if __name__ == "__main__":
    sys.exit(main())
