"""What classes are called in training: words of the lexicon, with typing errors, as frozen text vectors."""
from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Callable, Sequence

import numpy as np

from promptzoo.text.lexicon import Lexicon
from promptzoo.text.towers import shipped_tower

Tower = Callable[[Sequence[str]], np.ndarray]
"""Texts to unit vectors ``[N, T]`` float32."""

HELD_OUT_SHARE = 0.15
TYPO_SHARE, NAME_SHARE = 0.2, 0.4


def held_out(phrase: str) -> bool:
    """Whether a synonym is kept out of training, so that it can be asked for afterwards; fixed by its letters."""
    return hashlib.sha256(phrase.lower().encode()).digest()[0] < 256 * HELD_OUT_SHARE


@lru_cache(maxsize=None)
def phrases_of(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Phrases of a concept for training, its name first, and those held out."""
    first, *others = Lexicon.load().concept(name).phrases
    return (first, *(p for p in others if not held_out(p))), tuple(p for p in others if held_out(p))


def mistyped(phrase: str, rng: np.random.Generator) -> str:
    """A phrase with one letter left out, doubled, or swapped with its neighbour."""
    if len(phrase) < 5:
        return phrase
    at, kind = int(rng.integers(1, len(phrase) - 1)), int(rng.integers(3))
    if kind == 0:
        return phrase[:at] + phrase[at + 1:]
    if kind == 1:
        return phrase[:at] + phrase[at] + phrase[at:]
    return phrase[:at] + phrase[at + 1] + phrase[at] + phrase[at + 2:]


class Phrases:
    """Text vectors of classes.

    Args:
        classes: ids of the lexicon.
        text: ``tower`` for the shipped text tower, ``onehot`` for one number per class (Zhang et al., DoDNet, 2021),
            ``numbered`` for both, the text vector first.

    Raises:
        NotFoundError: for a class that the lexicon does not know.
    """

    def __init__(self, classes: Sequence[str], text: str = "tower") -> None:
        self.classes, self.onehot = tuple(classes), text == "onehot"
        self.numbered = text == "numbered"
        self.words = {name: phrases_of(name)[0] for name in self.classes} if not self.onehot else {}
        self._known: dict[str, np.ndarray] = {}

    def drawn(self, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
        """A vector for each class, of its name or another word for it, now and then mistyped; ``[C, T]`` float32."""
        which = np.eye(len(self.classes), dtype=np.float32)[[self.classes.index(name) for name in names]]
        if self.onehot:
            return which
        texts = []
        for name in names:
            words = self.words[name]
            text = words[0] if rng.random() < NAME_SHARE else words[int(rng.integers(len(words)))]
            texts.append(mistyped(text, rng) if rng.random() < TYPO_SHARE else text)
        return np.concatenate([self.vectors(texts), which], 1) if self.numbered else self.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Cached vectors of texts ``[N, T]`` float32."""
        fresh = [t for t in dict.fromkeys(texts) if t not in self._known]
        if fresh:
            self._known.update(zip(fresh, np.asarray(shipped_tower()(fresh), np.float32)))
        return np.stack([self._known[t] for t in texts])
