"""SAM-Med3D with published weights: Wang et al., "SAM-Med3D", 2023, arXiv 2310.15161.

Written after the authors' code (github.com/uni-medical/SAM-Med3D, Apache-2.0) with its tensor names: a ViT on cubes of
16³ voxels with position biases, points with Fourier features, a two-way decoder. What looks odd is as published, for
the weights know no other: the sums of position biases, the first two axes of a cell's position code exchanged against
those of a point's, and a third band that repeats the sine.
"""
from __future__ import annotations

import math
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

CELL = 16
"""Voxels per side of an embedding cell."""


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, *S]``."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return super().forward(value.movedim(1, -1)).movedim(-1, 1)


class Mlp(nn.Module):
    """Two layers on ``[..., width]``."""

    def __init__(self, width: int, hidden: int, act: type[nn.Module]) -> None:
        super().__init__()
        self.lin1, self.lin2, self.act = nn.Linear(width, hidden), nn.Linear(hidden, width), act()

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return self.lin2(self.act(self.lin1(value)))


class GridAttention(nn.Module):
    """Self-attention among the cells of a cube of ``side``³, with position biases of three axes.

    The biases are added as in the authors' code, with which the weights were trained: all three lie along the last axis
    of the keys, and two of them take the query's last place from the key's first or second.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        for axis in "dhw":
            setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.zeros(2 * side - 1, width // heads)))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, side, side, side, width]`` to the same shape."""
        batch, side, width = value.shape[0], value.shape[1], value.shape[-1]
        parts = self.qkv(value).reshape(batch, side ** 3, 3, self.heads, width // self.heads)
        query, key, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        cells = query.reshape(batch, self.heads, side, side, side, -1)
        steps = torch.arange(side, device=value.device)
        table = steps[:, None] - steps[None] + side - 1
        along = [torch.einsum(rule, cells, getattr(self, f"rel_pos_{axis}")[table])
                 for axis, rule in (("d", "nhxyzc,xkc->nhxyzk"), ("h", "nhxyzc,ykc->nhxyzk"),
                                    ("w", "nhxyzc,zkc->nhxyzk"))]
        bias = (along[0][:, :, :, :, :, None, None] + along[1][:, :, :, :, None, :, None]
                + along[2][:, :, :, :, None, None, :])  # the axes that the published code adds to each other
        found = F.scaled_dot_product_attention(query, key, values,
                                               attn_mask=bias.reshape(batch, self.heads, side ** 3, side ** 3))
        return self.proj(found.transpose(1, 2).reshape(value.shape))


class Block(nn.Module):
    """ViT block; with a ``window`` it attends within cubes of that side, cells beyond the image being zeros."""

    def __init__(self, width: int, heads: int, side: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = GridAttention(width, heads, window or side), Mlp(width, 4 * width, nn.GELU)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, side, side, side, width]`` to the same shape."""
        normed = self.norm1(value)
        value = value + (self._windows(normed) if self.window else self.attn(normed))
        return value + self.mlp(self.norm2(value))

    def _windows(self, value: torch.Tensor) -> torch.Tensor:
        batch, side, window = value.shape[0], value.shape[1], self.window
        more, width = -side % window, value.shape[-1]
        count = (side + more) // window
        padded = F.pad(value, (0, 0, 0, more, 0, more, 0, more))
        cubes = padded.reshape(batch, count, window, count, window, count, window, width)
        cubes = cubes.permute(0, 1, 3, 5, 2, 4, 6, 7)
        found = self.attn(cubes.reshape(-1, window, window, window, width))
        found = found.reshape(batch, count, count, count, window, window, window, width).permute(0, 1, 4, 2, 5, 3, 6, 7)
        return found.reshape(padded.shape)[:, :side, :side, :side]


class Encoder3d(nn.Module):
    """Image encoder.

    Args:
        size: side of the cube in voxels.
        width, depth, heads: of the ViT.
        whole: blocks that attend over the whole cube.
        window: side of the others' windows in cells.
        out: features of the embedding.
    """

    def __init__(self, size: int, width: int, depth: int, heads: int, whole: Sequence[int], window: int,
                 out: int) -> None:
        super().__init__()
        side = size // CELL
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(1, width, CELL, stride=CELL)
        self.pos_embed = nn.Parameter(torch.zeros(1, side, side, side, width))
        self.blocks = nn.ModuleList(Block(width, heads, side, 0 if n in whole else window) for n in range(depth))
        self.neck = nn.Sequential(nn.Conv3d(width, out, 1, bias=False), ChannelNorm(out),
                                  nn.Conv3d(out, out, 3, padding=1, bias=False), ChannelNorm(out))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """``[B, 1, S, S, S]`` to ``[B, out, S/16, S/16, S/16]``."""
        value = self.patch_embed.proj(image).movedim(1, -1) + self.pos_embed
        for block in self.blocks:
            value = block(value)
        return (self.neck(value.movedim(-1, 1)),)


class FourierCode(nn.Module):
    """Fixed Fourier features of places in [0, 1]³; three bands of ``bands`` features."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, bands))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """``[..., 3]`` to ``[..., 3 bands]``."""
        angle = 2 * math.pi * ((2 * places - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos(), angle.sin()], -1)


class Prompts3d(nn.Module):
    """Prompt encoder: points and a low-resolution mask.

    Args:
        width: features, a multiple of 3.
        size: side of the image in voxels.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.pe_layer = FourierCode(width // 3)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(2))
        self.not_a_point_embed, self.no_mask_embed = nn.Embedding(1, width), nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, stride=2), ChannelNorm(4), nn.GELU(), nn.Conv3d(4, 16, 2, stride=2), ChannelNorm(16),
            nn.GELU(), nn.Conv3d(16, width, 1))

    def tokens(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Points ``[B, N, 3]`` (voxels, in the order of the image's axes) and labels ``[B, N]`` (1 foreground, 0
        background) to tokens ``[B, N + 1, width]``; the last says that there is no further point."""
        kinds = torch.cat([entry.weight for entry in self.point_embeddings])
        found = self.pe_layer((points + 0.5) / self.size) + kinds[labels.long()]
        return torch.cat([found, self.not_a_point_embed.weight[None].expand(len(points), -1, -1)], 1)

    def dense(self, masks: torch.Tensor | None, embedding: torch.Tensor) -> torch.Tensor:
        """The dense prompt in the embedding's shape, of logits ``[B, 1, S/4, S/4, S/4]`` or of no mask."""
        if masks is not None:
            return self.mask_downscaling(masks)
        return self.no_mask_embed.weight[:, :, None, None, None].expand_as(embedding)

    def places(self, embedding: torch.Tensor) -> torch.Tensor:
        """Position code ``[1, width, *cells]`` of the embedding's cells."""
        axes = [(torch.arange(n, device=embedding.device) + 0.5) / n for n in embedding.shape[2:]]
        first, second, third = torch.meshgrid(*axes, indexing="ij")
        return self.pe_layer(torch.stack([second, first, third], -1)).movedim(-1, 0)[None]
