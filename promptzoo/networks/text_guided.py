"""Lesions of an image, found with a sentence that says where they are.

Zhong et al., "Ariadne's Thread: Using Text Prompts to Improve Segmentation of Infected Areas from Chest X-ray Images",
MICCAI 2023, section 2.2: at each scale of the decoder the image tokens attend to each other, then to the text tokens;
a learnable scale weighs what the text adds; the skip connection comes afterwards. Shan et al., "STPNet: Scale-aware
Text Prompt Network for Medical Image Segmentation", 2025: sentences are retrieved from a bank, a part of them per
scale, so that no text is needed at test time.

What is ours: the encoder is the frozen one of ``sam_box_finetune`` instead of ConvNeXt; words are bags of character
n-grams under two small convolutions instead of CXR-BERT; two guided scales (1/16 and 1/8) instead of three; retrieval
is a softmax over the bank in a space shared by image and text.
"""
from __future__ import annotations

import math
from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

from promptzoo.networks.sam import PyramidEncoder

NORM = ("group", {"num_groups": 8})


class Words(nn.Module):
    """Bags of n-grams to word vectors that know their neighbours.

    Args:
        buckets: of the n-grams.
        width: features per word.
    """

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(buckets, width, bias=False)
        nn.init.normal_(self.embed.weight, std=1.0)
        self.near = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, bags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``[B, L, buckets]`` to word vectors ``[B, L, width]``, and which words there are ``[B, L]`` (1 or 0)."""
        there = (bags.sum(2) > 0).to(bags.dtype)
        value = self.norms[0](self.embed(bags)) * there[..., None]
        for near, norm in zip(self.near, self.norms[1:]):
            value = norm(value + F.gelu(near(value.transpose(1, 2)).transpose(1, 2))) * there[..., None]
        return value, there


class Attend(nn.Module):
    """Multi-head attention of ``query`` to ``context``; where nothing is there, the answer is zero."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(context, width)
        self.value, self.out = nn.Linear(context, width), nn.Linear(width, width)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                there: torch.Tensor | None = None) -> torch.Tensor:
        """``query`` ``[B, N, width]``, ``key`` and ``value`` ``[B, L, context]``, ``there`` ``[B, L]``."""
        batch, count, width = query.shape

        def split(one: torch.Tensor) -> torch.Tensor:
            return one.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        mask = None if there is None else ((there - 1) * 1e4)[:, None, None]
        found = F.scaled_dot_product_attention(split(self.query(query)), split(self.key(key)),
                                               split(self.value(value)), mask)
        found = self.out(found.transpose(1, 2).reshape(batch, count, width))
        return found if there is None else found * there.amax(1)[:, None, None]


