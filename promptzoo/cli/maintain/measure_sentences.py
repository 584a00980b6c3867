"""Measure a bundle that reads sentences: ``python -m promptzoo.cli.maintain.measure_sentences BUNDLE [--limit N]``.

Writes a block into ``docs/results.json``, with the command that repeats it: what sentences do to masks, or, for a
variant that takes none, what attributes do.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from promptzoo.core.bundles import get_bundle
from promptzoo.evaluation.sentences import measure_attributes, measure_sentences, sentence_scenes
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.prompts.types import AttributePrompt, PromptSet, TextPrompt

MODULE = "python -m promptzoo.cli.maintain.measure_sentences"
SHARES = "retrieved "
"""Beginning of the names of shares of right clauses; everything else about sentences is Dice."""


def edit_seconds(predictor: Any, volume: Any, text: bool) -> float:
    """Median time of an edit on an image that was encoded, of 15."""
    state, times = predictor.encode(volume), []
    edit = PromptSet((TextPrompt("upper left lung") if text else AttributePrompt("size", "small"),))
    predictor.decode(state, edit)
    for _ in range(15):
        started = time.perf_counter()
        predictor.decode(state, edit)
        times.append(time.perf_counter() - started)
    return round(float(np.median(times)), 4)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure what sentences do to masks.")
    parser.add_argument("bundle")
    parser.add_argument("--variant", help="default: the bundle as it is")
    parser.add_argument("--limit", type=int, default=40, help="images")
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args(arguments)
    from promptzoo.inference import load_predictor

    info = get_bundle(options.bundle)
    predictor = load_predictor(info.path, options.engine, variant=options.variant)
    text = "text" in predictor.prompt_kinds
    scenes = sentence_scenes(options.limit, numbers=(2, 4) if text else (1, 3))
    found = (measure_sentences if text else measure_attributes)(predictor, scenes)
    means = {name: round(float(np.mean(values)), 4) for name, values in found.items()}
    told: dict[str, Any] = {"attributes": means} if not text else {
        "dice": {name: value for name, value in means.items() if not name.startswith(SHARES)},
        "retrieval": {name.removeprefix(SHARES): value for name, value in means.items() if name.startswith(SHARES)}}
    chosen = f" --variant {options.variant}" if options.variant else ""
    block = {"command": f"{MODULE} {info.name}{chosen} --limit {options.limit} --engine {options.engine}",
             "engine": predictor.engine, "n": len(scenes), **told,
             "seconds_of_an_edit_p50": edit_seconds(predictor, scenes[0].volume, text),
             "hardware": hardware(), "versions": versions()}
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text()) if place.is_file() else {}
    results[f"{options.variant or 'sentences'}, procedural"] = block
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({**told, "seconds_of_an_edit_p50": block["seconds_of_an_edit_p50"]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
