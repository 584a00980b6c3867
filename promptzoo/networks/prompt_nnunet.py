"""nnU-Net-like backbone with a prompt module (3D Prompt-nnUNet).

Xue et al. 2024, 3D Prompt-nnUNet for the clinical target volume of endometrial carcinoma in brachytherapy CT: known to
us by its title only ("prompt-based module combined with 3D nnU-Net"). Our reading: the plain convolution blocks of
nnU-Net (Isensee et al., Nature Methods 2021; here MONAI's ``DynUNet``: instance norm, leaky ReLU, transposed
convolutions) over image and prompts together, and a module that weighs the channels and the places of the bottleneck
by what the prompts say. Ours too: the first block halves the resolution and a light full-resolution head follows, for
the sake of CPUs.
"""
from __future__ import annotations

from typing import Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import DynUNet
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.interactive_unet import QualityHead
from promptzoo.networks.prompted import PromptedNetwork

_SLOPE = 0.01


class PlainEncoder(nn.Module):
    """Encoder half of a ``DynUNet``.

    Args:
        plan: network whose blocks are taken.
    """

    def __init__(self, plan: DynUNet) -> None:
        super().__init__()
        self.levels = nn.ModuleList([plan.input_block, *plan.downsamples, plan.bottleneck])

    def forward(self, fused: torch.Tensor) -> list[torch.Tensor]:
        """``[B, C, *S]`` to one tensor per level ``[B, channels[n], *S / 2 ** (n + 1)]``."""
        features, value = [], fused
        for level in self.levels:
            value = level(value)
            features.append(value)
        return features


class PromptGate(nn.Module):
    """Weighs channels and places of a feature map by the prompts.

    Both gates start at 1 (zero-initialised last layers), so a fresh module changes nothing.

    Args:
        spatial_dims: 2 or 3.
        prompt_channels: prompt maps and prior masks.
        channels: channels of the feature map.
        stride: resolution of the prompts over that of the feature map.
    """

    def __init__(self, spatial_dims: int, prompt_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, hidden = stride, channels // 2
        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.channel = nn.Sequential(nn.Linear(prompt_channels + channels, hidden), nn.LeakyReLU(_SLOPE),
                                     nn.Linear(hidden, channels))
        self.place = nn.Sequential(conv(prompt_channels + channels, hidden, 1), nn.LeakyReLU(_SLOPE),
                                   conv(hidden, 1, 1))
        for last in (self.channel[-1], self.place[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, feature: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        """Feature ``[B, C, *S / stride]`` weighed by prompt maps ``[B, P, *S]``; same shape as the feature."""
        pool = F.max_pool2d if feature.dim() == 4 else F.max_pool3d
        low = pool(prompts, self.stride, self.stride).to(feature.dtype)
        spatial = tuple(range(2, feature.dim()))
        told = torch.cat([feature.mean(spatial), low.amax(spatial)], 1)
        channel = (2 * torch.sigmoid(self.channel(told)))[(...,) + (None,) * len(spatial)]
        return feature * channel * (2 * torch.sigmoid(self.place(torch.cat([feature, low], 1))))


class PromptNNUNet(PromptedNetwork):
    """Plain U-Net with a prompt gate at the bottleneck.

    Args:
        spatial_dims: 2 or 3.
        channels: features per level, at least three; the input's sides must be multiples of ``2 ** len(channels)``.
        full_channels: features of the full-resolution head.
        prior_channels: additional dense context channels.

    Raises:
        BundleError: if the sizes are unusable.
    """

    def __init__(self, spatial_dims: int = 3, channels: Sequence[int] = (24, 48, 80, 112), full_channels: int = 8,
                 prior_channels: int = 0) -> None:
        super().__init__(prior_channels)
        if spatial_dims not in (2, 3) or len(channels) < 3:
            raise BundleError(complain("PromptNNUNet sizes", [spatial_dims, list(channels)],
                                       "2 or 3 dimensions; at least three levels"))
        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        fused, levels = 1 + self.prompt_channels, len(channels)
        self.channels = tuple(channels)
        plan = DynUNet(spatial_dims, fused, full_channels, (3,) * levels, (2,) * levels, (2,) * (levels - 1), channels)
        self.image_encoder = PlainEncoder(plan)
        self.gate = PromptGate(spatial_dims, self.prompt_channels, channels[-1], 2 ** levels)
        self.decoder = plan.upsamples
        self.full = nn.Sequential(conv(fused, full_channels, 3, padding=1), nn.LeakyReLU(_SLOPE))
        self.lift = conv(channels[0], full_channels, 1)
        self.head = nn.Sequential(conv(full_channels, full_channels, 3, padding=1), nn.LeakyReLU(_SLOPE),
                                  conv(full_channels, 1, 1))
        self.quality = QualityHead(channels[0], channels[-1])

    def decode(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fused input ``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated-Dice logits ``[B, 1]``.

        Raises:
            BundleError: if a side of the input is not a multiple of ``2 ** len(channels)``.
        """
        if any(side % self.gate.stride for side in fused.shape[2:]):
            raise BundleError(complain("window sides", list(fused.shape[2:]), f"multiples of {self.gate.stride}"))
        features = self.image_encoder(fused)
        deep = value = self.gate(features[-1], fused[:, 1:])
        for up, skip in zip(self.decoder, features[-2::-1]):
            value = up(value, skip)
        lifted = F.interpolate(self.lift(value), size=fused.shape[2:], mode="nearest")
        logits = self.head(lifted + self.full(fused))
        return logits, self.quality(logits, value, deep)

    def inherited(self, source: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convolutions of an ``InteractiveUNet`` under the names of this network: a start, not the same function.

        Both have two convolutions of 3 per level, but no residual path and another norm here. A transposed
        convolution whose kernel repeats a 1 x 1 kernel is that kernel before nearest-neighbour upsampling, and a
        kernel given to both of two concatenated maps acts on their sum, as in the other decoder.
        """
        if "image_encoder.stem.weight" not in source:  # no such network: its names are ours or strange
            return dict(source)
        state = {name: value for name, value in source.items() if not name.startswith(("decoder.", "reduce."))}
        for name, value in source.items():
            part, _, rest = name.partition(".")
            level, _, kind = rest.partition(".")
            step = f"decoder.{len(self.decoder) - 1 - int(level)}" if part in ("decoder", "reduce") else ""
            if name == "image_encoder.stem.weight":  # 4 taps at -1 … 2 become 3 at -1 … 1
                taps = (slice(None), slice(None), *(slice(0, 3),) * (value.dim() - 2))
                state["image_encoder.levels.0.conv1.conv.weight"] = value[taps]
            elif name == "image_encoder.levels.0.conv1.conv.weight":
                state["image_encoder.levels.0.conv2.conv.weight"] = value
            elif part == "decoder" and kind == "conv1.conv.weight":
                state[f"{step}.conv_block.{kind}"] = torch.cat([value, value], 1)
            elif part == "decoder" and kind == "conv2.conv.weight":
                state[f"{step}.conv_block.{kind}"] = value
            elif part == "reduce" and kind == "weight":
                flat = value.transpose(0, 1)
                state[f"{step}.transp_conv.conv.weight"] = flat.expand(*flat.shape[:2], *(2,) * (value.dim() - 2))
        return state
