"""Early-fusion interactive U-Net, 2D and 3D.

Image, previous mask and prompt maps enter together (RITM: Sofiiuk et al., "Reviving iterative training with mask
guidance for interactive segmentation", ICIP 2022); the body is a residual U-Net (blocks: MONAI ``UnetResBlock``) whose
stem already halves the resolution, with a light full-resolution skip beside it, which is what makes it fast on a CPU.
A small head estimates the Dice of its own answer. Options build the variants of the interactive-refinement family:
prompt attention (PE-MED) and prior-mask channels with dropout (Khor et al.).
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.prompted import PromptedNetwork

_SLOPE = 0.01


def _conv(dims: int, *args: int, **options: object) -> nn.Module:
    return (nn.Conv2d if dims == 2 else nn.Conv3d)(*args, **options)  # type: ignore[arg-type]


class FusedEncoder(nn.Module):
    """Residual encoder of the fused input: the part worth compiling.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the fused input.
        channels: features per level; level ``n`` works at ``1 / 2 ** (n + 1)`` of the resolution.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        norm = ("group", {"num_groups": 8})
        self.stem = _conv(spatial_dims, in_channels, channels[0], 4, stride=2, padding=1)
        before = [channels[0], *channels[:-1]]
        self.levels = nn.ModuleList(
            UnetResBlock(spatial_dims, before[n], width, 3, 1 if n == 0 else 2, norm)
            for n, width in enumerate(channels))
        self.middle = UnetResBlock(spatial_dims, channels[-1], channels[-1], 3, 1, norm)

    def forward(self, fused: torch.Tensor) -> list[torch.Tensor]:
        """``[B, C, *S]`` to one tensor per level ``[B, channels[n], *S / 2 ** (n + 1)]``."""
        features, value = [], self.stem(fused)
        for level in self.levels:
            value = level(value)
            features.append(value)
        features[-1] = self.middle(features[-1])
        return features


