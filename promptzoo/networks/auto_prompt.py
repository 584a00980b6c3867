"""A SAM-like network that also says where to prompt: a light head over the outputs of its frozen image encoder.

The head sums coarse maps over all levels of the encoder, as the self-prompt generator of UN-SAM does (Chen et al.,
"UN-SAM: Domain-adaptive self-prompt segmentation for universal nuclei images", Medical Image Analysis 2025), here as a
feature pyramid (Lin et al., CVPR 2017); it predicts foreground, and centres with box sizes as CenterNet does (Zhou et
al., "Objects as points", 2019).
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.networks.sam import PromptableSam

HEAD_STRIDE = 2
"""Window pixels per side of a cell of the head's maps."""

HEAD_MAPS = ("foreground", "centre", "height", "width")
"""Channels of the head's output: two logits, then logarithms of the box's sides in window pixels."""


class PromptHead(nn.Module):
    """Feature pyramid over the encoder's four outputs, finest last.

    Args:
        hidden: features of the embedding.
        fine: features at half resolution.
        width: features of the pyramid, a multiple of 8.
    """

    def __init__(self, hidden: int, fine: int, width: int = 32) -> None:
        super().__init__()
        norm = ("group", {"num_groups": 8})
        levels = (hidden, hidden // 4, hidden // 8, fine)
        self.side = nn.ModuleList(nn.Conv2d(level, width, 1) for level in levels)
        self.merge = nn.ModuleList(UnetResBlock(2, width, width, 3, 1, norm) for _ in levels)
        self.tell = nn.ModuleList(nn.Conv2d(width, len(HEAD_MAPS), 1) for _ in levels)
        for layer in self.tell:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # centres are rare, boxes about 20 pixels wide
            self.tell[-1].bias.copy_(torch.tensor([-1.0, -4.0, 3.0, 3.0]))

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        """Maps of a window.

        Args:
            embedding, s1, s0, fine: outputs of :class:`promptzoo.networks.sam.PyramidEncoder` for windows of side S.

        Returns:
            ``[B, 4, S/2, S/2]``, channels in the order of :data:`HEAD_MAPS`.
        """
        value, total = None, None
        for level, side, merge, tell in zip((embedding, s1, s0, fine), self.side, self.merge, self.tell):
            own = side(level)
            if value is not None:
                own = own + F.interpolate(value, size=own.shape[2:], mode="nearest")
            value = merge(own)
            told = F.interpolate(tell(value), size=fine.shape[2:], mode="bilinear")
            total = told if total is None else total + told
        return total


class AutoPromptSam(PromptableSam):
    """:class:`PromptableSam` with a :class:`PromptHead`; images and prompts are answered as there.

    Args:
        width: features of the head.
        others: arguments of :class:`PromptableSam`.
    """

    def __init__(self, width: int = 32, **others: Any) -> None:
        super().__init__(**others)
        self.prompt_head = PromptHead(self.hidden, others.get("fine", 12), width)

    def maps(self, image: torch.Tensor) -> torch.Tensor:
        """Maps ``[B, 4, S/2, S/2]`` of images ``[B, 1, S, S]`` in [-1, 1]; gradients reach the head alone."""
        with torch.no_grad():
            encoded = self.image_encoder(image)
        return self.prompt_head(*(part.detach() for part in encoded))
