"""A light promptable network that is told, beside the box, what the object is.

Guan et al., "Class prompt Tiny-ViT" (MedSAM on Laptop, CVPR 2024 workshop): of their work only the title and a line of
a survey are known to us: an embedding of class or modality is added to the box prompt of a Tiny-ViT MedSAM. Compare the
modality prompt of MCP-MedSAM (Lyu et al., MELBA 2025).
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.efficient_sam import EfficientSam

CLASS = 4
"""Label of a token that stands for the first class; its place does not matter. The labels below are SAM's."""

GAIN = 20.0
"""Of the stored embeddings: with the decoder's small steps they would take thousands of iterations to matter."""


class ClassPromptSam(EfficientSam):
    """:class:`EfficientSam` with an embedding per class; the encoder is frozen.

    The embedding is added to the tokens of the prompt, and once more to the mask tokens as they leave the two-way
    transformer (the latter is ours).

    Args:
        classes: number of classes.
        others: arguments of :class:`EfficientSam`.
    """

    def __init__(self, classes: int, **others: Any) -> None:
        super().__init__(**others)
        self.class_prompts = nn.Parameter(torch.zeros(classes, self.hidden))
        self.requires_grad_(False)
        for parameter in self.tuned():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> "ClassPromptSam":
        """As of any module, but the frozen encoder keeps the statistics of its norms."""
        super().train(mode)
        self.image_encoder.eval()
        return self

    def tuned(self) -> list[nn.Parameter]:
        """What is trained: the classes, the mask decoder and the sharpening head."""
        return [self.class_prompts, *self.mask_decoder.parameters(), *self.refine.parameters()]

    def _tokens(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        named = labels >= CLASS
        plain = torch.where(named, torch.full_like(labels, -1), labels)
        tokens = super()._tokens(embedding, points, plain)
        which = F.one_hot((labels - CLASS).clamp(min=0).long(), len(self.class_prompts)).to(tokens.dtype)
        told = (which * named[..., None].to(tokens.dtype)).sum(1, keepdim=True) @ (GAIN * self.class_prompts)
        tokens = tokens + ((plain >= 0)[..., None].to(tokens.dtype) * told)[:, None]
        return torch.cat([tokens, told[:, None].to(tokens.dtype)], 2)

    def _attended(self, embedding: torch.Tensor, places: torch.Tensor, own: torch.Tensor, tokens: torch.Tensor | None,
                  dense: torch.Tensor, s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if tokens is None:
            return super()._attended(embedding, places, own, tokens, dense, s0, s1)
        told, count = tokens[:, 0, -1:], len(own)
        queries, value = super()._attended(embedding, places, own, tokens[:, :, :-1], dense, s0, s1)
        return torch.cat([queries[:, :2], queries[:, 2:count] + told, queries[:, count:]], 1), value