def places(height: int, width: int, features: int) -> torch.Tensor:
    """Sine and cosine positions of a map, ``[height * width, features]``; ``features`` is a multiple of 4."""
    steps = torch.exp(torch.arange(features // 4) * (-math.log(200.0) / (features // 4)))
    rows = torch.linspace(-1, 1, height)[:, None] * 8 * steps
    columns = torch.linspace(-1, 1, width)[:, None] * 8 * steps
    first = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, width, -1)
    second = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([first, second], 2).reshape(height * width, features)


class GuideLayer(nn.Module):
    """Image tokens look at each other, then at the words; a learnable scale weighs the words.

    Args:
        width: features of the image tokens, a multiple of 16.
        words: features of the words.
        pool: side, in tokens, of the squares whose means stand for the image when its tokens look at each other.
    """

    def __init__(self, width: int, words: int, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.itself, self.text = Attend(width, width, 4), Attend(width, width, 4)
        self.project = nn.Sequential(nn.Linear(words, width), nn.LeakyReLU())
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, image: torch.Tensor, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """``image`` ``[B, C, h, w]``, ``words`` ``[B, L, words]``, ``there`` ``[B, L]``; ``[B, C, h, w]``."""
        batch, width, rows, columns = image.shape
        where = places(rows, columns, width).to(image)
        tokens = image.flatten(2).transpose(1, 2)
        normed = self.norms[0](tokens)
        whole = F.avg_pool2d(normed.transpose(1, 2).reshape(image.shape), self.pool).flatten(2).transpose(1, 2)
        key = whole + places(rows // self.pool, columns // self.pool, width).to(image)
        tokens = tokens + self.norms[1](self.itself(normed + where, key, whole))
        text = self.project(words)
        order = places(words.shape[1], 1, width).to(image)
        told = self.text(self.norms[2](tokens) + where, text + order, text, there)
        told = self.norms[3](told) * there.amax(1)[:, None, None]
        return (tokens + self.scale * told).transpose(1, 2).reshape(batch, width, rows, columns)


class Retrieval(nn.Module):
    """What the decoder makes of an image without text, at three scales, in the space of the clauses of the bank.

    Args:
        channels: features of the decoder, coarse to fine; each scale has twice the resolution of the one before.
        width: features of the shared space.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.looks = nn.ModuleList(nn.Sequential(
            nn.Conv2d(count, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.GELU(), nn.MaxPool2d(2 ** n),
            nn.Conv2d(32, 32, 3, padding=1), nn.GroupNorm(8, 32), nn.GELU(), nn.AdaptiveMaxPool2d(5), nn.Flatten(),
            nn.Linear(800, 96), nn.GELU(), nn.Linear(96, width)) for n, count in enumerate(channels))
        self.clause = nn.Linear(width, width)
        self.sharp = nn.Parameter(torch.tensor(2.5))

    def forward(self, *features: torch.Tensor) -> torch.Tensor:
        """Decoder features to ``[B, 3, width]`` of length 1."""
        return F.normalize(torch.stack([look(one) for look, one in zip(self.looks, features)], 1), dim=2)

    def clauses(self, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Clauses ``[N, L, width]`` to ``[N, width]`` of the length by which the softmax is sharpened."""
        mean = words.sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        return F.normalize(self.clause(mean), dim=1) * self.sharp.exp()


class TextGuided(nn.Module):
    """Encoder, words, guided decoder and retrieval.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        width: features at the coarsest scale of the decoder, and of the words; a multiple of 16.
        buckets: of the n-grams.
        length: words per sentence.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 width: int = 96, buckets: int = 1024, length: int = 24) -> None:
        super().__init__()
        self.buckets, self.length = buckets, length
        maps = (hidden, hidden // 4, hidden // 8)
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        self.words = Words(buckets, width)
        half = width // 2
        widths = (width, half + half % 16, 32)
        self.sides = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(maps, widths))
        self.guides = nn.ModuleList(GuideLayer(one, width, n + 1) for n, one in enumerate(widths[:2]))
        self.ups = nn.ModuleList(UnetrUpBlock(2, *pair, 3, 2, NORM, True) for pair in zip(widths, widths[1:]))
        self.out = nn.Conv2d(widths[-1], 4, 1)
        nn.init.constant_(self.out.bias, -2.0)
        self.retrieval = Retrieval(widths, width)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def features(self, bags: torch.Tensor, *maps: torch.Tensor, coarse: torch.Tensor | None = None
                 ) -> list[torch.Tensor]:
        """What the decoder makes of sentences ``[B, length, buckets]`` and three encoder maps: features at 1/16, 1/8,
        and 1/4 of the resolution; ``coarse`` are other sentences for the coarsest scale."""
        words, there = self.words(bags)
        sides = [side(one) for side, one in zip(self.sides, maps)]
        found = [self.guides[0](sides[0], *(self.words(coarse) if coarse is not None else (words, there)))]
        found.append(self.guides[1](self.ups[0](found[0], sides[1]), words, there))
        return [*found, self.ups[1](found[1], sides[2])]

    def decode(self, bags: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """Sentences ``[B, length, buckets]`` on encoder maps of as many images (the finest is not used): logits
        ``[B, 1, S/2, S/2]``."""
        return F.pixel_shuffle(self.out(self.features(bags, *maps)[-1]), 2)

    def progress(self, coarse: torch.Tensor, bags: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """As :meth:`decode`, with a coarse sentence at the coarsest scale and the whole one at the next: text from
        coarse to fine, after the title of Han et al., "Multiscale progressive text prompt network for medical image
        segmentation", Computers & Graphics 2023."""
        return F.pixel_shuffle(self.out(self.features(bags, *maps, coarse=coarse)[-1]), 2)

    def seen(self, *maps: torch.Tensor) -> torch.Tensor:
        """Three encoder maps to the space of the clauses, a vector per scale: ``[B, 3, width]``."""
        nothing = maps[0].new_zeros(maps[0].shape[0], self.length, self.buckets)
        return self.retrieval(*self.features(nothing, *maps))

    def clauses(self, bags: torch.Tensor) -> torch.Tensor:
        """Clauses ``[N, length, buckets]`` in the space of the retrieval, ``[N, width]``."""
        return self.retrieval.clauses(*self.words(bags))

    def forward(self, image: torch.Tensor, bags: torch.Tensor | None = None) -> torch.Tensor:
        """Segment whole images.

        Args:
            image: ``[B, 1, S, S]`` in [-1, 1].
            bags: sentences ``[B, length, buckets]``; None for no text.

        Returns:
            Logits ``[B, 1, S/2, S/2]``.
        """
        if bags is None:
            bags = image.new_zeros(image.shape[0], self.length, self.buckets)
        return self.decode(bags, *self.image_encoder(image))
