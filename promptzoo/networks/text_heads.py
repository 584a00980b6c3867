"""Heads that are driven by text vectors: from the features of a volume encoder to one mask per structure named."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

TEXT, SPATIAL = 128, 1
"""Length of a text vector, and maps of spatial prompts: the box, 1 inside."""


class Convolutions(nn.Module):
    """Three 1x1x1 convolutions whose weights are told.

    Args:
        inputs: channels of the voxel features and the spatial maps.
        width: channels between the convolutions.
    """

    def __init__(self, inputs: int, width: int = 8) -> None:
        super().__init__()
        self.width, self.inputs = width, inputs
        self.sizes = (width * inputs, width, width * width, width, width, 1)

    @property
    def numbers(self) -> int:
        """How many numbers the weights are."""
        return sum(self.sizes)

    def forward(self, weights: torch.Tensor, spatial: torch.Tensor, voxels: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, *S]`` of weights ``[B, numbers]``, spatial maps ``[B, 1, *S]`` and voxel features
        ``[B, F, *S]``, or of one window ``[1, F, *S]``."""
        parts, width, kept = weights.split(self.sizes, 1), self.width, self.inputs - SPATIAL
        first = parts[0].unflatten(1, (width, self.inputs))
        value = torch.matmul(first[..., :kept], voxels.flatten(2)) + torch.matmul(first[..., kept:], spatial.flatten(2))
        value = F.relu(value + parts[1][..., None])
        value = F.relu(torch.matmul(parts[2].unflatten(1, (width, width)), value) + parts[3][..., None])
        value = torch.matmul(parts[4][:, None], value) + parts[5][..., None]
        return value.unflatten(2, spatial.shape[2:])


class DynamicHead(nn.Module):
    """Weights of three 1x1x1 convolutions per class, made from its text vector and the pooled bottleneck.

    Liu et al., "CLIP-driven universal model for organ segmentation and tumor detection", ICCV 2023, section 3.2; Zhang
    et al., "DoDNet", CVPR 2021, section 3.3 (one-hot tasks in the place of text). A box is one more channel of the
    first convolution, and may come without a text (Du et al., "SegVol", 2023: text and spatial prompts together).

    Args:
        features: channels of the voxel features.
        channels: features of the encoder's levels; the last are those of the bottleneck.
        width: channels between the convolutions.
        text: length of the text vectors.
    """

    def __init__(self, features: int, channels: Sequence[int], width: int = 8, text: int = TEXT) -> None:
        super().__init__()
        self.told, self.convolutions = text, Convolutions(features + SPATIAL, width)
        self.controller = nn.Sequential(nn.Linear(text + channels[-1], 160), nn.ReLU(),
                                        nn.Linear(160, self.convolutions.numbers))
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
        return self.convolutions(self.controller(torch.cat([scale * text, pooled], 1)), spatial, voxels)


class QueryHead(nn.Module):
    """Text queries that look at the image through a transformer decoder; masks are their products with the voxels.

    Zhao et al., "One model to rule them all: towards universal segmentation for medical images with text prompts"
    (SAT), 2023, section 3.3: text embeddings are the queries, multi-scale features are keys and values, the mask is the
    dot product of the refined query and the voxel embedding. The box, if there is one, shifts the answer.

    Args:
        features: channels of the voxel features.
        channels: features of the encoder's levels; the queries look at the last two.
        text: length of the text vectors.
        hidden, heads, layers: sizes of the decoder.
    """

    def __init__(self, features: int, channels: Sequence[int], text: int = TEXT, hidden: int = 96, heads: int = 4,
                 layers: int = 2) -> None:
        super().__init__()
        self.told = text
        self.query = nn.Linear(text, hidden)
        self.keys = nn.ModuleList(nn.Conv3d(width, hidden, 1) for width in channels[-2:])
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


class ClassHeads(nn.Module):
    """A light head of its own for each class, made by a controller of its own from the class's text vector and the
    pooled bottleneck.

    Liu et al., "Universal and extensible language-vision models for organ segmentation and tumor detection from
    abdominal computed tomography", 2024: language-driven parameter generator, class-specific heads; the public code of
    Zhang et al., "Continual learning for abdominal multi-organ and tumor segmentation", MICCAI 2023, has such a
    controller per class. What is a class's own is one row of a table, and the row is what the head is told beside the
    text: a new class is a new row, and no other class can tell the difference.

    Args:
        features: channels of the voxel features.
        channels: features of the encoder's levels; the last are those of the bottleneck.
        text: length of the text vectors.
        classes: rows of the table; one more is that of boxes without a name.
        hidden: width of a class's controller.
    """

    def __init__(self, features: int, channels: Sequence[int], text: int = TEXT, classes: int = 83, hidden: int = 8
                 ) -> None:
        super().__init__()
        self.text, self.convolutions = text, Convolutions(features + SPATIAL)
        inputs, numbers = text + channels[-1], self.convolutions.numbers
        self.sizes = (hidden * inputs, hidden, numbers * hidden, numbers)
        self.hidden, self.inputs, self.told = hidden, inputs, text + sum(self.sizes)
        self.rows = nn.Parameter(torch.zeros(classes + 1, sum(self.sizes)))
        with torch.no_grad():
            self.rows[:, :self.sizes[0]].normal_(std=inputs ** -0.5)

    def read(self, text: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward` is told ``[B, T + numbers]`` of text vectors beside which stands which class they are,
        ``[B, T + classes]``; zeros for no name."""
        which = text[:, self.text:]
        which = torch.cat([which, 1 - which.sum(1, keepdim=True)], 1)
        return torch.cat([text[:, :self.text], which @ self.rows], 1)

    def begun(self, generator: DynamicHead, text: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Rows ``[C, numbers]`` with which classes begin: the weights that a trained generator makes from their texts.

        Args:
            generator: shared by all classes.
            text: ``[C, T]``.
            pooled: bottleneck of a usual image, ``[channels]``.
        """
        rows = self.rows.new_zeros(len(text), sum(self.sizes))
        rows[:, :self.sizes[0]].normal_(std=self.inputs ** -0.5)
        told = torch.cat([text.shape[1] ** 0.5 * text, pooled.expand(len(text), -1)], 1)
        rows[:, -self.sizes[3]:] = generator.controller(told)
        return rows

    def forward(self, text: torch.Tensor, spatial: torch.Tensor, voxels: torch.Tensor, *scales: torch.Tensor
                ) -> torch.Tensor:
        """See :meth:`DynamicHead.forward`; ``text`` is ``[B, T + numbers]``, text vectors and rows of the table."""
        pooled = scales[-1].flatten(2).mean(2).expand(text.shape[0], -1)
        words, row = text[:, :self.text], text[:, self.text:]
        first, bias, second, start = row.split(self.sizes, 1)
        told = torch.cat([self.text ** 0.5 * words, pooled], 1)[..., None]
        value = F.relu(torch.matmul(first.unflatten(1, (self.hidden, self.inputs)), told)[..., 0] + bias)
        value = torch.matmul(second.unflatten(1, (-1, self.hidden)), value[..., None])[..., 0] + start
        return self.convolutions(value, spatial, voxels)
