"""A small text part of a detector, trained with it: hashed character n-grams, one attention layer, a unit vector.

It stands where Grounding DINO (Liu et al., ECCV 2024, section 3.1) has a BERT trained along. N-grams are those of
fastText (Bojanowski et al., TACL 2017), so that a typo keeps most of a word.
"""
from __future__ import annotations

import zlib
from typing import Sequence

import torch
from torch import nn

MOST_WORDS = 16
"""Later words of a phrase are not read."""


def pieces(word: str, buckets: int) -> list[int]:
    """Buckets of a word and of its character n-grams of 3 and 4."""
    marked = f"<{word}>"
    grams = [marked] + [marked[i:i + n] for n in (3, 4) for i in range(len(marked) - n + 1) if n < len(marked)]
    return [zlib.crc32(gram.encode()) % buckets for gram in grams]


def split(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


class PhraseEncoder(nn.Module):
    """Phrases to unit vectors.

    Args:
        dim: of the vectors.
        buckets: of hashed n-grams.
        heads: of the attention among the words.
    """

    def __init__(self, dim: int = 128, buckets: int = 4096, heads: int = 4) -> None:
        super().__init__()
        self.dim, self.buckets = dim, buckets
        self.grams = nn.EmbeddingBag(buckets, dim, mode="sum")
        nn.init.normal_(self.grams.weight, std=0.15)
        self.norm = nn.LayerNorm(dim)
        self.places = nn.Parameter(torch.zeros(MOST_WORDS, dim))
        self.mix = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(dim, dim)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors ``[N, dim]`` of length 1; a text without a word gets the zero vector."""
        device = self.places.device
        words = [split(text)[:MOST_WORDS] for text in texts]
        longest = max([len(w) for w in words] + [1])
        flat, offsets = [], []
        for phrase in words:
            for word in phrase + [""] * (longest - len(phrase)):
                offsets.append(len(flat))
                flat += pieces(word, self.buckets) if word else [0]
        value = self.grams(torch.tensor(flat, device=device), torch.tensor(offsets, device=device))
        value = self.norm(value).view(len(words), longest, self.dim) + self.places[:longest]
        counts = torch.tensor([max(1, len(w)) for w in words], device=device)
        empty = torch.arange(longest, device=device)[None] >= counts[:, None]
        value = self.mix(value, src_key_padding_mask=empty)
        weight = (~empty).to(value.dtype)[..., None]
        pooled = self.out((value * weight).sum(1) / weight.sum(1))
        spoken = torch.tensor([[bool(w)] for w in words], device=device)
        return nn.functional.normalize(pooled.float(), dim=1) * spoken
