"""TinyViT as image encoder of MobileSAM and LiteMedSAM, with their tensor names.

Wu et al., "TinyViT: Fast pretraining distillation for small vision transformers", ECCV 2022; Zhang et al., "Faster
Segment Anything: towards lightweight SAM for mobile applications", 2023 (github.com/ChaoningZhang/MobileSAM,
Apache-2.0); LiteMedSAM (github.com/bowang-lab/MedSAM, branch LiteMedSAM, Apache-2.0). Written after their code: the
last stage keeps the resolution of the third, and windows beyond the image are filled with zeros. For inference only:
stochastic depth is left out.
"""
from __future__ import annotations

import itertools
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain

WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)
EMBEDDING = 256
STRIDES = (2, 2, 1)
"""Of the mergers after the first three stages."""


class ConvNorm(nn.Sequential):
    """Convolution without bias (``c``) and batch norm (``bn``)."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(after))


class MBConv(nn.Module):
    """Inverted residual block on ``[B, C, h, w]``."""

    def __init__(self, width: int, expand: int = 4) -> None:
        super().__init__()
        hidden = width * expand
        self.conv1, self.conv2 = ConvNorm(width, hidden), ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, width)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return F.gelu(value + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(value))))))


class Merging(nn.Module):
    """Between stages: new width, and half the resolution if ``stride`` is 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = ConvNorm(before, after), ConvNorm(after, after, 3, stride, after)
        self.conv3 = ConvNorm(after, after)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, before, h, w]`` to ``[B, after, h / stride, w / stride]``."""
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(value)))))


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias per distance."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        cells = list(itertools.product(range(window), repeat=2))
        known: dict[tuple[int, int], int] = {}
        index = [known.setdefault((abs(a - c), abs(b - d)), len(known)) for a, b in cells for c, d in cells]
        self.attention_biases = nn.Parameter(torch.zeros(heads, len(known)))
        self.register_buffer("index", torch.tensor(index).view(len(cells), len(cells)), persistent=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, window², width]`` to the same shape."""
        batch, cells, width = value.shape
        parts = self.qkv(self.norm(value)).view(batch, cells, self.heads, -1).transpose(1, 2)
        query, key, values = parts.chunk(3, -1)  # per head: its query, key and value
        bias = self.attention_biases[:, self.index]
        found = F.scaled_dot_product_attention(query, key, values, attn_mask=bias[None])
        return self.proj(found.transpose(1, 2).reshape(batch, cells, width))


class Mlp(nn.Module):
    """Norm and two layers on ``[..., width]``."""

    def __init__(self, width: int, expand: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, expand * width), nn.Linear(expand * width, width)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return self.fc2(F.gelu(self.fc1(self.norm(value))))


class Block(nn.Module):
    """Window attention, a depth-wise convolution over the image, an MLP; on ``[B, C, h, w]``."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn, self.mlp = WindowAttention(width, heads, window), Mlp(width)
        self.local_conv = ConvNorm(width, width, 3, groups=width)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        value = self.local_conv(value + self._windows(value))
        return value + self.mlp(value.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _windows(self, value: torch.Tensor) -> torch.Tensor:
        batch, width, height, breadth = value.shape
        side, plain = self.window, value.permute(0, 2, 3, 1)
        plain = F.pad(plain, (0, 0, 0, -breadth % side, 0, -height % side))
        rows, columns = plain.shape[1] // side, plain.shape[2] // side
        cells = plain.reshape(batch, rows, side, columns, side, width).transpose(2, 3)
        found = self.attn(cells.reshape(-1, side * side, width)).view(batch, rows, columns, side, side, width)
        whole = found.transpose(2, 3).reshape(batch, rows * side, columns * side, width)
        return whole[:, :height, :breadth].permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks, and the merger behind them."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.downsample = nn.ModuleList(blocks), downsample

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, C, h, w]`` to the next stage's shape."""
        for block in self.blocks:
            value = block(value)
        return value if self.downsample is None else self.downsample(value)


class Patches(nn.Module):
    """The stem: two convolutions; each halves the resolution if ``stride`` is 4, none if it is 1."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        kernel, step = (3, 2) if stride == 4 else (1, 1)
        self.seq = nn.Sequential(ConvNorm(3, width // 2, kernel, step), nn.GELU(),
                                 ConvNorm(width // 2, width, kernel, step))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """``[B, 3, S, S]`` to ``[B, width, S / stride, S / stride]``."""
        return self.seq(image)


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[B, C, h, w]``."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return super().forward(value.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyViT(nn.Module):
    """Image encoder: ``[B, 3, S, S]`` to a 1-tuple of ``[B, 256, S / (4 stride), S / (4 stride)]``.

    Args:
        size: side of the image in pixels.
        stride: of the stem: 4 in MobileSAM (1024 px), 1 in LiteMedSAM (256 px); both embed 64 x 64 cells.
        classes: size of the classifier's head that MobileSAM's file still carries; unused, 0 for none.

    Raises:
        BundleError: for sizes that do not fit.
    """

    def __init__(self, size: int = 1024, stride: int = 4, classes: int = 1000) -> None:
        super().__init__()
        if stride not in (1, 4) or size % (4 * stride):
            raise BundleError(complain("TinyViT size and stride", [size, stride], "stride 1 or 4, a size in multiples "
                                       "of 4 strides"))
        self.cells = size // (4 * stride)
        self.patch_embed = Patches(WIDTHS[0], stride)
        stages = []
        for n, width in enumerate(WIDTHS):
            blocks = [MBConv(width) if n == 0 else Block(width, HEADS[n], WINDOWS[n]) for _ in range(DEPTHS[n])]
            stages.append(Stage(blocks, Merging(width, WIDTHS[n + 1], STRIDES[n]) if n < 3 else None))
        self.layers = nn.ModuleList(stages)
        if classes:
            self.norm_head, self.head = nn.LayerNorm(WIDTHS[-1]), nn.Linear(WIDTHS[-1], classes)
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING, 1, bias=False), ChannelNorm(EMBEDDING, eps=1e-6),
            nn.Conv2d(EMBEDDING, EMBEDDING, 3, padding=1, bias=False), ChannelNorm(EMBEDDING, eps=1e-6))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        """Encode."""
        value = self.patch_embed(image)
        for stage in self.layers:
            value = stage(value)
        return (self.neck(value),)
