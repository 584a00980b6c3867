"""How good a mask is for what it is said to be: image, mask and name to an estimated Dice."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.deltas import read_file
from promptzoo.networks.text_heads import TEXT
from promptzoo.networks.text_universal import TextUniversal


class QualityHead(nn.Module):
    """Estimates the Dice of a mask from the features of the image, the mask, and the name of what it should show.

    Chen et al., "Quality Sentinel: estimating label quality and errors in medical segmentation datasets", 2024, and its
    public code (Schuture/Quality-Sentinel): one network looks at image and mask together, attention weights made from
    its pooled features and the text vector gate them twice on the way to one number (text-driven condition module).
    There a ResNet-50 looks at a slice and its mask; here the features are those of a frozen volume encoder, a few
    layers that are told the name compare them with the mask, and voxels are pooled inside and outside of it.

    Args:
        features: channels of the voxel features.
        channels: features of the encoder's levels; the last are those of the bottleneck.
        text: length of the text vectors.
        width: channels of the voxels' comparison.
        hidden: width of the last layer.
    """

    def __init__(self, features: int, channels: Sequence[int], text: int = TEXT, width: int = 24, hidden: int = 32
                 ) -> None:
        super().__init__()
        self.look = nn.Conv1d(features + 2, width, 1)
        self.told = nn.Sequential(nn.Linear(text + channels[-1], 96), nn.ReLU(), nn.Linear(96, 2 * width))
        self.again, self.opinion = nn.Conv1d(width, width, 1), nn.Conv1d(width, 1, 1)
        pooled = 2 * width + 7
        self.first_gate, self.second_gate = nn.Linear(pooled + text, pooled), nn.Linear(pooled + text, hidden)
        self.first, self.second = nn.Linear(pooled, hidden), nn.Linear(hidden, 1)

    def forward(self, text: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, grey: torch.Tensor,
                answer: torch.Tensor, voxels: torch.Tensor, *scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Estimates for masks on one window.

        Args:
            text: ``[B, T]`` unit vectors.
            mask: ``[B, 1, *S]``, 1 inside.
            weight: for how many voxels each stands, ``[1, 1, *S]``; 0 where there is no image.
            grey: values of the image, ``[1, 1, *S]``.
            answer: logits of the network's own answers to the texts, ``[B, 1, *S]``.
            voxels, scales: the encoder's answer.

        Returns:
            Logits of the Dice ``[B, 1]``, and of what the structure is thought to be ``[B, 1, *S]``.
        """
        told = text.shape[1] ** 0.5 * text
        pooled = scales[-1].flatten(2).mean(2).expand(text.shape[0], -1)
        scale, shift = self.told(torch.cat([told, pooled], 1))[..., None].chunk(2, 1)
        guess = torch.sigmoid(answer.flatten(2))
        shown = torch.cat([voxels.flatten(2), grey.flatten(2)], 1).expand(len(text), -1, -1)
        value = F.relu(self.look(torch.cat([shown, guess], 1)) * (1 + scale) + shift)
        value = F.relu(self.again(value))
        opinion = self.opinion(value)
        chance, inside, stands = torch.sigmoid(opinion), mask.flatten(2), weight.flatten(2)
        parts = [stands * inside, stands * (1 - inside) * chance]
        sizes, own = [part.sum(2) for part in parts], (stands * inside).sum(2)
        numbers = [torch.log1p(own) / 10]
        for view in (chance, guess):
            thought, agreed = (stands * view).sum(2), (parts[0] * view).sum(2)
            numbers += [2 * agreed / (own + thought + 1), agreed / (own + 1), agreed / (thought + 1)]
        means = [(part * value).sum(2) / (size + 1) for part, size in zip(parts, sizes)]
        seen = torch.cat([*means, *numbers], 1)
        both = torch.cat([seen, told], 1)
        value = F.relu(self.first(self.first_gate(both) * seen))
        return self.second(self.second_gate(both) * value), opinion.unflatten(2, mask.shape[2:])


class TextQuality(TextUniversal):
    """A text-driven network whose answers, or other masks, are judged by a head of their own; only that one is trained.

    Args:
        given: arguments of :class:`TextUniversal`.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.requires_grad_(False)
        self.quality = QualityHead(self.image_encoder.features, self.image_encoder.channels)


def begun(network: TextQuality, path: str) -> TextQuality:
    """The network with the weights of a text-driven one; its judge stays as it is.

    Args:
        network: to fill.
        path: of the weights.
    """
    state = {name: value.float() for name, value in read_file(Path(path))[0].items()}
    network.load_state_dict({**network.state_dict(), **state})
    return network
