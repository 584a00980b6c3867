"""Correction of a box from the image around it, for SAM-like networks.

After the prompt refinement module of Huang et al., "Robust Box Prompt based SAM for Medical Image Segmentation" (MICCAI
workshops 2024, arXiv 2407.21284, abstract): offsets move a poor box onto the object, and may be asked for again from
there. Its form here is ours: features of a frozen encoder are pooled in the box and a ring around it; each face is the
mean position under a softmax over the places along its axis.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.core.errors import BundleError, complain

LEAST_SIDE = 0.1
"""Smallest side of a corrected box, as a fraction of the given one's."""
PRIOR_WIDTH = 0.2
"""Standard deviation of the first guess that a face stays where it is, in sides of the given box."""


class BoxRefiner(nn.Module):
    """Moves the faces of boxes.

    Args:
        features: channels of all maps that are pooled, taken together.
        cells: places per axis that are looked at, a multiple of 4.
        reach: width of the ring around the box, in sides of the box.
        width: features per cell, a multiple of 8.

    Raises:
        BundleError: for sizes that do not fit.
    """

    def __init__(self, features: int, cells: int = 24, reach: float = 0.75, width: int = 48) -> None:
        super().__init__()
        if cells % 4 or cells < 4 or width % 8 or reach <= 0:
            raise BundleError(complain("sizes of BoxRefiner", [cells, reach, width],
                                       "cells in multiples of 4, a positive reach, width in multiples of 8"))
        norm = ("group", {"num_groups": 8})
        self.reduce = nn.Conv2d(features + 1, width, 1)
        self.near = UnetResBlock(2, width, width, 3, 1, norm)
        self.wide = nn.Sequential(UnetResBlock(2, width, width, 3, 2, norm), UnetResBlock(2, width, width, 3, 2, norm))
        self.join = UnetResBlock(2, width, width, 3, 1, norm)
        self.mask = nn.Conv2d(width, 1, 1)
        self.faces = nn.Sequential(nn.Conv1d(2 * width + 2, width, 5, padding=2), nn.GELU(),
                                   nn.Conv1d(width, 2, 5, padding=2))
        nn.init.zeros_(self.faces[-1].weight)
        nn.init.zeros_(self.faces[-1].bias)
        at = -reach + (1 + 2 * reach) * (torch.arange(cells) + 0.5) / cells
        self.register_buffer("at", at, persistent=False)
        self.register_buffer("prior", torch.stack([-(at / PRIOR_WIDTH) ** 2 / 2, -((at - 1) / PRIOR_WIDTH) ** 2 / 2]),
                             persistent=False)

    def forward(self, maps: list[torch.Tensor], box: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Correct boxes.

        Args:
            maps: feature maps ``[B, C, h, w]`` of windows, each of its own resolution.
            box: faces ``[B, 4]`` (row low, column low, row high, column high) in pixels of the windows, pixel centres
                at integers.
            side: pixels per side of the windows.

        Returns:
            Corrected faces ``[B, 4]``, and the logits ``[B, 1, cells, cells]`` of a coarse mask of the object at
            :meth:`places`; training supervises it.
        """
        rows, columns = self.places(box)
        parts = [_pooled(one, rows, columns, side / one.shape[-1]) for one in maps]
        inside = [((at > -0.5) & (at < side - 0.5)).to(parts[0].dtype) for at in (rows, columns)]
        value = self.reduce(torch.cat([*parts, (inside[0][:, :, None] * inside[1][:, None])[:, None]], 1))
        value = self.near(value)
        value = self.join(value + F.interpolate(self.wide(value), size=value.shape[2:], mode="nearest"))
        mask = self.mask(value)
        known = torch.cat([value, mask], 1)
        low_row, high_row = self._along(torch.cat([known.mean(3), known.amax(3)], 1))
        low_column, high_column = self._along(torch.cat([known.mean(2), known.amax(2)], 1))
        given = torch.stack([box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]], 1)
        low = box[:, :2] + torch.stack([low_row, low_column], 1) * given
        high = box[:, :2] + torch.stack([high_row, high_column], 1) * given
        return torch.cat([low, torch.maximum(high, low + LEAST_SIDE * given)], 1), mask

    def places(self, box: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Window rows and columns ``[B, cells]`` each that are looked at for boxes ``[B, 4]``."""
        return tuple(box[:, n, None] + self.at * (box[:, n + 2] - box[:, n])[:, None]  # type: ignore[return-value]
                     for n in (0, 1))

    def _along(self, profile: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Lower and upper face ``[B]`` each along the axis of ``profile`` ``[B, F, cells]``, in sides of the box."""
        chances = torch.softmax(self.faces(profile) + self.prior, 2)
        found = (chances * self.at).sum(2)
        return found[:, 0], found[:, 1]


def _pooled(value: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, stride: float) -> torch.Tensor:
    """Maps ``[B, C, h, w]`` at window rows ``[B, R]`` and columns ``[B, R]``, ``[B, C, R, R]``; weights are triangles
    as wide as the places are apart, at the border the map's edge is repeated."""
    across = _weights(columns, stride, value.shape[3]).to(value.dtype)
    down = _weights(rows, stride, value.shape[2]).to(value.dtype)
    return torch.matmul(torch.matmul(down[:, None], value), across[:, None].transpose(2, 3))


def _weights(at: torch.Tensor, stride: float, count: int) -> torch.Tensor:
    """``[B, R, count]``, rows of sum 1."""
    place = ((at + 0.5) / stride - 0.5).clamp(0, count - 1)
    radius = torch.clamp((at[:, 1:2] - at[:, :1]) / stride, min=1.0)[..., None]
    cells = torch.arange(count, device=at.device, dtype=at.dtype)
    weights = torch.relu(1 - (place[..., None] - cells).abs() / radius)
    return weights / weights.sum(2, keepdim=True)
