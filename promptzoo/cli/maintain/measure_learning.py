"""Measure how a bundle learns structures: ``python -m promptzoo.cli.maintain.measure_learning BUNDLE DATALIST
--set NAME=MATCH …``.

Sets of eight cases or more give Dice on held-out cases after 1, 3, 8 cases; smaller ones are learned leaving one out.
``--select NAME`` compares two ways to choose which cases to label: those on which the sets of tokens disagree most, and
random ones, from the same start and with the same budget, over three seeds. Blocks go to ``docs/results.json``, each
with the command that repeats it.
"""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from promptzoo.core.bundles import get_bundle
from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference.learned import disagreement
from promptzoo.networks.prompt_tuned import LearnedPrompt
from promptzoo.training.prompt_tuning import Encode, Learning, Taught, dice_on, held_out, learn_prompt, view_of

MODULE = "python -m promptzoo.cli.maintain.measure_learning"
COUNTS, TESTS, START, BUDGET, SEEDS = (1, 3, 8), 6, 2, 3, 3


def curve(encode: Encode, cases: Sequence[Taught], settings: Learning) -> dict[str, Any]:
    """Dice on cases held out, after few and after more cases."""
    if len(cases) < 8:
        return {"leave one out": held_out(encode, cases, settings, len(cases))}
    tests, found = cases[-TESTS:], {}
    for count in (n for n in COUNTS if n <= len(cases) - TESTS):
        learned = learn_prompt(encode, cases[:count], settings)
        scores = [dice_on(encode, learned.prompt, case, settings.window) for case in tests]
        found[str(count)] = {"dice": round(float(np.mean(scores)), 4), "dice_least": round(min(scores), 4),
                             "n": len(scores), "seconds": round(learned.seconds, 1)}
    return found


def unsure(encode: Encode, prompt: LearnedPrompt, case: Taught, window: int) -> float:
    """How little the sets of tokens agree on a case."""
    import torch

    answers = []
    for image, mask in zip(case.image, case.mask):
        view = view_of(image, mask, case.spacing, case.hounsfield, window, None)[0]
        with torch.inference_mode():
            maps = [torch.from_numpy(np.asarray(part, np.float32)) for part in encode(view[None, None])[:3]]
            answers.append(prompt(*maps)[0].numpy())
    return disagreement(answers)


def selection(encode: Encode, cases: Sequence[Taught], settings: Learning) -> dict[str, Any]:
    """Dice on held-out cases after a start and a budget of cases, chosen by disagreement and at random."""
    from scipy.stats import spearmanr

    tests, pool, found = cases[-TESTS:], list(cases[:-TESTS]), []
    for seed in range(SEEDS):
        own = replace(settings, seed=seed)
        order = generator(seed, 0x5E1).permutation(len(pool))
        first, rest = [pool[n] for n in order[:START]], [pool[n] for n in order[START:]]
        begun = learn_prompt(encode, first, own).prompt
        doubts = [unsure(encode, begun, case, own.window) for case in rest]
        truth = [dice_on(encode, begun, case, own.window) for case in rest]
        most = [rest[n] for n in np.argsort(doubts)[::-1][:BUDGET]]
        scores = {"start": begun}
        for name, chosen in (("by disagreement", most), ("random", rest[:BUDGET])):
            scores[name] = learn_prompt(encode, first + chosen, own).prompt
        dice = {name: round(float(np.mean([dice_on(encode, prompt, case, own.window) for case in tests])), 4)
                for name, prompt in scores.items()}
        found.append({**dice, "spearman of disagreement and Dice": round(float(spearmanr(doubts, truth)[0]), 3)})
        print(json.dumps(found[-1]), flush=True)
    means = {name: round(float(np.mean([one[name] for one in found])), 4) for name in found[0]}
    return {"start": START, "budget": BUDGET, "pool": len(pool), "tests": len(tests), "seeds": found, "mean": means}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    from promptzoo.inference import load_predictor

    parser = argparse.ArgumentParser(prog=MODULE, description="Measure learning from few cases.")
    parser.add_argument("bundle")
    parser.add_argument("datalist", help="CSV of cases")
    parser.add_argument("--set", action="append", required=True, help="NAME=MATCH: a structure and its rows")
    parser.add_argument("--select", default="", help="name of the set on which ways to choose cases are compared")
    options = parser.parse_args(arguments)
    info = get_bundle(options.bundle)
    predictor: Any = load_predictor(info.path)
    place = info.path / "docs" / "results.json"
    for entry in options.set:
        name, _, match = entry.partition("=")
        source = Datalist.read(options.datalist, match=match)
        loaded = [source.load(row) for row in source.rows]
        cases = [Taught.of(case.row.id, case.volume, case.mask) for case in loaded if case.mask.any()]
        selecting = options.select == name
        found = (selection if selecting else curve)(predictor.parts.encode, cases, Learning())
        told = f"{MODULE} {info.name} index.csv --set {entry}" + (f" --select {name}" if selecting else "")
        results = json.loads(place.read_text()) if place.is_file() else {}
        results[f"{'selecting' if selecting else 'learning'} {name}"] = {
            "command": told, "engine": predictor.engine, "cases": len(cases), **found, "hardware": hardware(),
            "versions": versions()}
        place.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({name: found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
