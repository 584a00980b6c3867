"""Where in the body a patch lies: a latent coordinate that all bodies share, and features to find a place again.

Lei et al., "MedLSAM: Localize and segment anything model for 3D CT images", 2023, and its public code
(``openmedlab/MedLSAM``: ``networks/medlam.py``, ``train/losses/EmbFCLoss.py``, ``MedLAM/detection_functions.py``): one
network takes patches of a scan; the scaled tanh of the difference of two latent coordinates is the distance between the
patches in millimetres, which needs no label; features at three scales are trained so that a voxel is most like itself
in a deformed copy (multi-scale similarity).

What is ours: a smaller network on cells of 7 mm with strides instead of pooling, and its sizes.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.convolutions import Convolution
from torch import nn

from promptzoo.networks.interactive_unet import InteractiveUNet

CELL_MM, PATCH = 7.0, 24
"""Side of a cell, and cells per side of a patch."""
REACH_MM = (600.0, 600.0, 600.0)
"""Distances at the ends of tanh."""


def _block(before: int, after: int, stride: int = 1) -> nn.Module:
    return Convolution(3, before, after, strides=stride, kernel_size=3, act="LEAKYRELU", norm=("instance", {
        "affine": True}))


class MedLam(nn.Module):
    """Encoder with a head for the latent coordinate, decoder with features at three scales.

    Args:
        channels: features per level of the encoder.
        embedded: features at the three scales, coarse to fine.
    """

    def __init__(self, channels: Sequence[int] = (8, 16, 32, 64), embedded: Sequence[int] = (32, 16, 8)) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Sequential(_block(a, b, 1 if n == 0 else 2), _block(b, b))
                                    for n, (a, b) in enumerate(zip((1, *channels[:-1]), channels)))
        flat = channels[-1] * (PATCH // 2 ** (len(channels) - 1)) ** 3
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(flat, 64), nn.LeakyReLU(), nn.Linear(64, 3))
        widths = zip((channels[-1], *embedded[:-1]), channels[-2::-1], embedded)
        self.ups = nn.ModuleList(_block(deep + side, out) for deep, side, out in widths)

    def encode(self, patches: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Patches ``[B, 1, P, P, P]`` in [-1, 1] to latent coordinates ``[B, 3]``, and the features of all levels."""
        value, found = patches, []
        for level in self.levels:
            value = level(value)
            found.append(value)
        return self.head(value), found

    def features(self, levels: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Features of length 1 at 1/4, 1/2 and the whole of the resolution, from those of the levels."""
        value, found = levels[-1], []
        for up, side in zip(self.ups, levels[-2::-1]):
            value = up(torch.cat([F.interpolate(value, scale_factor=2, mode="trilinear"), side], 1))
            found.append(F.normalize(value, dim=1))
        return found

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Latent coordinates ``[B, 3]``."""
        return self.encode(patches)[0]


def distance_mm(here: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Millimetres from the patch of one latent coordinate to that of another, ``[..., 3]``."""
    return torch.tensor(REACH_MM, device=here.device) * torch.tanh(there - here)


class LocatedUNet(InteractiveUNet):
    """A frozen :class:`InteractiveUNet`, and a :class:`MedLam` that finds places for it.

    Args:
        others: arguments of :class:`InteractiveUNet`.
    """

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.requires_grad_(False)
        self.locator = MedLam()

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return list(self.locator.parameters())
