"""Measure a bundle that is told records: ``python -m promptzoo.cli.maintain.measure_records BUNDLE [--variant NAME]``.

Writes a block per study into ``docs/results.json``, with the command that repeats it.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from promptzoo.core.bundles import get_bundle
from promptzoo.data.synthesis.clinical import TARGETS, scenes
from promptzoo.evaluation.clinical import asked, flat, measure_records, studies_of
from promptzoo.evaluation.summary import hardware, versions

MODULE = "python -m promptzoo.cli.maintain.measure_records"


def edit_seconds(predictor: Any, study: str) -> float:
    """Median time of another record on an image that was encoded, of 15."""
    targets = TARGETS[study]
    state, times = predictor.encode(flat(scenes(1, study)[0].image)), []
    asked(predictor, state, targets[0])
    for n in range(15):
        started = time.perf_counter()
        asked(predictor, state, targets[n % len(targets)])
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)), 4)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure what records do to masks.")
    parser.add_argument("bundle")
    parser.add_argument("--variant", help="default: the bundle as it is")
    parser.add_argument("--study", help="one kind of study; default: all")
    parser.add_argument("--limit", type=int, default=40, help="images per study")
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args(arguments)
    from promptzoo.inference import load_predictor

    info = get_bundle(options.bundle)
    predictor = load_predictor(info.path, options.engine, variant=options.variant)
    chosen = f" --variant {options.variant}" if options.variant else ""
    chosen += f' --study "{options.study}"' if options.study else ""
    studies = [options.study] if options.study else studies_of(predictor)
    block = {"command": f"{MODULE} {info.name}{chosen} --limit {options.limit} --engine {options.engine}",
             "engine": predictor.engine, "n": options.limit,
             "studies": {study: measure_records(predictor, study, options.limit) for study in studies},
             "seconds_of_an_edit_p50": edit_seconds(predictor, studies[0]),
             "hardware": hardware(), "versions": versions()}
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text()) if place.is_file() else {}
    results[f"{options.variant or 'records'}, procedural"] = block
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({key: block[key] for key in ("studies", "seconds_of_an_edit_p50")}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
