"""Class tokens as keys and values of windowed attention throughout a network of encoder and decoder."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import MLPBlock
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.unetr_block import UnetrUpBlock
from monai.networks.nets.swin_unetr import WindowAttention, compute_mask, window_partition, window_reverse
from torch import nn

from promptzoo.networks.task_prompts import NORM, TaskNetwork

HIDDEN = -1e4
"""Score of tokens of channels that a task does not have."""


class PromptedWindow(WindowAttention):
    """Windowed attention whose pixels also look at tokens, each with a bias of its own per head.

    Tokens are keys and values only; there is no position between them and the pixels (PUNETR: heterogeneous bias).
    """

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, tokens: torch.Tensor,  # type: ignore[override]
                bias: torch.Tensor) -> torch.Tensor:
        """Windows ``[B * W, n, c]``, mask of shifted windows ``[W, n, n]`` or None, tokens ``[B, t, c]`` and their bias
        ``[B, heads, t]`` to ``[B * W, n, c]``."""
        count, n, c = x.shape
        heads, each = self.num_heads, count // len(tokens)
        query, key, value = self.qkv(x).reshape(count, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        known = self.qkv(tokens).reshape(len(tokens), -1, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        more_keys, more_values = (one.repeat_interleave(each, 0) for one in known[1:])
        place = self.relative_position_bias_table[self.relative_position_index.reshape(-1)]  # type: ignore[index]
        scores = query @ key.transpose(-2, -1) * self.scale + place.reshape(n, n, heads).permute(2, 0, 1)[None]
        if mask is not None:
            scores = scores + mask.repeat(len(tokens), 1, 1)[:, None]
        told = query @ more_keys.transpose(-2, -1) * self.scale + bias.repeat_interleave(each, 0)[:, :, None]
        chance = torch.softmax(torch.cat([told, scores], -1), -1).to(value.dtype)
        found = chance @ torch.cat([more_values, value], 2)
        return self.proj(found.transpose(1, 2).reshape(count, n, c))


class PromptedBlock(nn.Module):
    """A shifted-window block with tokens of its own (PSWin): ``[B, c, h, w]`` to the same.

    Args:
        width: c; a multiple of ``heads``.
        heads: of the attention.
        window: pixels per side of a window.
        shifted: whether windows are moved by half their side.
    """

    def __init__(self, width: int, heads: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.before, self.after, self.token_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = PromptedWindow(width, heads, (window, window), qkv_bias=True)
        self.mix = MLPBlock(width, 2 * width)

    def forward(self, value: torch.Tensor, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """See :class:`PromptedWindow` for tokens and bias."""
        x = value.permute(0, 2, 3, 1)
        batch, height, width, _ = x.shape
        side = (self.window, self.window)
        shift = self.shift if min(height, width) > self.window else 0
        pad = (0, 0, 0, -width % self.window, 0, -height % self.window)
        inner = F.pad(self.before(x), pad) if any(pad) else self.before(x)
        dims, mask = (batch, *inner.shape[1:3]), None
        if shift:
            inner = torch.roll(inner, (-shift, -shift), (1, 2))
            mask = compute_mask([*dims[1:]], side, (shift, shift), value.device)
        windows = self.attention(window_partition(inner, side), mask, self.token_norm(tokens), bias)
        inner = window_reverse(windows.reshape(-1, *side, x.shape[-1]), side, [*dims])
        if shift:
            inner = torch.roll(inner, (shift, shift), (1, 2))
        x = x + inner[:, :height, :width]
        return (x + self.mix(self.after(x))).permute(0, 3, 1, 2)


class WindowPromptNet(TaskNetwork):
    """A network of windowed attention that class tokens reach throughout.

    PUNETR (Fischer, Bartler and Yang, Medical Image Analysis 2024, and its code): class-dependent tokens are keys and
    values beside the pixels in shifted-window blocks of encoder and decoder; the features at the end of the decoder are
    compared with further tokens of the classes and of the background, the similarities weighted by themselves; for a
    new class the network is frozen and only its tokens are learned. Here small and in 2D, without the self-supervision
    by prototypes; the finest level, as in the code's default, has no attention.

    Args:
        present, channels, classes: see :class:`TaskNetwork`.
        tokens: per class and block, and per class at the end.
        heads: of the attention.
        window: pixels per side of a window.
    """

    def __init__(self, present: Sequence[int], channels: Sequence[int] = (24, 48, 80, 128), classes: int = 3,
                 tokens: int = 4, heads: int = 4, window: int = 4) -> None:
        super().__init__(present, channels, classes)
        deep = list(channels[::-1])
        self.widths = [w for w in [*channels[1:], *deep[1:-1]] for _ in range(2)]
        self.count, self.heads, self.finest = tokens, heads, channels[0]
        self.image_encoder = UnetResBlock(2, 1, channels[0], 3, 2, NORM)
        self.downs = nn.ModuleList(UnetResBlock(2, a, b, 3, 2, NORM) for a, b in zip(channels, channels[1:]))
        self.blocks = nn.ModuleList(PromptedBlock(w, heads, window, n % 2 == 1) for n, w in enumerate(self.widths))
        self.ups = nn.ModuleList(UnetrUpBlock(2, a, b, 3, 2, NORM) for a, b in zip(deep, deep[1:]))
        self.embed = nn.Conv2d(channels[0], channels[0], 1)
        self.last_norm = nn.LayerNorm(channels[0])
        self.background = nn.Parameter(torch.randn(tokens, channels[0]))
        self.scale = nn.Parameter(torch.tensor(4.0))
        self.prompts = nn.Parameter(torch.randn(int(self.present.sum()), self.length))

    @property
    def length(self) -> int:
        """Numbers of one class: tokens of every block, their biases, tokens of the end."""
        return self.count * (sum(self.widths) + len(self.widths) * self.heads + self.finest)

    def rows(self) -> torch.Tensor:
        """See :meth:`TaskNetwork.rows`."""
        places = (self.present.flatten().cumsum(0) - 1).clamp(min=0).long()
        numbers = self.prompts[places] * self.present.flatten()[:, None]
        return torch.cat([self.present, numbers.reshape(len(self.present), -1)], 1)

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`TaskNetwork.fresh`; it begins as the mean of the classes."""
        row = self.prompts.new_zeros(self.classes * (1 + self.length))
        row[0], at = 1, self.classes
        row[at:at + self.length] = self.prompts.detach().mean(0)
        place = torch.arange(len(row), device=row.device)
        return row, (place >= at) & (place < at + self.length)

    def encode(self, image: torch.Tensor, modality: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """See :meth:`TaskNetwork.encode`: the finest map alone, since prompts reach into the encoder."""
        return (self.image_encoder(image),)

    def decode(self, prompt: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """See :meth:`TaskNetwork.decode`."""
        here = prompt[:, :self.classes]
        numbers = prompt[:, self.classes:].reshape(len(prompt), self.classes, self.length)
        gone = (HIDDEN * (1 - here)).repeat_interleave(self.count, 1)[:, None]
        found, at = [], 0
        for width in self.widths:
            tokens = numbers[..., at:at + self.count * width].reshape(len(prompt), -1, width)
            at += self.count * width
            bias = numbers[..., at:at + self.count * self.heads]
            at += self.count * self.heads
            bias = bias.reshape(len(prompt), -1, self.heads).transpose(1, 2) + gone
            found.append((tokens, bias))
        last = numbers[..., at:].reshape(len(prompt), self.classes, self.count, self.finest)
        value, skips, turn = maps[0], [maps[0]], iter(zip(self.blocks, found))
        for down in self.downs:
            value = _both(down(value), turn)
            skips.append(value)
        for up, skip in zip(self.ups, skips[-2::-1]):
            value = up(value, skip)
            value = _both(value, turn) if skip is not skips[0] else value
        return self.used(self.compared(self.embed(value), last), prompt)

    def compared(self, value: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Similarity ``[B, 1 + classes, h, w]`` of features ``[B, c, h, w]`` with tokens of the background and of the
        classes ``[B, classes, t, c]``; of a class's tokens those count that are alike."""
        ground = self.background[None, None].expand(len(last), 1, -1, -1)
        tokens = F.normalize(self.last_norm(torch.cat([ground, last], 1)), dim=-1)
        alike = torch.einsum("bchw,bktc->bkthw", F.normalize(value, dim=1), tokens)
        weight = torch.softmax(alike.detach() * self.count, 2)
        return torch.clamp(self.scale, 1, 12) * (weight * alike).sum(2)


def _both(value: torch.Tensor, turn: object) -> torch.Tensor:
    """The next two blocks."""
    for _ in range(2):
        block, (tokens, bias) = next(turn)  # type: ignore[call-overload]
        value = block(value, tokens, bias)
    return value
