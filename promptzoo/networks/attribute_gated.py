"""Lesions of an image, found under attributes that the network predicts itself.

Tomar et al., "TGANet: Text-Guided Attention for Improved Polyp Segmentation", MICCAI 2022, sections 2.2 and 2.4: number
and size are predicted from the deepest features; the embeddings of their words, weighted by the predicted
probabilities, are fused to a vector that gates the channels of each decoder level, and what each gate made of it is
added for the next. No text at test time; here a person may overwrite what was predicted.

What is ours: the frozen encoder of ``sam_box_finetune`` instead of ResNet-50, n-gram embeddings trained along instead
of byte-pair ones, MONAI's decoder blocks without the dilated convolutions.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

from promptzoo.networks.sam import PyramidEncoder
from promptzoo.networks.text_guided import NORM
from promptzoo.text.ngrams import bags

WORDS = (("none", "one", "many"), ("none", "small", "medium", "large"))
"""Classes of number and size, as words."""


class AttributeGated(nn.Module):
    """Encoder, attribute heads, gated decoder.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        width: features of the label vector and of the coarsest scale of the decoder.
        buckets: of the n-grams of the attributes' words.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 width: int = 64, buckets: int = 256) -> None:
        super().__init__()
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        words = [word for group in WORDS for word in group]
        self.register_buffer("words", torch.from_numpy(bags([[w] for w in words], 1, buckets)[:, 0]), persistent=False)
        self.embed = nn.Linear(buckets, 16, bias=False)
        self.look = nn.Sequential(nn.Conv2d(hidden, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU(),
                                  nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU())
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, 64), nn.GELU(), nn.Linear(64, len(group)))
                                   for group in WORDS)
        self.fuse = nn.Sequential(nn.Linear(16 * len(words), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        maps, widths = (hidden, hidden // 4, hidden // 8), (width, 48, 32)
        self.sides = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(maps, widths))
        self.ups = nn.ModuleList(UnetrUpBlock(2, a, b, 3, 2, NORM, True) for a, b in zip(widths[:-1], widths[1:]))
        self.gates = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, count))
                                   for count in widths)
        self.back = nn.ModuleList(nn.Linear(count, width) for count in widths[:-1])
        self.out = nn.Conv2d(widths[-1], 4, 1)
        nn.init.constant_(self.out.bias, -2.0)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def attributes(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of number ``[B, 3]`` and size ``[B, 4]`` from the coarsest map ``[B, hidden, S/16, S/16]``."""
        seen = self.look(embedding)
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        number, size = (head(pooled) for head in self.heads)
        return number, size

    def decode(self, chances: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """Probabilities of number and size ``[B, 7]`` and three encoder maps to logits ``[B, 1, S/2, S/2]``."""
        label = self.fuse((self.embed(self.words)[None] * chances[..., None]).flatten(1))
        sides = [side(one) for side, one in zip(self.sides, maps)]
        value = sides[0]
        for n, gate in enumerate(self.gates):
            value = value if n == 0 else self.ups[n - 1](value, sides[n])
            weight = gate(label)
            value = value * torch.sigmoid(weight)[..., None, None]
            label = label + self.back[n](weight) if n < len(self.back) else label
        return F.pixel_shuffle(self.out(value), 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment whole images ``[B, 1, S, S]`` under the predicted attributes: logits ``[B, 1, S/2, S/2]``."""
        maps = self.image_encoder(image)[:3]
        chances = torch.cat([one.softmax(1) for one in self.attributes(maps[0])], 1)
        return self.decode(chances, *maps)
