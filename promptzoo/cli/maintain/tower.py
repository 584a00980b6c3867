"""Train and measure the text tower of the package: ``python -m promptzoo.cli.maintain.tower``.

Writes ``tower.safetensors`` and ``results.json`` beside it. The shipped weights are trained without the words that are
measured: one synonym and one everyday word of about a third of the concepts; ``held_out`` names them.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any, Mapping, Sequence

from promptzoo.core.bundles import read_json
from promptzoo.core.seeding import generator
from promptzoo.text.lexicon import Lexicon
from promptzoo.text.towers import NgramTower, TextTower
from promptzoo.text.towers.ngrams import WEIGHTS

TYPO_SEED = 77
"""Of the typing errors that are measured; training draws others."""


def measure(tower: TextTower, held: Mapping[str, Mapping[str, str]], seed: int = 0) -> dict[str, Any]:
    """How well a tower finds concepts.

    Args:
        tower: what is measured.
        held: the words that it was not trained on: by kind, ids of concepts by phrase.
        seed: of the typing errors.
    """
    from promptzoo.evaluation.text_retrieval import plain, retrieval
    from promptzoo.text.typos import mistyped
    from promptzoo.training.text_tower import without

    lexicon = Lexicon.load()
    parts = without(lexicon, {kind: tuple(pairs.items()) for kind, pairs in held.items()})
    rng = generator(seed, TYPO_SEED)
    synonyms = parts.held["synonyms"]
    queries = {"held_out_synonyms": synonyms, "held_out_everyday_words": parts.held["everyday"],
               "names_with_one_typing_error": plain(lexicon.concepts, lambda n: mistyped(n, rng, 1)),
               "names_with_two_typing_errors": plain(lexicon.concepts, lambda n: mistyped(n, rng, 2)),
               "held_out_synonyms_with_one_typing_error": [(mistyped(t, rng), i) for t, i in synonyms]}
    return {**retrieval(tower, lexicon, parts.train, queries),
            "phrases_in_the_index": sum(map(len, parts.train.values()))}


def untrained(buckets: int = 8192, dim: int = 512) -> NgramTower:
    """The same n-grams with random vectors and no network: what spelling alone gives."""
    import numpy as np

    rng = generator(5)
    table = rng.standard_normal((buckets, dim)).astype(np.float32)
    eye = np.eye(dim, dtype=np.float32)
    return NgramTower({"table": table, "hidden.weight": np.concatenate([eye, -eye]), "hidden.bias": np.zeros(2 * dim),
                       "out.weight": np.concatenate([eye, -eye], 1), "out.bias": np.zeros(dim)}, "untrained")


def speed(tower: NgramTower, repeats: int = 400) -> float:
    """Median milliseconds for one phrase, cold features included once."""
    phrases = [c.name for c in Lexicon.load().concepts][:repeats]
    seconds = []
    for phrase in phrases:
        started = time.perf_counter()
        tower([phrase])
        seconds.append(time.perf_counter() - started)
    return round(sorted(seconds)[len(seconds) // 2] * 1000, 3)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tower", description=__doc__)
    parser.add_argument("--steps", type=int, default=1800, help="optimiser steps")
    parser.add_argument("--seed", type=int, default=0, help="of everything")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="folder for weights and results")
    parser.add_argument("--only-measure", action="store_true", help="measure the weights that are there")
    asked = parser.parse_args(argv)
    place = asked.out / WEIGHTS.name
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.only_measure:
        before = read_json(asked.out / "results.json")
        held, command = before["held_out"], before["command"]
    else:
        held, command = _train(asked.steps, asked.seed, place), _command(asked.steps, asked.seed)
    tower = NgramTower.load(place)
    told = {"command": command,
            "note": "The weights are trained without the held-out words; the numbers are of these weights.",
            "sha256": hashlib.sha256(place.read_bytes()).hexdigest(), "bytes": place.stat().st_size,
            "dim": tower.dim, "ms_per_phrase": speed(tower),
            "tower": measure(tower, held, asked.seed), "untrained_ngrams": measure(untrained(), held, asked.seed),
            "held_out": held}
    (asked.out / "results.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({k: told[k] for k in ("tower", "untrained_ngrams", "ms_per_phrase", "bytes")}, indent=1))
    return 0


def _command(steps: int, seed: int) -> str:
    return f"python -m promptzoo.cli.maintain.tower --steps {steps} --seed {seed}"


def _train(steps: int, seed: int, place: Path) -> dict[str, dict[str, str]]:
    """Train and write the weights; returns the words that were held out."""
    import torch
    from safetensors.numpy import save_file

    from promptzoo.training.text_tower import split, train

    torch.set_num_threads(1)
    lexicon = Lexicon.load()
    started = time.monotonic()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step} of {steps}: loss {loss:.3f}, {time.monotonic() - started:.0f} s", file=sys.stderr,
                  flush=True)

    parts = split(lexicon, seed)
    tensors = train(lexicon, parts, steps, seed=seed, report=report)
    save_file(tensors, place, {"name": f"promptzoo-{seed}-{steps}"})
    return {kind: dict(pairs) for kind, pairs in parts.held.items()}


if __name__ == "__main__":
    sys.exit(main())
