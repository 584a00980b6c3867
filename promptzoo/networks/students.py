"""Light image encoders with the outputs of :class:`promptzoo.networks.sam.PyramidEncoder`, to be distilled into.

Token mixing by depthwise convolutions apart from channel mixing by pointwise ones, few features at high resolution and
batch norm that folds into the convolutions: what MobileNet (Howard et al., 2017) and RepViT (Wang et al., CVPR 2024,
section 3) have in common, without their training-time branches.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.selective_scan import ScanBlock


class ConvNorm(nn.Sequential):
    """Convolution and batch norm.

    Args:
        before, after: features.
        kernel, stride, groups: of the convolution; padded to keep the size.
        active: hard swish behind it (MobileNetV3; error functions cost more than the convolutions).
    """

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                 active: bool = False) -> None:
        super().__init__(nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(after), *([nn.Hardswish()] if active else []))


class MixBlock(nn.Module):
    """Depthwise token mixer, then pointwise channel mixer, each with a residual.

    Args:
        width: features.
        expand: hidden features of the channel mixer over ``width``.
        kernel: of the token mixer.
    """

    def __init__(self, width: int, expand: int = 2, kernel: int = 3) -> None:
        super().__init__()
        self.tokens = ConvNorm(width, width, kernel, groups=width)
        self.channels = nn.Sequential(ConvNorm(width, expand * width, active=True), ConvNorm(expand * width, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[B, C, h, w]`` to the same."""
        features = features + self.tokens(features)
        return features + self.channels(features)


class LightPyramid(nn.Module):
    """Light encoder: mobile blocks all the way, or scan blocks where an embedding cell is a token.

    Args:
        widths: features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution.
        depths: blocks at 1/4, 1/8, 1/16 and 1/32.
        hidden: features of the embedding, as the teacher's.
        fine: features at half the resolution, as the teacher's.
        scan: blocks at 1/16: empty for mobile ones, else a key of :data:`promptzoo.networks.selective_scan.WAYS`.

    Raises:
        BundleError: for another number of levels.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 160), depths: Sequence[int] = (1, 2, 4, 1),
                 hidden: int = 128, fine: int = 12, scan: str = "") -> None:
        super().__init__()
        if len(widths) != 5 or len(depths) != 4:
            raise BundleError(complain("levels of LightPyramid", [list(widths), list(depths)],
                                       "five widths and four depths"))
        self.entry = ConvNorm(1, widths[0], 4, 2, active=True)
        self.entry[0].padding = (1, 1)
        self.stages = nn.ModuleList()
        for level in range(4):
            before, width = widths[level], widths[level + 1]
            blocks = [ScanBlock(width, ways=scan) if scan and level == 2 else MixBlock(width)
                      for _ in range(depths[level])]
            self.stages.append(nn.Sequential(ConvNorm(before, width, 3, 2, active=True), *blocks))
        self.deep, self.wide = ConvNorm(widths[4], hidden), ConvNorm(widths[3], hidden)
        self.mix = MixBlock(hidden)
        self.embed = nn.Conv2d(hidden, hidden, 1)
        self.down = nn.ModuleList([ConvNorm(hidden, widths[2]), ConvNorm(widths[2], widths[1])])
        self.blend = nn.ModuleList([MixBlock(widths[2]), MixBlock(widths[1])])
        self.to_eighth, self.to_quarter = nn.Conv2d(widths[2], hidden // 4, 1), nn.Conv2d(widths[1], hidden // 8, 1)
        self.to_half = nn.Conv2d(widths[0], fine, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode windows ``[B, 1, S, S]`` in [-1, 1], S a multiple of 32.

        Returns:
            What :meth:`promptzoo.networks.sam.PyramidEncoder.forward` returns.
        """
        first = self.entry(image)
        features = [first]
        for stage in self.stages:
            features.append(stage(features[-1]))
        deep = F.interpolate(self.deep(features[4]), size=features[3].shape[2:], mode="nearest")
        mixed = self.mix(deep + self.wide(features[3]))
        second = self.blend[0](features[2] + F.interpolate(self.down[0](mixed), size=features[2].shape[2:]))
        third = self.blend[1](features[1] + F.interpolate(self.down[1](second), size=features[1].shape[2:]))
        return self.embed(mixed), self.to_eighth(second), self.to_quarter(third), self.to_half(first)
