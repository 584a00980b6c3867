"""What lies inside a token's own box, at one size for small and large things.

A token that has guessed a box looks at a grid of points in it, as RoIAlign does (He et al., Mask R-CNN, ICCV 2017,
section 3), for all tokens at once: shape and colour then look alike whatever the size. Each point takes the nearest
value of a field whose stride suits the box, which costs a CPU one gather.
"""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

LEVELS = 3
"""Strides 4, 8 and 16 of the field that is read."""
FINEST = 4


class BoxLooks(nn.Module):
    """Pictures and a box per token to a vector per token.

    Args:
        dim: of the vectors.
        width: learned features of the field, beside the three colours themselves.
        points: along each side of the grid.
        hidden: features between.
        reach: the grid is a square around the box, this much wider than its longer side.
    """

    def __init__(self, dim: int = 128, width: int = 24, points: int = 7, hidden: int = 192, reach: float = 1.2) -> None:
        super().__init__()
        self.points, self.reach = points, reach
        self.field = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(inplace=True), nn.Conv2d(16, width, 3, 2, 1),
                                   nn.SiLU(inplace=True), nn.Conv2d(width, width, 3, 1, 1), nn.SiLU(inplace=True))
        self.look = nn.Sequential(nn.Linear((width + 3) * points ** 2 + 2, hidden), nn.SiLU(inplace=True),
                                  nn.Linear(hidden, hidden), nn.SiLU(inplace=True))
        self.tell = nn.Linear(hidden, dim)
        nn.init.zeros_(self.tell.weight)  # a network that is grown by this part starts as it was
        nn.init.zeros_(self.tell.bias)

    def forward(self, image: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Vectors ``[B, dim, h, w]``.

        Args:
            image: ``[B, 3, H, W]`` in [-1, 1]; sides are multiples of 16.
            boxes: ``[B, 4, h, w]`` as ``x0, y0, x1, y1`` in pixels of the image.
        """
        rows = boxes.shape[2]
        left, top, right, bottom = boxes.flatten(2).unsqueeze(-1).unbind(1)
        side = self.reach * torch.maximum(right - left, bottom - top)
        steps = torch.linspace(-0.5, 0.5, self.points, device=boxes.device, dtype=boxes.dtype)
        down, across = (one.reshape(1, 1, -1) for one in torch.meshgrid(steps, steps, indexing="ij"))
        x, y = (left + right) / 2 + across * side, (top + bottom) / 2 + down * side
        level = torch.log2((side / (self.points - 1) / FINEST).clamp(1, 2 ** (LEVELS - 1))).round()
        fields, at, start = self._fields(image), torch.zeros_like(x, dtype=torch.long), 0
        for number, field in enumerate(fields):
            height, width, stride = field.shape[2], field.shape[3], FINEST * 2 ** number
            column = (x / stride).floor().clamp(0, width - 1).long()
            row = (y / stride).floor().clamp(0, height - 1).long()
            at = torch.where(level == number, start + row * width + column, at)
            start += height * width
        values = torch.cat([field.flatten(2).transpose(1, 2) for field in fields], 1)
        batch = torch.arange(image.shape[0], device=at.device).view(-1, 1, 1)
        seen = functional.embedding(at + batch * start, values.flatten(0, 1)).flatten(2)
        sides = torch.log(torch.cat([right - left, bottom - top], -1).clamp(min=1) / 32)
        told = self.tell(self.look(torch.cat([seen, sides.to(seen.dtype)], -1)))
        return told.transpose(1, 2).unflatten(2, (rows, -1))

    def _fields(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Colours and features ``[B, width + 3, H/s, W/s]`` at each stride."""
        found = [torch.cat([self.field(image), functional.avg_pool2d(image, FINEST)], 1)]
        while len(found) < LEVELS:
            found.append(functional.avg_pool2d(found[-1], 2))
        return found
