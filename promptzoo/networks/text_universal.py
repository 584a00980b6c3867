"""A volume network that is told in words what to segment: one encoder, heads that are driven by text vectors."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import ResBlock
from torch import nn

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.networks.deltas import fill, read_file
from promptzoo.networks.text_heads import SPATIAL, TEXT, ClassHeads, DynamicHead, QueryHead
from promptzoo.networks.text_prompted import DualPromptHead

IMAGE = 4
"""Input channels: intensity, and position along x, y, z."""


class VolumeEncoder(nn.Module):
    """A residual U-Net with a strided first layer and a light path at full resolution.

    Blocks are those of SegResNet (Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization", 2018).

    Args:
        channels: features at half, quarter … resolution.
        fine: features of the path at full resolution.
        features: channels of the answer.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 112), fine: int = 8, features: int = 24) -> None:
        super().__init__()
        self.channels, self.features = tuple(channels), features
        norm = ("group", {"num_groups": 8})
        self.fine = nn.Conv3d(IMAGE, fine, 3, padding=1)
        self.stem = nn.Conv3d(IMAGE, channels[0], 3, stride=2, padding=1)
        deep = len(channels) - 2
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResBlock(3, width, norm) for _ in range(2 if n >= deep else 1)))
            for n, width in enumerate(channels))
        pairs = list(zip(channels[:-1], channels[1:]))
        self.down = nn.ModuleList(nn.Conv3d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(
            ResBlock(3, a, norm) if n else nn.Sequential(nn.GroupNorm(8, a), nn.ReLU(), nn.Conv3d(a, a, 3, padding=1))
            for n, (a, _) in enumerate(pairs))
        self.last = nn.GroupNorm(8, channels[-1])
        self.wide_norm, self.wide_out = nn.GroupNorm(8, channels[0]), nn.ConvTranspose3d(channels[0], features, 2, 2)
        self.fine_out = nn.Conv3d(fine, features, 1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Encode windows.

        Args:
            image: ``[B, 4, X, Y, Z]``, sides divisible by 16.

        Returns:
            Voxel features ``[B, F, X, Y, Z]``; features at a quarter, an eighth and a sixteenth of the resolution,
            ``[B, C, *S]`` each, the last being the bottleneck.
        """
        value, skips = self.levels[0](self.stem(image)), []
        for down, level in zip(self.down, self.levels[1:]):  # type: ignore[arg-type]
            skips.append(value)
            value = level(down(value))
        value = F.relu(self.last(value))
        scales = [value]
        for up, merge, skip in zip(self.up[::-1], self.merge[::-1], skips[::-1]):  # type: ignore[arg-type]
            value = merge(up(value) + skip)
            scales.insert(0, value)
        voxels = self.wide_out(F.relu(self.wide_norm(value)))
        return (voxels + self.fine_out(F.relu(self.fine(image))), *scales[1:])


HEADS: dict[str, Any] = {"dynamic": DynamicHead, "query": QueryHead, "classes": ClassHeads,
                         "dual": DualPromptHead}


class TextUniversal(nn.Module):
    """Encoder and head.

    Args:
        channels, fine, features: see :class:`VolumeEncoder`.
        head: one of :data:`HEADS`.
        text: length of the text vectors; the number of classes for one-hot vectors.
        frozen_encoder: whether only the head is trained.
        head_options: further arguments of the head.

    Raises:
        PromptZooError: for an unknown head.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 112), fine: int = 8, features: int = 24,
                 head: str = "dynamic", text: int = TEXT, frozen_encoder: bool = False,
                 head_options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if head not in HEADS:
            raise PromptZooError(complain("head", head, ", ".join(HEADS)))
        self.image_encoder = VolumeEncoder(channels, fine, features)
        self.image_encoder.requires_grad_(not frozen_encoder)
        self.head = HEADS[head](features, channels, text=text, **(head_options or {}))

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None, spatial: torch.Tensor | None = None
                ) -> torch.Tensor:
        """Logits ``[B, 1, X, Y, Z]`` of the classes ``text`` ``[B, T]`` with boxes ``spatial`` ``[B, 1, X, Y, Z]`` on
        windows ``[B, 4, X, Y, Z]``, or on one; without a text or a box these are zeros."""
        text = image.new_zeros(image.shape[0], self.head.told) if text is None else text
        spatial = image.new_zeros(text.shape[0], SPATIAL, *image.shape[2:]) if spatial is None else spatial
        return self.head(text, spatial, *self.image_encoder(image))


def resumed(network: TextUniversal, path: str, head: bool = True) -> TextUniversal:
    """The network with weights of an earlier run; unchanged without a path.

    Args:
        network: to fill.
        path: of the weights; may be empty.
        head: whether the head is taken, too, or only the encoder.
    """
    if path and head:
        fill(network, Path(path))
    elif path:
        state = read_file(Path(path))[0]
        encoder = {name: value.float() for name, value in state.items() if name.startswith("image_encoder.")}
        network.load_state_dict(encoder, strict=False)
    return network