class PromptAttention(nn.Module):
    """Spatial gate of a skip connection, computed from the prompt maps (prompt attention of PE-MED).

    The gate starts at 1 everywhere (zero-initialised last convolution), so adding it does not change a trained network.
    """

    def __init__(self, spatial_dims: int, prompt_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.mix = nn.Sequential(_conv(spatial_dims, prompt_channels + channels, channels, 1), nn.LeakyReLU(_SLOPE),
                                 _conv(spatial_dims, channels, channels, 1))
        nn.init.zeros_(self.mix[-1].weight)
        nn.init.zeros_(self.mix[-1].bias)

    def forward(self, feature: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Feature ``[B, C, *S / stride]`` gated by prompt maps ``[B, P, *S]``; same shape as the feature."""
        pool = F.max_pool2d if feature.dim() == 4 else F.max_pool3d
        low = pool(prompts, self.stride, self.stride, ceil_mode=True)
        return feature * (2 * torch.sigmoid(self.mix(torch.cat([feature, low.to(feature.dtype)], 1))))


class QualityHead(nn.Module):
    """Estimates the Dice of the mask from pooled features; its gradient does not reach the network."""

    def __init__(self, decoder_channels: int, deep_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2 * decoder_channels + deep_channels + 4, 64), nn.LeakyReLU(_SLOPE),
                                  nn.Linear(64, 32), nn.LeakyReLU(_SLOPE), nn.Linear(32, 1))

    def forward(self, logits: torch.Tensor, decoded: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, *S]``, decoder features ``[B, C, *S / 2]``, deepest features; returns logits ``[B, 1]``."""
        logits, decoded, deep = logits.detach().float(), decoded.detach().float(), deep.detach().float()
        spatial = tuple(range(2, logits.dim()))
        pool = F.avg_pool2d if logits.dim() == 4 else F.avg_pool3d
        chance = torch.sigmoid(logits)
        weight = pool(chance, 2)
        total = weight.sum(spatial) + 1.0
        inside = (decoded * weight).sum(spatial) / total
        rim = 4 * weight * (1 - weight)
        border = (decoded * rim).sum(spatial) / (rim.sum(spatial) + 1.0)
        entropy = (chance * (1 - chance) * 4).sum(spatial)
        size = chance.sum(spatial)
        solid = (chance > 0.5).to(chance.dtype).sum(spatial)
        soft_dice = 2 * (chance * (chance > 0.5).to(chance.dtype)).sum(spatial) / (size + solid + 1.0)
        numbers = torch.cat([entropy / (size + 1), soft_dice, torch.log1p(size) / 10, torch.log1p(entropy) / 10], 1)
        return self.body(torch.cat([inside, border, deep.mean(spatial), numbers], 1))


class InteractiveUNet(PromptedNetwork):
    """Promptable segmentation network.

    Args:
        spatial_dims: 2 or 3.
        channels: features per level, multiples of 8; the input's sides must be even, best multiples of
            ``2 ** len(channels)``.
        full_channels: features of the full-resolution skip.
        prompt_attention: gate the skip connections by the prompt maps (PE-MED).
        prior_channels: additional dense context channels (Khor et al.), 0 for none.

    Raises:
        BundleError: if the sizes are unusable.
    """

    def __init__(self, spatial_dims: int = 2, channels: Sequence[int] = (24, 48, 80, 128, 160), full_channels: int = 8,
                 prompt_attention: bool = False, prior_channels: int = 0) -> None:
        super().__init__(prior_channels)
        if spatial_dims not in (2, 3) or len(channels) < 2 or any(c % 8 for c in channels):
            raise BundleError(complain("InteractiveUNet sizes", [spatial_dims, list(channels)],
                                       "2 or 3 dimensions; at least two levels of a multiple of 8 channels"))
        self.spatial_dims, self.channels = spatial_dims, tuple(channels)
        fused, norm = 1 + self.prompt_channels, ("group", {"num_groups": 8})
        self.image_encoder = FusedEncoder(spatial_dims, fused, channels)
        self.full = nn.Sequential(_conv(spatial_dims, fused, full_channels, 3, padding=1), nn.LeakyReLU(_SLOPE))
        self.reduce = nn.ModuleList(_conv(spatial_dims, channels[n + 1], channels[n], 1)
                                    for n in range(len(channels) - 1))
        self.decoder = nn.ModuleList(UnetResBlock(spatial_dims, channels[n], channels[n], 3, 1, norm)
                                     for n in range(len(channels) - 1))
        self.attention = nn.ModuleList(
            PromptAttention(spatial_dims, self.prompt_channels, channels[n], 2 ** (n + 1))
            for n in range(len(channels) - 1)) if prompt_attention else None
        self.lift = _conv(spatial_dims, channels[0], full_channels, 1)
        self.head = nn.Sequential(_conv(spatial_dims, full_channels, full_channels, 3, padding=1),
                                  nn.LeakyReLU(_SLOPE), _conv(spatial_dims, full_channels, 1, 1))
        self.quality = QualityHead(channels[0], channels[-1])

    def features(self, fused: torch.Tensor) -> list[torch.Tensor]:
        """Encoder features per level ``[B, channels[n], *S / 2 ** (n + 1)]`` of the fused input ``[B, 1 + P, *S]``."""
        return self.image_encoder(fused)

    def decode(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused input ``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated-Dice logits ``[B, 1]``."""
        features = self.features(fused)
        value = features[-1]
        for n in range(len(self.decoder) - 1, -1, -1):
            skip = features[n] if self.attention is None else self.attention[n](features[n], fused[:, 1:])
            value = self.decoder[n](F.interpolate(self.reduce[n](value), size=skip.shape[2:], mode="nearest") + skip)
        lifted = F.interpolate(self.lift(value), size=fused.shape[2:], mode="nearest")
        logits = self.head(lifted + self.full(fused))
        return logits, self.quality(logits, value, features[-1])


class FusedForward(nn.Module):
    """The network as engines compile it: one fused tensor in, (logits, estimated Dice in [0, 1]) out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated Dice ``[B, 1]``."""
        logits, quality = self.network.decode(fused)
        return logits, torch.sigmoid(quality)
