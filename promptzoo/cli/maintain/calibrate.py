"""Fit the map from a bundle's raw Dice estimate to expected Dice: ``scripts/calibrate_bundle BUNDLE DATALIST``.

Isotonic regression (Zadrozny and Elkan, KDD 2002) over all steps of the click and box protocols, on rows of some
licence classes only, so that the rows on which the calibration is reported can be others; rows of class ``open`` are no
choice for weights that were trained on them. Writes ``calibration`` of the inferer in ``configs/inference.json``.
"""
from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from promptzoo.core.bundles import BundleInfo, get_bundle, read_json
from promptzoo.core.errors import BundleError, PromptZooError, complain
from promptzoo.training.real import LICENCE_COLUMN

KNOTS = 9
UNSEEN = ("open-repo", "open-upstream", "open-terms")
"""Licence classes that the shipped weights are calibrated on; they are not trained on them."""


def fit(estimated: Sequence[float], dice: Sequence[float], knots: int = KNOTS) -> dict[str, list[float]]:
    """An increasing piecewise linear map through the isotonic fit, at quantiles of the estimates.

    Args:
        estimated: raw estimates.
        dice: true Dice of the same answers.
        knots: support points.

    Returns:
        ``{"estimated": [...], "dice": [...]}``, both increasing.

    Raises:
        BundleError: for fewer than 50 pairs.
    """
    if len(estimated) < 50 or len(estimated) != len(dice):
        raise BundleError(complain("pairs to calibrate on", len(estimated), "at least 50", "Use more cases"))
    order = np.argsort(estimated)
    x, y = np.asarray(estimated, float)[order], np.asarray(dice, float)[order]
    smooth = isotonic_regression(y).x
    edges = np.linspace(0, len(x), knots + 1).astype(int)
    points = [(float(x[a:b].mean()), float(smooth[a:b].mean())) for a, b in zip(edges[:-1], edges[1:]) if b > a]
    kept = [points[0]]
    for at, value in points[1:]:
        if at > kept[-1][0] + 1e-4:
            kept.append((at, max(value, kept[-1][1])))
    return {"estimated": [round(a, 4) for a, _ in kept], "dice": [round(v, 4) for _, v in kept]}


def calibrate(info: BundleInfo, datalist: str, licence_classes: Sequence[str] = UNSEEN, limit: int | None = None,
              engine: str = "auto") -> dict[str, list[float]]:
    """Measure a bundle on the rows of some licence classes and write its calibration; see :func:`fit`."""
    from promptzoo.evaluation.bench import run_bench
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.inference import load_predictor

    with open(datalist, newline="", encoding="utf-8-sig") as stream:
        wanted = {row["id"] for row in csv.DictReader(stream) if row.get(LICENCE_COLUMN) in licence_classes}
    listed = Datalist.read(datalist, slices="largest" if info.dimensions == 2 else None, max_components=3,
                           tasks=None if info.dimensions == 2 else ("seg3d", "seg"))
    listed = Datalist(tuple(row for row in listed.rows if row.id in wanted), listed.ignored, listed.slices,
                      listed.max_components, listed.min_voxels, listed.path)
    predictor = load_predictor(info.path, engine)
    predictor.calibration = None  # type: ignore[attr-defined]
    estimated: list[float] = []
    dice: list[float] = []
    for protocol, clicks in (("clicks", 5), ("box+clicks", 3)):
        for case in run_bench(listed, predictor, protocol, clicks, limit=limit)["cases"]:
            estimated += case["estimated_dice"]
            dice += case["dice"]
    found = fit(estimated, dice)
    place = info.path / "configs" / "inference.json"
    config = read_json(place)
    config["inferer"]["calibration"] = found
    place.write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of ``scripts/calibrate_bundle``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="calibrate_bundle", description=__doc__)
    parser.add_argument("bundle", help="name or path of the bundle")
    parser.add_argument("datalist", help="CSV of cases with a column licence_class")
    parser.add_argument("--licence-class", action="append", default=[],
                        help=f"rows to fit on; may be repeated; without it {', '.join(UNSEEN)}")
    parser.add_argument("--limit", type=int, default=None, help="at most this many cases")
    parser.add_argument("--engine", default="auto", help="engine to measure with")
    asked = parser.parse_args(argv)
    try:
        found = calibrate(get_bundle(asked.bundle), str(Path(asked.datalist)), asked.licence_class or UNSEEN,
                          asked.limit, asked.engine)
    except PromptZooError as error:
        print(f"calibrate_bundle: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
