"""Our text tower: hashed character n-grams, summed, and a small network; numpy only.

After "Enriching Word Vectors with Subword Information" (Bojanowski et al., TACL 2017, section 3.2, hashed n-grams of
words in brackets), with a network on top and trained by contrast on the lexicon instead of on running text.
"""
from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np
from safetensors import safe_open

from promptzoo.core.errors import BundleError, complain
from promptzoo.text.lexicon.spelling import fold, stem
from promptzoo.text.ngrams import hashed, pieces
from promptzoo.text.towers.protocol import unit

WEIGHTS = Path(__file__).with_name("weights") / "tower.safetensors"
SIZES = (3, 4, 5)
"""Characters of the n-grams, brackets included."""
MOST_WORDS = 64
"""Words of a text that are read."""
TENSORS = ("table", "hidden.weight", "hidden.bias", "out.weight", "out.bias")


@cache
def _of_word(word: str, buckets: int) -> tuple[int, ...]:
    whole = f"<{word}>"
    return hashed((f"={word}", *sorted(set(pieces(word, SIZES)) - {whole})), buckets)


def features(text: str, buckets: int) -> list[int]:
    """Rows of the table that a text adds up: of each word itself and of its n-grams.

    Words are folded and brought to their stem first, see ``spelling``. The order of words does not matter.

    Args:
        text: any.
        buckets: rows of the table.
    """
    return [row for word in fold(text).split()[:MOST_WORDS] for row in _of_word(stem(word), buckets)]


class NgramTower:
    """The tower as arrays.

    Args:
        tensors: ``table`` ``[buckets, E]``, ``hidden.weight`` ``[H, E]``, ``hidden.bias`` ``[H]``, ``out.weight``
            ``[D, H]`` and ``out.bias`` ``[D]``.
        name: tells towers with different vectors apart.

    Raises:
        BundleError: if a tensor is missing or does not fit the others.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str = "promptzoo") -> None:
        if set(tensors) != set(TENSORS):
            raise BundleError(complain("weights of the text tower", sorted(tensors), ", ".join(TENSORS)))
        self._table, self._w1, self._b1, self._w2, self._b2 = (np.asarray(tensors[t], np.float32) for t in TENSORS)
        if self._w1.shape != (len(self._b1), self._table.shape[1]) or self._w2.shape != (len(self._b2), len(self._b1)):
            raise BundleError(complain("shapes of the text tower", [self._table.shape, self._w1.shape, self._w2.shape],
                                       "[B, E], [H, E] and [D, H]"))
        self.name, self.dim = name, len(self._b2)

    @classmethod
    def load(cls, path: str | Path) -> "NgramTower":
        """From a safetensors file; its metadata may give the ``name``.

        Raises:
            FileNotFoundError: if there is no such file.
            BundleError: if it does not hold a tower.
        """
        with safe_open(str(path), "numpy") as file:
            name = (file.metadata() or {}).get("name", Path(path).stem)
            return cls({key: file.get_tensor(key) for key in file.keys()}, name)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[N, dim]`` float32 of length 1; a text without letters and digits gets zeros."""
        summed = np.zeros((len(texts), self._table.shape[1]), np.float32)
        for n, text in enumerate(texts):
            rows = features(text, len(self._table))
            if rows:
                summed[n] = self._table[rows].sum(0) / np.sqrt(len(rows))
        answer = unit(np.maximum(summed @ self._w1.T + self._b1, 0) @ self._w2.T + self._b2)
        answer[~summed.any(1)] = 0
        return answer


@cache
def shipped_tower() -> NgramTower:
    """The tower of this package: 128 numbers per text, trained on the lexicon (``weights/results.json``)."""
    return NgramTower.load(WEIGHTS)
