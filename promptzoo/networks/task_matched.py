"""Prompts that an image finds by itself in a pool, and structures that are told by their names."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.task_tokens import TokenPromptNet
from promptzoo.text.ngrams import bags

BUCKETS, WORDS, SHARPNESS = 256, 4, 8.0
"""Buckets and words of a name's bag of n-grams; how sharply an image chooses among the pool's prompts."""


class MatchedPromptNet(TokenPromptNet):
    """A pool of prompts with keys, of which an image takes those whose keys are like its query; masks by name.

    Prompt-driven universal model for view-agnostic echocardiography (Kim et al., 2024, arXiv 2404.05916): prompts of
    the views are found by matching keys with queries that a pretrained vision model makes of the image, so that no view
    is named; a language model's vectors of the structures are aligned with the pixels. Here the query is what the
    router sees, which only its own loss trains; the vectors are bags of the names' n-grams behind a learned matrix.

    A row holds, per channel, the bag of its structure's name, and a token that counts only where it is told (a last
    number of 1); the tasks of the network tell none: the image finds its prompt.

    Args:
        names: structures of every task.
        channels: features of the stem.
        classes: channels beside the background.
        pool: prompts in the pool.
        others: see :class:`promptzoo.networks.task_tokens.TokenPromptNet`.
    """

    def __init__(self, names: Sequence[Sequence[str]], channels: Sequence[int] = (24, 48, 80), classes: int = 3,
                 pool: int = 8, **others: int) -> None:
        super().__init__([len(one) for one in names], channels, classes, **others)
        self.tokens = nn.Parameter(torch.zeros(0, self.width))
        self.pool = nn.Parameter(torch.randn(pool, self.width))
        self.keys = nn.Parameter(torch.randn(pool, self.router[-1].in_features))
        self.head = nn.Conv2d(channels[0], 1 + channels[0], 1)
        self.words = nn.Linear(BUCKETS, channels[0])
        told = torch.zeros(len(names), classes, BUCKETS)
        for bag, own in zip(told, names):
            for place, name in zip(bag, own):
                place[:] = torch.from_numpy(bags([name.split()], WORDS, BUCKETS)[0].sum(0))
        self.register_buffer("told", told, persistent=False)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Lengths of a row's parts: channels there are, token, bags of names, whether the token is told."""
        return self.classes, self.width, self.classes * BUCKETS, 1

    def rows(self) -> torch.Tensor:
        """See :meth:`TaskNetwork.rows`."""
        empty = self.present.new_zeros(len(self.present), self.width)
        return torch.cat([self.present, empty, self.told.flatten(1), empty[:, :1]], 1)

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`TaskNetwork.fresh`: the bag of channel 1 and the token, which is told."""
        row, place = self.rows().new_zeros(sum(self.sizes)), torch.arange(sum(self.sizes))
        row[0], row[-1] = 1, 1
        row[self.classes:self.classes + self.width] = self.pool.detach().mean(0)
        return row, (place >= self.classes) & (place < self.classes + self.width + BUCKETS)

    def matched(self, image: torch.Tensor) -> torch.Tensor:
        """How much of each prompt of the pool images ``[B, 1, S, S]`` take, ``[B, pool]``."""
        with torch.no_grad():
            query = self.router.query(image)
        return torch.softmax(SHARPNESS * F.normalize(query, dim=-1) @ F.normalize(self.keys, dim=-1).T, -1)

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`TaskNetwork.encode`; the prompt that the image found comes last, ``[B, width, 1, 1]``."""
        found = self.matched(image) @ self.pool
        return (*super().encode(image), found[..., None, None])

    def decode(self, prompt: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """See :meth:`TaskNetwork.decode`."""
        _, token, names, told = prompt.split(self.sizes, 1)
        value = self.features(told * token + (1 - told) * maps[-1][..., 0, 0], maps[:-1])
        pixels = self.head(value)
        vectors = self.words(names.reshape(len(prompt), self.classes, BUCKETS))
        alike = torch.einsum("bchw,bkc->bkhw", pixels[:, 1:], vectors) / vectors.shape[-1] ** 0.5
        return self.used(torch.cat([pixels[:, :1], alike], 1), prompt)
