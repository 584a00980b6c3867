"""Questions about procedural scenes and their answers."""
from __future__ import annotations

from typing import Sequence

import numpy as np

from promptzoo.data.synthesis.attribute_words import GROUPS, NOUNS, Described, group_of, match, phrase_for, tokens

ASKED = ("colour", "shape", "texture", "size", "location")
"""What is asked about."""
ANSWERS = tuple(word for group in ASKED for word in GROUPS[group])
"""Every answer there is."""

SPOKEN = {"colour": "color", "shape": "shape", "texture": "texture", "size": "size", "location": "place"}
WAYS = ("What {what} are the {name}?", "Which {what} has the {name}?", "The {what} of the {name}?",
        "Tell me the {what} of this {name}.", "What is the {what} of this {name}?")
HELD_OUT_WAYS = ("Please say which {what} these {name} are.", "{name}: what {what}?",
                 "I would like to know the {what} of the {name}.")
"""Ways of asking that no training sees."""


def asked_name(name: str, attribute: str) -> str:
    """A name without the words that answer the question themselves: of "white blood cell" the colour is asked as that
    of a "blood cell"; the name as it is if nothing is left."""
    return " ".join(word for word in tokens(name) if group_of(word) != attribute) or name


def question(rng: np.random.Generator, objects: Sequence[Described]) -> tuple[str, str, np.ndarray] | None:
    """A question about a scene.

    Names are nouns, "object", or phrases with words of other attributes; what they mean must be beyond doubt.

    Args:
        rng: of all draws.
        objects: of the scene.

    Returns:
        The attribute, the name asked about, and the share of each of :data:`ANSWERS` among the objects meant; None
        where nothing can be asked.
    """
    if not objects:
        return None
    attribute, one = str(rng.choice(ASKED)), objects[int(rng.integers(len(objects)))]
    draw = rng.random()
    nouns = [word for words in NOUNS.values() for word in words if word in one.true]
    name = "object" if draw < 0.2 else str(rng.choice(nouns)) if draw < 0.5 and nouns else phrase_for(rng, one)
    name = asked_name(name, attribute)
    if group_of(name) == attribute:
        name = "object"
    meant = match(name, objects)
    told = [objects[n] for n in np.flatnonzero(meant == 1)]
    counts = np.array([sum(word in each.true for each in told) if word in GROUPS[attribute] else 0
                       for word in ANSWERS], float)
    return (attribute, name, counts / counts.sum()) if counts.sum() and not (meant == -1).any() else None


def commonest(shares: np.ndarray) -> np.ndarray:
    """Which answers are right: the commonest among the objects meant, ``[answers]`` bool."""
    return shares >= shares.max() - 1e-6
