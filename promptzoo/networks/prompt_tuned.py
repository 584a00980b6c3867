"""Structures learned as prompt tokens of a frozen image encoder: a few kilobytes each; the encoder never changes."""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.sam import PyramidEncoder

POSITIONS = 8
"""Features that say where in the slice a place lies."""


def position_code(height: int, width: int) -> torch.Tensor:
    """Where the cells of a grid lie, low polynomials and waves of row and column: ``[1, POSITIONS, height, width]``."""
    rows = (torch.arange(height)[:, None] + 0.5) / height * 2 - 1
    columns = (torch.arange(width)[None] + 0.5) / width * 2 - 1
    row, column = rows.expand(height, width), columns.expand(height, width)
    return torch.stack([row, column, row * row, column * column, row * column, torch.cos(3 * row),
                        torch.cos(3 * column), torch.sin(3 * row) * torch.sin(3 * column)])[None]


class LearnedPrompt(nn.Module):
    """One structure: tokens that are compared with frozen features at every place, and a tiny head on their maps.

    Tokens first look at the image (Bai et al., "SLPT: Selective Labeling Meets Prompt Tuning", 2023: prompts of a
    frozen backbone with a feature-aware updater); prompts, their norms and a head are all that is trained. Several sets
    of tokens answer apart, kept different in training, so that their disagreement tells where more labels would help.
    What differs: the backbone is convolutional and the tokens meet its outputs, not each of its layers, so that an
    image is encoded once for any number of structures.

    Args:
        tokens: per set.
        sets: of tokens.
        hidden: features of the encoder's embedding; see :class:`promptzoo.networks.sam.PyramidEncoder`.
    """

    def __init__(self, tokens: int = 8, sets: int = 3, hidden: int = 128) -> None:
        super().__init__()
        width = hidden + hidden // 4 + POSITIONS
        self.sets = sets
        self.tokens = nn.Parameter(torch.randn(sets, tokens, width) / width ** 0.5)
        self.bias, self.gate = nn.Parameter(torch.zeros(sets, tokens)), nn.Parameter(torch.full((sets, tokens), 0.1))
        self.near = nn.Conv2d(tokens, tokens, 3, padding=2, dilation=2)
        self.far = nn.Conv2d(tokens, tokens, 3, padding=4, dilation=4)
        self.fine, self.out = nn.Conv2d(hidden // 8 + tokens, 8, 1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor) -> torch.Tensor:
        """Segment encoded slices.

        Args:
            embedding, s1, s0: first three outputs of the encoder, for windows of S pixels.

        Returns:
            Logits ``[B, sets, S/4, S/4]``; the answer is their mean.
        """
        seen = torch.cat([F.interpolate(_normed(embedding), size=s1.shape[2:], mode="bilinear"), _normed(s1),
                          position_code(*s1.shape[2:]).to(s1).expand(len(s1), -1, -1, -1)], 1)
        flat = seen.flatten(2)
        looks = torch.softmax(torch.einsum("bcn,ktc->bktn", flat, self.tokens) * 4 / seen.shape[1] ** 0.5, -1)
        found = torch.einsum("bktn,bcn->bktc", looks, flat)
        tokens = self.tokens + torch.tanh(self.gate)[..., None] * F.normalize(found, dim=-1)
        maps = torch.einsum("bcn,bktc->bktn", flat, tokens) + self.bias[..., None]
        value = F.gelu(maps.reshape(len(s1) * self.sets, -1, *s1.shape[2:]))
        value = value + F.gelu(self.near(value))
        value = F.interpolate(value + F.gelu(self.far(value)), size=s0.shape[2:], mode="bilinear")
        side = _normed(s0)[:, None].expand(-1, self.sets, -1, -1, -1).flatten(0, 1)
        logits = self.out(F.gelu(self.fine(torch.cat([side, value], 1))))
        return logits.reshape(len(s1), self.sets, *s0.shape[2:])

    def alike(self) -> torch.Tensor:
        """Mean squared cosine between equal tokens of different sets; a penalty that keeps the sets apart."""
        unit = F.normalize(self.tokens, dim=-1)
        cosine = torch.einsum("atc,btc->abt", unit, unit)
        away = 1 - torch.eye(self.sets, device=cosine.device)[..., None]
        return (cosine ** 2 * away).sum() / away.expand_as(cosine).sum().clamp(min=1)


class PromptTunedSam(nn.Module):
    """The frozen image encoder of a SAM-like network, and the structures that a bundle ships as learned prompts.

    Args:
        classes: number of structures.
        tokens, sets: see :class:`LearnedPrompt`.
        channels, hidden, fine: see :class:`PyramidEncoder`.
    """

    def __init__(self, classes: int = 1, tokens: int = 8, sets: int = 3,
                 channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12) -> None:
        super().__init__()
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        self.prompts = nn.ModuleList(LearnedPrompt(tokens, sets, hidden) for _ in range(classes))

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return list(self.prompts.parameters())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment whole slices.

        Args:
            image: ``[B, 1, S, S]`` in [-1, 1].

        Returns:
            Logits ``[B, classes, S/4, S/4]``, the means over the sets of tokens.
        """
        return torch.cat([sets.mean(1, keepdim=True) for sets in self.answers(image)], 1)

    def answers(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Logits ``[B, sets, S/4, S/4]`` of each structure."""
        with torch.no_grad():
            embedding, s1, s0, _ = self.image_encoder(image)
        return [prompt(embedding, s1, s0) for prompt in self.prompts]


class PromptsForward(nn.Module):
    """The shipped structures as engines compile them: encoder outputs in, ``[B, classes * sets, S/4, S/4]`` out."""

    def __init__(self, network: PromptTunedSam) -> None:
        super().__init__()
        self.prompts = network.prompts

    def forward(self, embedding: torch.Tensor, s1: torch.Tensor, s0: torch.Tensor) -> torch.Tensor:
        """See :meth:`LearnedPrompt.forward`."""
        return torch.cat([prompt(embedding, s1, s0) for prompt in self.prompts], 1)


def _normed(features: torch.Tensor) -> torch.Tensor:
    """Features of an image at mean 0 and deviation 1, without parameters."""
    return F.group_norm(features, 1)
