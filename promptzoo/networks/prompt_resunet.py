"""Prompt branch beside a residual U-Net (3D Prompt-ResUNet).

Xue et al., "Deep learning-based segmentation for high-dose-rate brachytherapy in cervical cancer using 3D
Prompt-ResUNet", Physics in Medicine & Biology 69 (2024) 195008. The abstract speaks of a prompt-based module combined
with a 3D (residual) U-Net and says no more about either; what is below is our reading: the image has an encoder of its
own, the prompts have a light one, and both meet at every level.
"""
from __future__ import annotations

from typing import Mapping, Sequence

import torch
from torch import nn

from promptzoo.networks.interactive_unet import FusedEncoder, InteractiveUNet


class PromptBranch(nn.Module):
    """Light strided encoder of the prompt maps.

    Args:
        spatial_dims: 2 or 3.
        prompt_channels: prompt maps and prior masks.
        channels: features per level of the image encoder; level ``n`` works at ``1 / 2 ** (n + 1)`` of the resolution.
    """

    def __init__(self, spatial_dims: int, prompt_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        conv = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        width = channels[0]
        self.stem = conv(prompt_channels, width, 4, stride=2, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(conv(width, width, 1) if n == 0 else conv(width, width, 3, stride=2, padding=1),
                          nn.GroupNorm(8, width), nn.LeakyReLU(0.01))
            for n in range(len(channels)))
        self.project = nn.ModuleList(conv(width, out, 1) for out in channels)

    def forward(self, prompts: torch.Tensor) -> list[torch.Tensor]:
        """``[B, P, *S]`` to one tensor per level ``[B, channels[n], *S / 2 ** (n + 1)]``."""
        features, value = [], self.stem(prompts)
        for level, project in zip(self.levels, self.project):
            value = level(value)
            features.append(project(value))
        return features


class PromptResUNet(InteractiveUNet):
    """Residual U-Net whose encoder sees the image alone, with a prompt branch added at every level.

    ``image_encoder`` is a function of the image only: its features can be kept while prompts change, and it can be
    compiled by itself. Everything else has the names and shapes of
    :class:`promptzoo.networks.interactive_unet.InteractiveUNet`, whose weights are therefore a start.

    Args:
        spatial_dims, channels, full_channels, prior_channels: see ``InteractiveUNet``.

    Raises:
        BundleError: if the sizes are unusable.
    """

    def __init__(self, spatial_dims: int = 3, channels: Sequence[int] = (24, 48, 80, 112, 144), full_channels: int = 8,
                 prior_channels: int = 0) -> None:
        super().__init__(spatial_dims, channels, full_channels, prior_channels=prior_channels)
        self.image_encoder = FusedEncoder(spatial_dims, 1, channels)
        self.prompt_branch = PromptBranch(spatial_dims, self.prompt_channels, channels)

    def features(self, fused: torch.Tensor) -> list[torch.Tensor]:
        """Sum of image features and prompt features per level, from the fused input ``[B, 1 + P, *S]``."""
        image, prompts = self.image_encoder(fused[:, :1]), self.prompt_branch(fused[:, 1:])
        return [a + b for a, b in zip(image, prompts)]

    @staticmethod
    def inherited(source: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of an ``InteractiveUNet`` under the names of this network.

        A convolution over image and prompts is the sum of one over the image and one over the prompts; so the fused
        stem is divided between the two encoders. The rest keeps its name.
        """
        state = dict(source)
        stem = state.pop("image_encoder.stem.weight", None)
        if stem is not None and stem.shape[1] > 1:
            state["image_encoder.stem.weight"], state["prompt_branch.stem.weight"] = stem[:, :1], stem[:, 1:]
            state["prompt_branch.stem.bias"] = torch.zeros_like(state["image_encoder.stem.bias"])
        elif stem is not None:
            state["image_encoder.stem.weight"] = stem
        return state
