"""Measure the learned prompts of frozen segmenters: ``python -m promptzoo.cli.maintain.measure_prompts``.

On held-out procedural slices and radiographs, for the variants ``ffpt``, ``saeed-hn-prompt`` and ``tunevlseg`` of
``prompt_tuned_seg``: mean Dice with the prompts, and without them. Writes ``docs/results.json``.
"""
from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from typing import Any

import numpy as np
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.data.synthesis.sequences import BRAIN, CENTRES
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference.loader import load_network
from promptzoo.training.sentences import SentenceScenes, mean_dice
from promptzoo.training.sequences import SequenceScenes
from promptzoo.training.tuned_sentences import OtherDevice

MODULE, BUNDLE = "python -m promptzoo.cli.maintain.measure_prompts", "prompt_tuned_seg"
HELD_OUT = 880_051
"""No training uses this seed."""


def slices(count: int, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Held-out slices ``[count, C, S, S]`` and their tumours ``[count, 1, S, S]``; arguments of
    :class:`promptzoo.training.sequences.SequenceScenes`."""
    scenes = [SequenceScenes(count, seed=HELD_OUT, **named)[n] for n in range(count)]
    return torch.cat([one["image"] for one in scenes]), torch.cat([one["label"] for one in scenes])


def missing_sequences(network: Any, count: int) -> dict[str, list[float]]:
    """Mean Dice per set of sequences that are left: with the prompts, with zeros, and with the mean of what is there in
    the place of the others."""
    image, label = slices(count)
    found = {}
    with torch.inference_mode():
        for there in product((0.0, 1.0), repeat=len(BRAIN)):
            if not 0 < sum(there) < len(BRAIN):
                continue
            kept = torch.tensor(there).expand(count, len(BRAIN))
            gap = 1 - kept[..., None, None]
            zero = image * (1 - gap)
            average = zero + gap * zero.sum(1, keepdim=True) / sum(there)
            answers = network(zero, kept), network.segment(zero), network.segment(average)
            found["+".join(name for name, one in zip(BRAIN, there) if one)] = [mean_dice(one, label)
                                                                               for one in answers]
    return found


def centres(network: Any, count: int) -> dict[str, list[float]]:
    """Mean Dice per centre: with the tokens, and without."""
    found = {}
    for number, centre in enumerate(CENTRES):
        image, label = slices(count, kind="neck", centre=number)
        with torch.inference_mode():
            with_tokens = mean_dice(network(image), label)
            network.prompted = False
            found[centre.name] = [with_tokens, mean_dice(network(image), label)]
            network.prompted = True
    return found


def devices(network: Any, count: int) -> dict[str, list[float]]:
    """Mean Dice of sentences on radiographs of the other and of the usual device: with the prompts, and without."""
    found = {}
    for name, kind in (("other", OtherDevice), ("usual", SentenceScenes)):
        scenes, scores = kind(count, sentences=2, size=160, seed=HELD_OUT), []
        for n in range(count):
            item, row = scenes[n], []
            for prompted in (True, False):
                network.learner.prompted = prompted
                with torch.inference_mode():
                    maps = [one.repeat_interleave(2, 0) for one in network.image_encoder(item["image"])[:3]]
                    row.append(mean_dice(network.decode(item["bags"], *maps), item["label"]))
            scores.append(row)
        network.learner.prompted = True
        found[name] = np.mean(scores, 0).tolist()
    return found


MEASURES = {"ffpt": missing_sequences, "saeed-hn-prompt": centres, "tunevlseg": devices}


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure learned prompts of frozen segmenters.")
    parser.add_argument("--limit", type=int, default=24, help="slices or radiographs")
    options = parser.parse_args(arguments)
    info = get_bundle(BUNDLE)
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text())
    for variant, measure in MEASURES.items():
        found = measure(load_network(info, variant)[0], options.limit)
        if variant == "ffpt":
            found["mean"] = np.mean(list(found.values()), 0).tolist()
        results[f"prompts, {variant}"] = {
            "command": f"{MODULE} --limit {options.limit}", "n": options.limit,
            "columns": ["prompts", *(["zeros", "mean of the others"] if variant == "ffpt" else ["none"])],
            **{name: np.round(row, 4).tolist() for name, row in found.items()},
            "hardware": hardware(), "versions": versions()}
        print(json.dumps({variant: results[f"prompts, {variant}"]}), flush=True)
    place.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
