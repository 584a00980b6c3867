"""Words for what an object looks like, and which objects a phrase means.

A phrase is a conjunction: "large purple round cell" means the objects of which all four words are true. Words that
nobody would swear to either way (pink or purple, round or oval) are *open* for an object.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Sequence

import numpy as np

COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.02, 0.02), (0.65, 0.95), (0.55, 0.95)),
    "orange": ((0.06, 0.10), (0.65, 0.95), (0.75, 1.0)),
    "yellow": ((0.13, 0.17), (0.55, 0.95), (0.75, 1.0)),
    "green": ((0.27, 0.42), (0.45, 0.9), (0.35, 0.85)),
    "blue": ((0.56, 0.66), (0.45, 0.9), (0.4, 0.95)),
    "purple": ((0.71, 0.82), (0.3, 0.8), (0.35, 0.75)),
    "pink": ((0.9, 1.03), (0.16, 0.45), (0.75, 1.0)),
    "brown": ((0.03, 0.09), (0.45, 0.8), (0.25, 0.5)),
    "black": ((0.0, 1.0), (0.0, 0.5), (0.0, 0.12)),
    "white": ((0.0, 1.0), (0.0, 0.05), (0.9, 1.0)),
    "grey": ((0.0, 1.0), (0.0, 0.06), (0.3, 0.7)),
}
"""Hue (modulo 1), saturation and value of each colour word."""

NEAR = {"red": ("pink", "orange", "brown"), "orange": ("red", "yellow", "brown"), "yellow": ("orange",), "green": (),
        "blue": ("purple",), "purple": ("blue", "pink"), "pink": ("red", "purple", "white"),
        "brown": ("red", "orange", "black"), "black": ("grey", "brown"), "white": ("grey", "yellow"),
        "grey": ("white", "black")}
"""Colour words that are open for an object of a colour."""

SHAPES = ("round", "oval", "elongated", "square", "triangular", "irregular", "star", "ring", "crescent")
TEXTURES = ("smooth", "spotted", "striped")
SIZES = ("small", "medium", "large")
PLACES = ("left", "right", "upper", "lower", "central")
TONES = ("bright", "dark")
OPEN_SHAPES = {"round": ("oval", "irregular"), "oval": ("round", "elongated"), "elongated": ("oval",),
               "irregular": ("round", "oval"), "ring": ("round",), "crescent": ("irregular",),
               "star": ("irregular",), "square": ("irregular",), "triangular": ("irregular",)}
NOUNS = {"smear": ("cell",), "skin": ("mole", "lesion"), "endoscopy": ("polyp", "bump", "lesion"),
         "radiograph": ("nodule", "mass", "lesion"), "plain": ("object",)}
"""What objects of a kind of scene are called; everything is also an object, and a shape if it is geometric."""

SYNONYMS = {"circular": "round", "circle": "round", "disc": "round", "ellipse": "oval", "elliptical": "oval",
            "long": "elongated", "rod": "elongated", "lobulated": "irregular", "hollow": "ring", "annular": "ring",
            "violet": "purple", "gray": "grey", "tiny": "small", "little": "small", "big": "large", "huge": "large",
            "speckled": "spotted", "granular": "spotted", "uniform": "smooth", "top": "upper", "bottom": "lower",
            "centre": "central", "center": "central", "middle": "central", "shape": "object", "thing": "object",
            "dot": "small", "spot": "small", "light": "bright", "squared": "square", "triangle": "triangular",
            "growth": "lesion", "nevus": "mole", "cells": "cell", "lesions": "lesion", "polyps": "polyp",
            "nodules": "nodule", "objects": "object", "shapes": "object", "rosy": "pink"}
"""Other words for the same; a noun such as dot says the size as well."""

FILLERS = ("a", "an", "the", "of", "in", "on", "at", "with", "image", "picture", "region", "side", "colored",
           "coloured", "shaped", "that", "is", "one", "color", "colour", "part")
"""Words that say nothing."""

GROUPS = {"colour": tuple(COLOURS), "shape": SHAPES, "texture": TEXTURES, "size": SIZES, "location": PLACES,
          "tone": TONES, "noun": ("cell", "mole", "lesion", "polyp", "bump", "nodule", "mass", "object")}
"""Every word with a meaning, by what it speaks of."""

VOCABULARY = tuple(dict.fromkeys(word for words in GROUPS.values() for word in words))
"""The words of :data:`GROUPS` in a fixed order."""

SPOKEN = (*VOCABULARY, *SYNONYMS)
"""Those and their synonyms."""

_GROUP_OF = {word: group for group, words in GROUPS.items() for word in words}
_OTHERS: dict[str, list[str]] = {}
for _word, _meant in SYNONYMS.items():
    _OTHERS.setdefault(_meant, []).append(_word)


@dataclass(frozen=True)
class Described:
    """An object of a scene.

    Args:
        box: ``(x0, y0, x1, y1)`` in pixels, half-open.
        true: words that hold.
        open: words that may or may not.
    """

    box: tuple[float, float, float, float]
    true: frozenset[str]
    open: frozenset[str]


def tokens(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    kept = "".join(c if c.isalnum() else " " for c in text.lower())
    return kept.split()


def meaning(word: str) -> str | None:
    """The word of :data:`GROUPS` that a word stands for; None for fillers and unknown words."""
    word = SYNONYMS.get(word, word)
    return word if word in _GROUP_OF else None


def group_of(word: str) -> str | None:
    """The group of :data:`GROUPS` that a word or its synonym belongs to; None if it has no meaning here."""
    meant = meaning(word)
    return None if meant is None else _GROUP_OF[meant]


def match(phrase: str, objects: Iterable[Described]) -> np.ndarray:
    """Which objects a phrase means: ``[n]`` int8, 1 yes, 0 no, -1 open. Words without a meaning are passed over."""
    wanted = {m for m in map(meaning, tokens(phrase)) if m is not None}
    told = []
    for one in objects:
        if wanted - one.true - one.open:
            told.append(0)
        else:
            told.append(1 if wanted <= one.true else -1)
    return np.array(told, np.int8)


def phrase_for(rng: np.random.Generator, one: Described, plain: bool = False) -> str:
    """A phrase that is true of an object, in the order of the paper's template.

    ``[size] [tone] [colour] [shape] [texture] <noun> [location]`` (Qin et al., ICLR 2023), each part there or not.

    Args:
        rng: of all draws.
        one: the object.
        plain: without synonyms, fillers and invented words.
    """
    by_group: dict[str, list[str]] = {}
    for word in sorted(one.true):
        by_group.setdefault(_GROUP_OF[word], []).append(word)
    share = {"size": 0.3, "tone": 0.12, "colour": 0.6, "shape": 0.4, "texture": 0.15, "noun": 0.8, "location": 0.2}
    chosen = {group: str(rng.choice(by_group[group])) for group, p in share.items()
              if group in by_group and rng.random() < p}
    if not chosen:
        group = str(rng.choice(sorted(by_group)))
        chosen = {group: str(rng.choice(by_group[group]))}
    return spoken(rng, chosen, plain)


def spoken(rng: np.random.Generator, chosen: dict[str, str], plain: bool = False) -> str:
    """Words by group as a phrase, with synonyms, fillers and invented words unless ``plain``."""
    order = ["size", "tone", "colour", "shape", "texture", "noun", "location"]
    if not plain and rng.random() < 0.15:
        rng.shuffle(order)
    said = []
    for group in (g for g in order if g in chosen):
        word = chosen[group]
        if not plain and word in _OTHERS and rng.random() < 0.3:
            other = _OTHERS[word][rng.integers(len(_OTHERS[word]))]
            word = other if not (other in ("dot", "spot") and "noun" in chosen) else word
        if group == "location" and not plain and rng.random() < 0.5:
            said += ["at", "the", word] if rng.random() < 0.5 else ["in", "the", word, "region"]
        else:
            said.append(word)
    if not plain and rng.random() < 0.15:
        said.insert(int(rng.integers(len(said) + 1)), str(rng.choice(FILLERS)))
    if not plain and rng.random() < 0.12:
        said.insert(int(rng.integers(len(said) + 1)), _invented(rng))
    return " ".join(said)


def changed(rng: np.random.Generator, one: Described, others: Sequence[Described] = ()) -> str:
    """A phrase for an object with one word made wrong; with others, by a word that is true of one of them if it can."""
    groups: dict[str, str] = {}
    for word in sorted(one.true):
        if _GROUP_OF[word] not in groups or rng.random() < 0.5:
            groups[_GROUP_OF[word]] = word
    keep = [g for g in groups if rng.random() < {"colour": 0.7, "noun": 0.7, "shape": 0.5, "size": 0.4}.get(g, 0.2)]
    keep = keep or ["colour"]
    wrong = keep[int(rng.integers(len(keep)))]
    beside = {word for other in others for word in other.true}
    allowed = [w for w in GROUPS[wrong] if w not in one.true and w not in one.open]
    words = [w for w in allowed if w in beside] or allowed
    chosen = {g: groups.get(g, str(rng.choice(GROUPS[g]))) for g in keep}
    if words:
        chosen[wrong] = words[int(rng.integers(len(words)))]
    return spoken(rng, chosen)


def _invented(rng: np.random.Generator) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return "".join(letters[i] for i in rng.integers(0, 26, int(rng.integers(3, 9))))
