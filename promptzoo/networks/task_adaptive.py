"""Prompts for a frozen SAM-like network that a module makes of a few finished cases, and that the cases can adapt.

Yang et al., "TAVP: Task-Adaptive Visual Prompt for Cross-domain Few-shot Segmentation", 2024 (abstract and a public
summary; no code was found): features of several levels are fused; prototypes of class and of domain are taken apart,
and learnable prompts are made of them; the promptable network stays as it is, and what is around it is light enough to
be fine-tuned on a few images of a new domain.

What is ours: the levels are the three outputs of our convolutional encoder; the domain's prototype is the mean and the
deviation of the features of all images at hand, taken off before classes are compared; where the image is like the
masked part of the cases is found by :class:`promptzoo.networks.in_context.Likeness` and joins the dense prompt.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.in_context import Likeness
from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.text_guided import Attend
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS

Maps = Sequence[torch.Tensor]
"""Four outputs of :class:`promptzoo.networks.sam.PyramidEncoder`, coarse to fine."""


def case_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Soft Dice and cross entropy: logits ``[B, 1, h, w]``, label ``[B, 1, H, W]`` of any size, 0 to 1."""
    truth = F.interpolate(label.float(), size=logits.shape[2:], mode="area")
    chance = torch.sigmoid(logits)
    both, total = (chance * truth).sum((2, 3)), chance.sum((2, 3)) + truth.sum((2, 3))
    return (1 - (2 * both + 1) / (total + 1)).mean() + F.binary_cross_entropy_with_logits(logits, truth)


class Fusion(nn.Module):
    """Features of several levels as one map at 1/8 of the resolution.

    Args:
        widths: features of the levels, coarse to fine.
        width: features of the map.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(one, width, 1) for one in widths)
        self.mix = nn.Sequential(nn.GroupNorm(8, width), nn.GELU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, maps: Maps) -> torch.Tensor:
        """Three encoder outputs to ``[B, width, S/8, S/8]``."""
        size = maps[1].shape[2:]
        parts = [F.interpolate(maps[0], size=size, mode="bilinear"), maps[1], F.avg_pool2d(maps[2], 2)]
        value = sum(side(F.group_norm(part, 1)) for side, part in zip(self.sides, parts))
        return value + self.mix(value)


class TaskPrompts(nn.Module):
    """What fuses features and makes prompts of finished cases; all that is ever trained.

    Args:
        hidden: features of the tokens and the embedding.
        width: of the fused features, a multiple of 16.
        tokens: learnable prompts.
    """

    def __init__(self, hidden: int = 128, width: int = 64, tokens: int = 6) -> None:
        super().__init__()
        self.fuse = Fusion((hidden, hidden // 4, hidden // 8), width)
        self.likeness = nn.ModuleList(Likeness() for _ in range(2))
        self.tokens = nn.Parameter(0.1 * torch.randn(tokens, width))
        self.told = nn.Linear(4 * width, tokens * width)
        self.look, self.norm = Attend(width, width, 4), nn.LayerNorm(width)
        self.sparse = nn.Linear(width, hidden)
        self.dense = nn.Sequential(nn.Conv2d(width + 6, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU(),
                                   nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GELU(),
                                   nn.Conv2d(width, hidden, 1))

    def forward(self, query: Maps, cases: Maps, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Prompts for each query.

        Args:
            query: encoder outputs ``[B, …]``.
            cases: the same of the finished cases, ``[B, N, …]``.
            masks: of the cases ``[B, N, 1, S, S]``, 0 to 1.

        Returns:
            Tokens ``[B, 1, T, hidden]`` and a dense prompt ``[B, hidden, S/16, S/16]``.
        """
        batch, count = masks.shape[:2]
        own = self.fuse(query[:3])
        theirs = self.fuse([one.flatten(0, 1) for one in cases[:3]]).unflatten(0, (batch, count))
        inside = F.interpolate(masks.flatten(0, 1).float(), size=own.shape[2:], mode="area")
        inside = inside.unflatten(0, (batch, count))
        everything = torch.cat([own[:, None], theirs], 1)
        domain, spread = everything.mean((1, 3, 4)), everything.std((1, 3, 4)) + 1e-3
        own = (own - domain[..., None, None]) / spread[..., None, None]
        theirs = (theirs - domain[:, None, :, None, None]) / spread[:, None, :, None, None]
        classes = [(theirs * part).sum((1, 3, 4)) / (part.sum((1, 3, 4)) + 1e-3) for part in (inside, 1 - inside)]
        alike = [F.cosine_similarity(own, one[..., None, None], dim=1)[:, None] for one in classes]
        raw = [F.interpolate(one, size=own.shape[2:], mode="bilinear") for one in (query[0], cases[0].flatten(0, 1))]
        priors = [self.likeness[0](own, theirs, inside, 1 - inside),
                  self.likeness[1](raw[0], raw[1].unflatten(0, (batch, count)), inside, 1 - inside)]
        tokens = self.tokens + self.told(torch.cat([*classes, domain, spread], 1)).unflatten(1, self.tokens.shape)
        seen = own.flatten(2).transpose(1, 2)
        tokens = tokens + self.look(self.norm(tokens), seen, seen)
        return self.sparse(tokens)[:, None], self.dense(torch.cat([own, *alike, *priors], 1))


class TaskAdaptiveSam(PromptableSam):
    """A frozen :class:`PromptableSam`, and :class:`TaskPrompts` that prompt it in the place of a person.

    Args:
        width, tokens: see :class:`TaskPrompts`.
        hidden, others: see :class:`PromptableSam`.
    """

    def __init__(self, width: int = 64, tokens: int = 6, hidden: int = 128, **others: Any) -> None:
        super().__init__(hidden=hidden, **others)
        self.requires_grad_(False)
        self.task = TaskPrompts(hidden, width, tokens)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return list(self.task.parameters())

    def after(self, query: Maps, cases: Maps, masks: torch.Tensor, task: TaskPrompts | None = None) -> torch.Tensor:
        """Segment queries after finished cases.

        Args:
            query, cases, masks: see :meth:`TaskPrompts.forward`.
            task: prompts in the place of the network's own, as a few cases adapted them.

        Returns:
            Logits ``[B, 1, S/2, S/2]``.
        """
        tokens, dense = (task or self.task)(query, cases, masks)
        embedding, s1, s0, fine = query
        masks_, _ = self._masks(embedding, self._places(embedding), tokens, dense, s0, s1)
        low = F.interpolate(masks_[:, :1], size=fine.shape[2:], mode="bilinear")
        nothing = fine.new_zeros(len(fine), len(DENSE_CHANNELS), *fine.shape[2:])
        return low + self.refine(torch.cat([low / 10, fine, nothing], 1))
