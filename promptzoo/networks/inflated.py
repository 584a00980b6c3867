"""A promptable network for volumes whose image encoder is that of a 2D network, frozen.

Gong et al., "3DSAM-adapter: Holistic adaptation of SAM from 2D to 3D for promptable medical image segmentation",
Medical Image Analysis 2024, section 3.2, and ProMISe (Li et al., ISBI 2024): the 2D weights stay, the patch embedding
is a 2D convolution within slices followed by a depth-wise one across them, and light 3D adapters (down-projection,
depth-wise 3D convolution, up-projection) carry information between slices. Theirs are blocks of a vision transformer;
here they are the residual blocks of :class:`promptzoo.networks.sam.PyramidEncoder`. Slices lie across the last axis.
"""
from __future__ import annotations

from typing import Sequence

import torch
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.networks.sam3d import NORM, Neck, PromptableVolume

_FROZEN = ("image_encoder.stem.", "image_encoder.levels.")


class DepthAdapter(nn.Module):
    """Residual adapter across slices; adds nothing before it is trained.

    Args:
        channels: features in and out.
        ratio: features over those of the bottleneck.
    """

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        narrow = channels // ratio
        self.down, self.up = nn.Conv3d(channels, narrow, 1), nn.Conv3d(narrow, channels, 1)
        self.across = nn.Conv3d(narrow, narrow, 3, padding=1, groups=narrow)
        self.act = nn.GELU()
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, C, i, j, k]``, same shape."""
        return value + self.up(self.act(self.across(self.act(self.down(value)))))


class InflatedEncoder(nn.Module):
    """Slice-wise 2D encoder with depth convolutions and adapters; same outputs as
    :class:`promptzoo.networks.sam3d.VolumeEncoder`.

    Args:
        channels, hidden, fine: see there.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int) -> None:
        super().__init__()
        before = [channels[0], *channels[:-1]]
        self.stem = nn.Conv2d(1, channels[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(UnetResBlock(2, before[n], width, 3, 1 if n == 0 else 2, NORM)
                                    for n, width in enumerate(channels))
        self.depth = nn.ModuleList(nn.Conv3d(width, width, (1, 1, 2), (1, 1, 2), groups=width, bias=False)
                                   for width in channels)
        self.adapters = nn.ModuleList(DepthAdapter(width) for width in channels)
        self.neck = Neck(channels, hidden)
        self.full = nn.Conv3d(1, fine, 3, padding=1)
        for depth in self.depth:
            nn.init.constant_(depth.weight, 0.5)
        for frozen in (self.stem, self.levels):
            frozen.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode windows ``[B, 1, i, j, k]``; see :meth:`promptzoo.networks.sam3d.VolumeEncoder.forward`."""
        value, features = self.depth[0](on_slices(self.stem, image)), []
        for n, (level, adapter) in enumerate(zip(self.levels, self.adapters)):
            value = on_slices(level, value)
            value = adapter(value if n == 0 else self.depth[n](value))
            features.append(value)
        return (*features, self.neck(features), self.full(image))


class InflatedVolume(PromptableVolume):
    """:class:`promptzoo.networks.sam3d.PromptableVolume` on a frozen 2D image encoder; same arguments."""

    def encoder(self) -> nn.Module:
        """The image encoder."""
        return InflatedEncoder(self.channels, self.hidden, self.fine)

    def inherited(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Of a 2D network the first layers of the encoder, of a native 3D one all but these."""
        planar = state["image_encoder.stem.weight"].dim() == 4
        found = dict(state) if planar else super().inherited(state)
        return {name: value for name, value in found.items() if name.startswith(_FROZEN) == planar}


def on_slices(module: nn.Module, value: torch.Tensor) -> torch.Tensor:
    """A 2D module on every slice across the last axis of ``[B, C, i, j, k]``; ``[B, C', i', j', k]``."""
    batch, depth = value.shape[0], value.shape[4]
    flat = module(value.permute(0, 4, 1, 2, 3).flatten(0, 1))
    return flat.reshape(batch, depth, *flat.shape[1:]).permute(0, 2, 3, 4, 1)
