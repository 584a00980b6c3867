"""Heads that are told more than a name: features of the organ, knowledge of the patient."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.text_heads import SPATIAL, TEXT, Convolutions


class DualPromptHead(nn.Module):
    """Two prompts condition the decoder: the organ's name, and what the organ's voxels have in common.

    Gao et al., dual-prompt segmentation of total-body PET, 2025 (title: textual prompt and disentangled organ
    features). Organ features are rows of a table in an embedding of the voxels, in which each voxel is to be nearer to
    the row of its own organ than to any other (:meth:`own_loss`), so that rows are told apart. Name and row together
    make the weights of the convolutions, and the likeness of each voxel to the row is one of their inputs.

    Args:
        features: channels of the voxel features.
        channels: features of the encoder's levels; the last are those of the bottleneck.
        text: length of the text vectors.
        classes: rows of the table; one more is that of boxes without a name.
        size: length of a row.
        sharpness: factor of the likeness.
    """

    def __init__(self, features: int, channels: Sequence[int], text: int = TEXT, classes: int = 83, size: int = 24,
                 sharpness: float = 8.0) -> None:
        super().__init__()
        self.text, self.told, self.sharpness = text, text + size, sharpness
        self.rows = nn.Parameter(F.normalize(torch.randn(classes + 1, size), dim=1))
        self.embed = nn.Sequential(nn.Conv1d(features, 2 * size, 1), nn.ReLU(), nn.Conv1d(2 * size, size, 1))
        self.convolutions = Convolutions(features + 1 + SPATIAL)
        self.controller = nn.Sequential(nn.Linear(text + size + channels[-1], 160), nn.ReLU(),
                                        nn.Linear(160, self.convolutions.numbers))
        with torch.no_grad():
            self.controller[2].bias[-1] = -1.0

    def read(self, text: torch.Tensor) -> torch.Tensor:
        """What :meth:`forward` is told ``[B, T + size]`` of text vectors beside which stands which class they are,
        ``[B, T + classes]``; zeros for no name."""
        which = text[:, self.text:]
        which = torch.cat([which, 1 - which.sum(1, keepdim=True)], 1)
        return torch.cat([text[:, :self.text], which @ self.rows], 1)

    def own_loss(self, features: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """How far voxels ``[F, N]`` of classes ``[N]`` (1 + number; 0 and -1 for others) are from being nearest to the
        rows of their own organs."""
        own = (classes > 0).nonzero()[:, 0]
        if not len(own):
            return features.new_zeros(())
        embedded = F.normalize(self.embed(features[None, :, own])[0], dim=0)
        near = self.sharpness * F.normalize(self.rows[:-1], dim=1) @ embedded
        counts = torch.bincount(classes[own], minlength=len(self.rows)).clamp(min=1)
        weight = 1.0 / counts[classes[own]]
        return (F.cross_entropy(near.T, classes[own] - 1, reduction="none") * weight).sum() / weight.sum()

    def forward(self, text: torch.Tensor, spatial: torch.Tensor, voxels: torch.Tensor, *scales: torch.Tensor
                ) -> torch.Tensor:
        """See :meth:`promptzoo.networks.text_heads.DynamicHead.forward`; ``text`` is ``[B, T + size]``."""
        pooled = scales[-1].flatten(2).mean(2).expand(text.shape[0], -1)
        words, row = text[:, :self.text], text[:, self.text:]
        weights = self.controller(torch.cat([self.text ** 0.5 * words, self.sharpness * row, pooled], 1))
        embedded = F.normalize(self.embed(voxels.flatten(2)), dim=1)
        near = torch.matmul(self.sharpness * F.normalize(row, dim=1)[:, None], embedded)
        both = torch.cat([voxels.flatten(2).expand(len(text), -1, -1), near], 1)
        return self.convolutions(weights, spatial, both)
