"""Many captions from few attributes, and the most relevant of them (AttriPrompter, Wu et al., IEEE TMI 2024).

The paper asks a question answerer for the colour and the shape of what it sees, multiplies the answers by synonyms and
degrees, sorts the prompts by how well they fit, and detects with the best. Here nouns stand for synonyms and the tones
*bright* and *dark* for degrees; a caption is as relevant as the boxes that it finds are sure.
"""
from __future__ import annotations

from itertools import product
from typing import Mapping, Sequence

import numpy as np

from promptzoo.data.synthesis.attribute_words import TONES

MOST_SURE = 20
"""Boxes whose scores say how relevant a caption is."""

LEAST = 1e-3
"""Relevance of a caption that finds nothing."""


def combined(choices: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every choice of a tone or none and a word of each attribute.

    Args:
        choices: words by attribute; attributes without words are left out.
    """
    free = {"tone": ("", *TONES), **{name: tuple(words) for name, words in choices.items() if words}}
    return [{name: word for name, word in zip(free, chosen) if word} for chosen in product(*free.values())]


def relevance(scores: np.ndarray) -> float:
    """Mean of the best :data:`MOST_SURE` scores of the boxes that a caption finds; above 0 also for none."""
    return float(np.sort(scores)[::-1][:MOST_SURE].mean()) + LEAST if len(scores) else LEAST


def sorted_captions(phrases: Sequence[str], fits: Sequence[float], k: int) -> list[tuple[str, float]]:
    """The ``k`` phrases that fit best, best first, with how well they do; the earlier one of equals."""
    order = sorted(range(len(phrases)), key=lambda n: -fits[n])[:k]
    return [(phrases[n], float(fits[n])) for n in order]
