"""A small text part of a detector, trained with it: hashed character n-grams, summed over words, as a unit vector.

It stands where Grounding DINO (Liu et al., ECCV 2024, section 3.1) has a BERT trained along. N-grams are those of
fastText (Bojanowski et al., TACL 2017), so that a typo keeps most of a word. Words start in nearly orthogonal random
directions; a deeper text part was tried and drew all words into one.
"""
from __future__ import annotations

from typing import Sequence

import torch
from torch import nn
from torch.nn import functional

from promptzoo.text.ngrams import hashed, pieces

MOST_WORDS = 16
"""Later words of a phrase are not read."""


def grams_of(word: str, buckets: int) -> tuple[int, ...]:
    """Buckets of a word (counted three times) and of its character n-grams of 4."""
    marked = f"<{word}>"
    return hashed([marked] * 3 + (pieces(word, (4,)) if len(marked) > 4 else []), buckets)


def split(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


class PhraseEncoder(nn.Module):
    """Phrases to unit vectors.

    Args:
        dim: of the vectors.
        buckets: of hashed n-grams.
    """

    def __init__(self, dim: int = 128, buckets: int = 4096) -> None:
        super().__init__()
        self.dim, self.buckets = dim, buckets
        self.grams = nn.EmbeddingBag(buckets, dim, mode="sum")

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors ``[N, dim]`` of length 1; a text without a word gets the zero vector."""
        words = [split(text)[:MOST_WORDS] for text in texts]
        known = list(dict.fromkeys(word for phrase in words for word in phrase))
        device = self.grams.weight.device
        if not known:
            return torch.zeros(len(texts), self.dim, device=device)
        flat, offsets = [], []
        for word in known:
            offsets.append(len(flat))
            flat += grams_of(word, self.buckets)
        vectors = functional.normalize(self.grams(torch.tensor(flat, device=device),
                                                  torch.tensor(offsets, device=device)).float(), dim=1)
        place = {word: n for n, word in enumerate(known)}
        counts = torch.zeros(len(texts), len(known), device=device)
        for row, phrase in enumerate(words):
            for word in phrase:
                counts[row, place[word]] += 1
        return functional.normalize(counts @ vectors, dim=1)
