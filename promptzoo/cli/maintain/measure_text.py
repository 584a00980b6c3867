"""Measure text-driven volume networks on phantoms: ``python -m promptzoo.cli.maintain.measure_text BUNDLE
[--variant NAME]``.

On torsos that no training saw: Dice of large structures, what is said of structures that were taken out, and what is
special about a variant: estimates of the Dice, findings, images of PET, a class that is learned. A block goes to
``docs/results.json``, with the command that repeats it.
"""
from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from promptzoo.cli.maintain.text_measures import (
    HELD_OUT,
    LARGE,
    OTHERS,
    agreement,
    body,
    findings,
    found,
    judged,
    missed,
    slab,
)
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference import load_predictor
from promptzoo.inference.class_heads import ClassHeadPredictor
from promptzoo.inference.text_quality import QualityPredictor
from promptzoo.training.teachers import VolumeTeacher, teacher_for

MODULE = "python -m promptzoo.cli.maintain.measure_text"


def measured(info: BundleInfo, variant: str | None, limit: int, imaging: str) -> dict[str, Any]:
    """All that can be measured of a variant, or of the bundle."""
    predictor: Any = load_predictor(info.path, "torch", variant=variant)
    bodies = [body(HELD_OUT + n, ("uterus", "spleen"), imaging) for n in range(limit)]
    told: dict[str, Any] = {"large structures": found(predictor, bodies)}
    if not imaging:
        told["taken out"] = missed(predictor, max(1, limit // 2))
    if imaging == "ct":
        told["findings"] = findings(predictor, limit)
    if isinstance(predictor, QualityPredictor):
        for title, names in (("large structures", LARGE), ("other structures", OTHERS)):
            told[f"estimated Dice, {title}"] = agreement(list(judged(predictor, bodies, names)))
    if isinstance(predictor, ClassHeadPredictor) and info.block["extra"].get("learns") == variant:
        teacher = teacher_for(info, "torch", 0, variant)
        if isinstance(teacher, VolumeTeacher):
            told["muscle, learned"] = teacher.held_out("muscle", [
                (str(n), *slab(HELD_OUT + 100 + n, "muscle")) for n in range(2 * limit)])
    return told


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure text-driven volume networks on phantoms.")
    parser.add_argument("bundle")
    parser.add_argument("--variant", help="default: the bundle as it is")
    parser.add_argument("--imaging", default="", choices=("", "ct", "pet"),
                        help="CT (default), CT with findings, or PET")
    parser.add_argument("--limit", type=int, default=3, help="bodies")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    told = measured(info, options.variant, options.limit, options.imaging)
    shown = "".join(f" --{key} {value}" for key, value in vars(options).items() if value and key != "bundle")
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text()) if place.is_file() else {}
    kind = {"": "CT", "ct": "CT with findings", "pet": "PET"}[options.imaging]
    results[f"phantoms in {kind}, {options.variant or info.name}"] = {
        "command": f"{MODULE} {info.name}{shown}", **told, "hardware": hardware(), "versions": versions()}
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
