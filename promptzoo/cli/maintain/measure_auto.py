"""Measure a bundle that finds its objects by itself:
``python -m promptzoo.cli.maintain.measure_auto BUNDLE [--datalist CSV --label NAME]``.

Writes one block per variant into ``docs/results.json``, each with the command that repeats it.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.evaluation.automatic import automatic, listed_scenes, oracle, procedural_scenes
from promptzoo.evaluation.summary import hardware, versions

MODULE = "python -m promptzoo.cli.maintain.measure_auto"


def measure(info: BundleInfo, variant: str | None, options: argparse.Namespace) -> dict[str, Any]:
    """The block of one variant, or of the oracle for the variant ``oracle``."""
    from promptzoo.inference import load_predictor

    name = info.label["labels"][0]
    plain = variant in (None, "oracle")
    predictor = load_predictor(info.path, options.engine, "auto", None if plain else variant)
    told = [MODULE, info.name, "--variants", variant or "default", "--engine", options.engine]
    started = time.perf_counter()
    if options.datalist:
        scenes = list(listed_scenes(options.datalist, options.label, options.limit))
        told += ["--datalist", "index.csv", "--label", options.label, "--limit", str(options.limit)]
        tally = oracle(predictor, scenes) if variant == "oracle" else automatic(predictor, scenes, name)
        found = {"real": tally.summary(apart=False)
                 | {"cases": {s.name: round(d, 4) for s, d in zip(scenes, tally.dice)}}}
    else:
        scenes = procedural_scenes(options.limit, options.size)
        told += ["--limit", str(options.limit), "--size", str(options.size)]
        tally = oracle(predictor, scenes) if variant == "oracle" else automatic(predictor, scenes, name)
        found = {"procedural": tally.summary()}
        if variant != "oracle":
            blank = automatic(predictor, procedural_scenes(options.limit, options.size, empty=True), name)
            found["without target"] = {"n": len(blank.dice), "false_objects": sum(blank.found),
                                       "images_with_false_objects": sum(n > 0 for n in blank.found)}
    spent = round((time.perf_counter() - started) / max(len(scenes), 1), 2)
    return {"command": " ".join(told), "engine": predictor.engine, **found, "seconds_per_image": spent,
            "hardware": hardware(), "versions": versions()}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure automatic prompts.")
    parser.add_argument("bundle")
    parser.add_argument("--variants", default="all", help="names, default, oracle, or all (default)")
    parser.add_argument("--datalist", default="", help="CSV; without one procedural images are made")
    parser.add_argument("--label", default="nuclei", help="label name of the datalist's rows")
    parser.add_argument("--limit", type=int, default=12, help="images")
    parser.add_argument("--size", type=int, default=192, help="side of procedural images in pixels")
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    names = ["default", "oracle", *info.variants()] if options.variants == "all" else options.variants.split(",")
    place = info.path / "docs" / "results.json"
    for name in names:
        block = measure(info, None if name == "default" else name, options)
        results = json.loads(place.read_text()) if place.is_file() else {}
        results[f"{name}, {'real' if options.datalist else 'procedural'}"] = block
        place.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({name: block.get("real", block.get("procedural")), "blank": block.get("without target")}),
              flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
