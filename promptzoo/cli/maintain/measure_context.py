"""Measure what finished cases save: ``python -m promptzoo.cli.maintain.measure_context BUNDLE DATALIST
--set NAME=MATCH …``.

Clicks to a Dice of 0.90 with 0, 1, 2, 4, 8 and 16 finished cases as context (Wong et al., "MultiverSeg", ICCV 2025,
section 4). Each case of a set is segmented once per size of the context, beside the same other cases in the same order,
so that all sizes are paired by patient. Without context the first click starts; with context its answer does, and
clicks follow at the deepest point of the largest error, as in ``promptzoo bench``. A case that does not reach the Dice
counts with all clicks. With ``--selection`` instead: the Dice beside the one case that each selector
chooses among all others, against the mean over all of them and the best of them.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.cli.maintain.measure_reference import as_reference
from promptzoo.core.bundles import get_bundle
from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.protocols import Trial
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.prompts import PromptSet, ReferencePrompt

MODULE = "python -m promptzoo.cli.maintain.measure_context"
SIZES, CLICKS, TARGET, SEED = (0, 1, 2, 4, 8, 16), 20, 0.90, 11


def session(predictor: Any, case: Case, context: Sequence[ReferencePrompt], clicks: int, target: float
            ) -> tuple[float, int, float]:
    """One case: Dice before any click, clicks to the target (all of them if it is not reached), and the last Dice."""
    trial = Trial(case, predictor)
    if context:
        trial.give("context", *context)
    first = trial.dice[-1] if trial.dice else 0.0
    given = 0
    while given < clicks and (not trial.dice or trial.dice[-1] < target):
        given += 1
        if not trial.click(f"click {given}"):
            break
    reached = bool(trial.dice) and trial.dice[-1] >= target
    return first, given if reached else clicks, trial.dice[-1]


def interval(differences: np.ndarray, draws: int = 2000) -> list[float]:
    """Bootstrap interval of 95 % of the mean of paired differences ``[n]``."""
    means = differences[generator(SEED).integers(len(differences), size=(draws, len(differences)))].mean(1)
    return [round(float(one), 3) for one in np.percentile(means, (2.5, 97.5))]


def measure(predictor: Any, cases: Sequence[Case], queries: int, sizes: Sequence[int], clicks: int, target: float
            ) -> dict[str, Any]:
    """Numbers of one set, by size of the context; sizes for which there are too few cases are left out."""
    sizes = [size for size in sizes if size < len(cases)]
    found: dict[int, list[tuple[float, int, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as name:
        known = [as_reference(case, Path(name)) for case in cases]
        for n, case in enumerate(cases[:queries]):
            order = [int(m) for m in generator(SEED, n).permutation(len(cases)) if m != n]
            for size in sizes:
                found[size].append(session(predictor, case, [known[m] for m in order[:size]], clicks, target))
            print(case.row.id, {size: rows[-1] for size, rows in found.items()}, flush=True)
    alone = np.array([row[1] for row in found[sizes[0]]], float)
    block: dict[str, Any] = {"patients": len(found[sizes[0]]), "target": target, "most_clicks": clicks}
    for size, rows in found.items():
        before, count, last = (np.array(column, float) for column in zip(*rows))
        block[f"context {size}"] = {
            "dice_before_clicks": round(float(before.mean()), 4), "clicks": round(float(count.mean()), 3),
            "reached": round(float((last >= target).mean()), 3), "last_dice": round(float(last.mean()), 4)}
        if size != sizes[0]:
            block[f"context {size}"] |= {"clicks_saved": round(float((alone - count).mean()), 3),
                                         "clicks_saved_95": interval(alone - count)}
    return block


def selection(predictor: Any, cases: Sequence[Case], queries: int) -> dict[str, Any]:
    """Dice of one set beside a single case: of a random one (the mean over all), of each selector's, of the best."""
    found: dict[str, list[float]] = {name: [] for name in ("random", "learned", "nearest", "best")}
    settings = predictor.context
    with tempfile.TemporaryDirectory() as name:
        known = [as_reference(case, Path(name)) for case in cases]
        for n, case in enumerate(cases[:queries]):
            state, others = predictor.encode(case.volume), [one for m, one in enumerate(known) if m != n]

            def answered(*prompts: ReferencePrompt) -> float:
                return dice(predictor.decode(state, PromptSet(prompts)).objects[0].mask, case.mask)

            each = [answered(one) for one in others]
            found["random"].append(float(np.mean(each)))
            found["best"].append(max(each))
            for key, selector in (("learned", "meta"), ("nearest", "nearest")):
                predictor.context = replace(settings, selector=selector, most=1)
                found[key].append(answered(*others))
            predictor.context = settings
    gain = np.array(found["learned"]) - found["random"]
    return {"patients": len(gain), **{key: round(float(np.mean(values)), 4) for key, values in found.items()},
            "learned_over_random": round(float(gain.mean()), 4), "learned_over_random_95": interval(gain)}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    from promptzoo.inference import load_predictor

    parser = argparse.ArgumentParser(prog=MODULE, description="Measure what finished cases save.")
    parser.add_argument("bundle")
    parser.add_argument("datalist", help="CSV of cases")
    parser.add_argument("--set", action="append", required=True, help="NAME=MATCH: a structure and its rows")
    parser.add_argument("--queries", type=int, default=10, help="cases of a set that are segmented")
    parser.add_argument("--clicks", type=int, default=CLICKS, help="clicks at most")
    parser.add_argument("--target", type=float, default=TARGET, help="Dice that is to be reached")
    parser.add_argument("--contexts", default=",".join(map(str, SIZES)), help="sizes of the context, the first is 0")
    parser.add_argument("--variant", help="system of the bundle")
    parser.add_argument("--selection", action="store_true", help="measure the choice of a case, not clicks")
    options = parser.parse_args(arguments)
    info, blocks = get_bundle(options.bundle), {}
    predictor = load_predictor(info.path, "torch", variant=options.variant)
    for entry in options.set:
        source = Datalist.read(options.datalist, match=entry.partition("=")[2], slices="largest")
        cases = [case for case in map(source.load, source.rows) if case.mask.any()]
        sizes = [int(n) for n in options.contexts.split(",")]
        blocks[entry.partition("=")[0]] = (
            selection(predictor, cases, options.queries) if options.selection else
            measure(predictor, cases, options.queries, sizes, options.clicks, options.target))
    told = " ".join([MODULE, info.name, "index.csv", *(f"--set {entry}" for entry in options.set), "--queries",
                     str(options.queries), *(["--selection"] if options.selection else
                                             ["--contexts", options.contexts, "--clicks", str(options.clicks)]),
                     *(["--variant", options.variant] if options.variant else [])])
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text()) if place.is_file() else {}
    kind = "selection" if options.selection else "context"
    results[f"{kind}, {options.variant or 'default'}"] = {"command": told, "engine": predictor.engine, **blocks,
                                                          "hardware": hardware(), "versions": versions()}
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(blocks, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
