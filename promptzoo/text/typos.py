"""Typing errors as people make them."""
from __future__ import annotations

import numpy as np

from promptzoo.text.lexicon.spelling import fold

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def mistyped(phrase: str, rng: np.random.Generator, errors: int = 1) -> str:
    """A phrase with typing errors: letters left out, doubled, swapped or replaced; words keep their first.

    Words of fewer than four letters and sides are spared.

    Args:
        phrase: any; the answer is folded (lower case, no punctuation).
        rng: draws.
        errors: how many; several may hit the same word.
    """
    words = fold(phrase).split()
    long = [n for n, word in enumerate(words) if len(word) > 3 and word not in ("left", "right")]
    for _ in range(errors if long else 0):
        n = long[int(rng.integers(len(long)))]
        letters = list(words[n])
        at, kind = int(rng.integers(1, max(len(letters) - 1, 2))), int(rng.integers(4))
        if kind == 0:
            del letters[at]
        elif kind == 1:
            letters.insert(at, letters[at])
        elif kind == 2 and at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
        else:
            letters[at] = LETTERS[int(rng.integers(26))]
        words[n] = "".join(letters)
    return " ".join(words)
