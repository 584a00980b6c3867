"""A volume network that is told in words what to segment: one encoder, heads that are driven by text vectors."""
from __future__ import annotations

from pathlib import Path
from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import ResBlock
from torch import nn

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.networks.deltas import fill, read_file

TEXT, SPATIAL = 128, 1
"""Length of a text vector, and maps of spatial prompts: the box, 1 inside."""

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


class DynamicHead(nn.Module):
    """Weights of three 1x1x1 convolutions per class, made from its text vector and the pooled bottleneck.

    Liu et al., "CLIP-driven universal model for organ segmentation and tumor detection", ICCV 2023, section 3.2; Zhang
    et al., "DoDNet", CVPR 2021, section 3.3 (one-hot tasks in the place of text). A box is one more channel of the
    first convolution, and may come without a text (Du et al., "SegVol", 2023: text and spatial prompts together).

    Args:
        features: channels of the voxel features.
        bottleneck: channels of the bottleneck.
        width: channels between the convolutions.
        text: length of the text vectors.
    """

    def __init__(self, features: int, bottleneck: int, width: int = 8, text: int = TEXT) -> None:
        super().__init__()
        self.width, self.inputs = width, features + SPATIAL
        self.sizes = (width * self.inputs, width, width * width, width, width, 1)
        self.controller = nn.Sequential(nn.Linear(text + bottleneck, 160), nn.ReLU(), nn.Linear(160, sum(self.sizes)))
        with torch.no_grad():
            self.controller[2].bias[-1] = -1.0

    def forward(self, text: torch.Tensor, spatial: torch.Tensor, voxels: torch.Tensor, *scales: torch.Tensor
                ) -> torch.Tensor:
        """Logits of classes on windows, or of some classes on one window.

        Args:
            text: ``[B, T]`` unit vectors; zeros where there is only a box.
            spatial: ``[B, 1, *S]``, 1 inside the box, zeros without one.
            voxels, scales: the encoder's answer for ``B`` windows, or for one.

        Returns:
            ``[B, 1, *S]``.
        """
        pooled = scales[-1].flatten(2).mean(2).expand(text.shape[0], -1)
        scale = text.shape[1] ** 0.5  # a unit vector would be lost beside the features
        parts = self.controller(torch.cat([scale * text, pooled], 1)).split(self.sizes, 1)
        width, kept = self.width, self.inputs - SPATIAL
        first = parts[0].unflatten(1, (width, self.inputs))
        value = torch.matmul(first[..., :kept], voxels.flatten(2)) + torch.matmul(first[..., kept:], spatial.flatten(2))
        value = F.relu(value + parts[1][..., None])
        value = F.relu(torch.matmul(parts[2].unflatten(1, (width, width)), value) + parts[3][..., None])
        value = torch.matmul(parts[4][:, None], value) + parts[5][..., None]
        return value.unflatten(2, spatial.shape[2:])


class QueryHead(nn.Module):
    """Text queries that look at the image through a transformer decoder; masks are their products with the voxels.

    Zhao et al., "One model to rule them all: towards universal segmentation for medical images with text prompts"
    (SAT), 2023, section 3.3: text embeddings are the queries, multi-scale features are keys and values, the mask is the
    dot product of the refined query and the voxel embedding. The box, if there is one, shifts the answer.

    Args:
        features: channels of the voxel features.
        scales: channels of the deeper features that the queries look at, the last two of the encoder.
        text: length of the text vectors.
        hidden, heads, layers: sizes of the decoder.
    """

    def __init__(self, features: int, scales: Sequence[int], text: int = TEXT, hidden: int = 96, heads: int = 4,
                 layers: int = 2) -> None:
        super().__init__()
        self.query = nn.Linear(text, hidden)
        self.keys = nn.ModuleList(nn.Conv3d(width, hidden, 1) for width in scales[-2:])
        self.level = nn.Parameter(0.02 * torch.randn(2, hidden))
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(hidden, heads, 2 * hidden, 0.0, batch_first=True, norm_first=True), layers)
        self.voxel = nn.Sequential(nn.Conv1d(features, 2 * features, 1), nn.ReLU(),
                                   nn.Conv1d(2 * features, features, 1))
        self.mask = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU(),
                                  nn.Linear(hidden, features + 1 + SPATIAL))
        with torch.no_grad():
            self.mask[3].bias[-1 - SPATIAL] = -1.0

    def forward(self, text: torch.Tensor, spatial: torch.Tensor, voxels: torch.Tensor, *scales: torch.Tensor
                ) -> torch.Tensor:
        """See :meth:`DynamicHead.forward`."""
        keys = [key(scale).flatten(2).transpose(1, 2) + level
                for key, scale, level in zip(self.keys, scales[-2:], self.level)]
        memory = torch.cat(keys, 1).expand(text.shape[0], -1, -1)
        parts = self.mask(self.decoder(self.query(text.shape[1] ** 0.5 * text)[:, None], memory))
        kept = voxels.shape[1]
        value = torch.matmul(parts[..., :kept], self.voxel(voxels.flatten(2))) + parts[..., kept:kept + 1]
        value = value + torch.matmul(parts[..., kept + 1:], spatial.flatten(2))
        return value.unflatten(2, spatial.shape[2:])


class TextUniversal(nn.Module):
    """Encoder and head.

    Args:
        channels, fine, features: see :class:`VolumeEncoder`.
        head: ``dynamic`` or ``query``.
        text: length of the text vectors; the number of classes for one-hot vectors.
        frozen_encoder: whether only the head is trained.

    Raises:
        PromptZooError: for an unknown head.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 112), fine: int = 8, features: int = 24,
                 head: str = "dynamic", text: int = TEXT, frozen_encoder: bool = False) -> None:
        super().__init__()
        if head not in ("dynamic", "query"):
            raise PromptZooError(complain("head", head, "dynamic, query"))
        self.text = text
        self.image_encoder = VolumeEncoder(channels, fine, features)
        self.image_encoder.requires_grad_(not frozen_encoder)
        self.head = (DynamicHead(features, channels[-1], text=text) if head == "dynamic"
                     else QueryHead(features, channels, text))

    def forward(self, image: torch.Tensor, text: torch.Tensor | None = None, spatial: torch.Tensor | None = None
                ) -> torch.Tensor:
        """Logits ``[B, 1, X, Y, Z]`` of the classes ``text`` ``[B, T]`` with boxes ``spatial`` ``[B, 1, X, Y, Z]`` on
        windows ``[B, 4, X, Y, Z]``, or on one; without a text or a box these are zeros."""
        text = image.new_zeros(image.shape[0], self.text) if text is None else text
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
