"""Words as bags of character n-grams, so that a typing error changes a word only a little.

Bojanowski et al., "Enriching word vectors with subword information" (fastText), TACL 2017, section 3.2; the hash is
CRC-32, so it is the same on every machine.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Iterable, Sequence
from zlib import crc32

import numpy as np


def pieces(word: str, sizes: Iterable[int]) -> list[str]:
    """The n-grams of ``<word>``, size by size, each from left to right."""
    marked = f"<{word}>"
    return [marked[i:i + n] for n in sizes for i in range(len(marked) - n + 1)]


def hashed(grams: Iterable[str], buckets: int) -> tuple[int, ...]:
    """The bucket of each n-gram."""
    return tuple(crc32(gram.encode()) % buckets for gram in grams)


@lru_cache(maxsize=4096)
def grams(word: str, buckets: int) -> tuple[int, ...]:
    """Buckets of a word: itself, and its n-grams of two to four characters with the ends marked."""
    return hashed([f"<{word}>", *pieces(word, (2, 3, 4))], buckets)


def bags(sentences: Sequence[Sequence[str]], length: int, buckets: int) -> np.ndarray:
    """Sentences as bags ``[N, length, buckets]`` float32; the rows of a word sum to 1, those beyond the end to 0.

    Args:
        sentences: words of each; words beyond ``length`` are left out.
        length: words per sentence.
        buckets: of the hash.
    """
    out = np.zeros((len(sentences), length, buckets), np.float32)
    for row, words in zip(out, sentences):
        for place, word in zip(row, words):
            found = grams(word, buckets)
            np.add.at(place, list(found), 1 / len(found))
    return out
