"""Selective state-space scans over the cells of a feature map, in plain torch.

The recurrence is that of Mamba-2 (Dao and Gu, "Transformers are SSMs", ICML 2024, sections 2 and 6): per head and step
``h[t] = exp(rate[t]) h[t - 1] + key[t] value[t]^T`` and ``y[t] = query[t] h[t]``, with rate, key, query and step size
read from the input. It is computed in chunks: matrix products within a chunk, one state handed from chunk to chunk, so
that no compiled kernel is needed and every exporter knows the operations. Scans run both ways as in Vision Mamba (Zhu
et al., ICML 2024, section 3.3), along the raster, or along rows and columns apart.
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain

CHUNK = 64
"""Steps per chunk; longer chunks mean larger matrices, shorter ones more of them."""

WAYS = {"raster": (("rows", False), ("rows", True)),
        "axial": (("across", False), ("across", True), ("down", False), ("down", True))}
"""Kinds of scan, each as orders of the cells and whether they are reversed: ``rows`` strings all rows together, with
``across`` every row and with ``down`` every column is a sequence of its own."""


def selective_scan(value: torch.Tensor, rate: torch.Tensor, key: torch.Tensor, query: torch.Tensor,
                   chunk: int = CHUNK) -> torch.Tensor:
    """Outputs of the recurrence, from a zero state.

    Args:
        value: ``[B, H, L, P]``, what is written.
        rate: ``[B, H, L]``, logarithm of the decay before step ``t`` is written; at most 0.
        key: ``[B, L, N]``, where it is written.
        query: ``[B, L, N]``, where is read.
        chunk: steps that are computed at once.

    Returns:
        ``[B, H, L, P]``.
    """
    length, state, found = value.shape[2], None, []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        written, told, asked = value[:, :, start:stop], key[:, None, start:stop], query[:, None, start:stop]
        total = rate[:, :, start:stop].cumsum(-1)
        gap = total[..., :, None] - total[..., None, :]
        causal = torch.ones(stop - start, stop - start, device=value.device, dtype=value.dtype).tril()
        weights = torch.exp(gap.clamp(max=0.0)) * causal * (asked @ told.transpose(-1, -2))
        answer = weights @ written
        if state is not None:
            answer = answer + torch.exp(total)[..., None] * (asked @ state)
        if stop < length:
            last = total[..., -1:]
            kept = (torch.exp(last - total)[..., None] * written).transpose(-1, -2) @ told
            kept = kept.transpose(-1, -2)
            state = kept if state is None else torch.exp(last)[..., None] * state + kept
        found.append(answer)
    return torch.cat(found, 2) if len(found) > 1 else found[0]


class Direction(nn.Module):
    """One scan with parameters of its own.

    Args:
        width: features of a cell.
        heads: decays; a divisor of ``width``.
        state: features of the state per head and value.
    """

    def __init__(self, width: int, heads: int, state: int) -> None:
        super().__init__()
        self.heads, self.state = heads, state
        self.read = nn.Linear(width, 2 * state + heads)
        self.log_rate = nn.Parameter(torch.log(torch.linspace(1.0, 8.0, heads)))
        self.skip = nn.Parameter(torch.ones(heads))
        with torch.no_grad():  # step sizes between 0.01 and 0.3, as Mamba starts
            steps = torch.exp(torch.linspace(math.log(0.01), math.log(0.3), heads))
            self.read.bias[2 * state:] = torch.log(torch.expm1(steps))

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Sequences ``[B, L, C]`` to the same."""
        batch, length, width = cells.shape
        key, query, step = self.read(cells).split([self.state, self.state, self.heads], -1)
        step = F.softplus(step.float()).transpose(1, 2)
        value = cells.reshape(batch, length, self.heads, -1).transpose(1, 2).float()
        rate = -torch.exp(self.log_rate.float())[:, None] * step
        scale = self.state ** -0.5
        answer = selective_scan(value * step[..., None], rate, key.float() * scale, query.float())
        answer = answer + self.skip[:, None, None] * value
        return answer.transpose(1, 2).reshape(batch, length, width)


class ScanBlock(nn.Module):
    """Norm, depthwise convolution, scans in several directions, gate, projection, residual (Vision Mamba's block with
    a convolution in two dimensions instead of one).

    Args:
        width: features, a multiple of ``heads``.
        heads: decays per direction.
        state: features of the state.
        ways: key of :data:`WAYS`.

    Raises:
        BundleError: for other ways, or a width that does not divide.
    """

    def __init__(self, width: int, heads: int = 4, state: int = 16, ways: str = "raster") -> None:
        super().__init__()
        if ways not in WAYS or width % heads:
            raise BundleError(complain("scan block", [width, heads, ways], f"features in multiples of the heads, and "
                                       f"one of {', '.join(WAYS)}"))
        self.orders = WAYS[ways]
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, 2 * width)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.directions = nn.ModuleList(Direction(width, heads, state) for _ in self.orders)
        self.out = nn.Linear(width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Feature maps ``[B, C, h, w]`` to the same."""
        batch, width, height, across = features.shape
        value, gate = self.into(self.norm(features.permute(0, 2, 3, 1))).chunk(2, -1)
        value = F.silu(self.local(value.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        total = torch.zeros_like(value)
        for (order, backwards), direction in zip(self.orders, self.directions):
            cells = value.transpose(1, 2) if order == "down" else value
            shape = cells.shape
            cells = cells.reshape(batch, -1, width) if order == "rows" else cells.reshape(-1, shape[2], width)
            cells = direction(cells.flip(1)).flip(1) if backwards else direction(cells)
            cells = cells.reshape(shape)
            total = total + (cells.transpose(1, 2) if order == "down" else cells)
        return features + self.out(total * F.silu(gate)).permute(0, 3, 1, 2)
