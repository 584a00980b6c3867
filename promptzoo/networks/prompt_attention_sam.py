"""A light Mamba network whose decoder looks at the prompt once more at every finer level.

Of LPAM (Hu et al., 2024) only a line of a survey is known to us: a light Mamba network with prompt-attention blocks,
for polyps, colonoscopy and skin. Here the encoder is that of the bundle with selective scans, and each finer level of
the mask decoder attends to the prompt's tokens as they leave the two-way transformer.
"""
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from promptzoo.networks.efficient_sam import EfficientSam


class PromptAttention(nn.Module):
    """Pixels look at the tokens of the prompt; at first this adds nothing.

    Args:
        width: features of the pixels.
        hidden: features of the tokens.
        inner: features that are compared.
    """

    def __init__(self, width: int, hidden: int, inner: int = 16) -> None:
        super().__init__()
        self.scale = inner ** -0.5
        self.query = nn.Conv2d(width, inner, 1)
        self.key, self.value = nn.Linear(hidden, inner), nn.Linear(hidden, inner)
        self.local, self.out = nn.Conv2d(inner, inner, 3, padding=1, groups=inner), nn.Conv2d(inner, width, 1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, value: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Features ``[B, width, h, w]`` and tokens ``[B, T, hidden]`` to features."""
        query = self.query(value).flatten(2).transpose(1, 2)
        weight = torch.softmax(query @ self.key(tokens).transpose(1, 2) * self.scale, -1)
        seen = (query * (weight @ self.value(tokens))).transpose(1, 2).reshape(len(value), -1, *value.shape[2:])
        return value + self.out(torch.relu(self.local(seen)))


class PromptAttentionSam(EfficientSam):
    """:class:`EfficientSam` with :class:`PromptAttention` at the decoder's finer levels; the encoder is frozen.

    Args:
        others: arguments of :class:`EfficientSam`.
    """

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        self.prompt_attention = nn.ModuleList(PromptAttention(self.hidden // share, self.hidden) for share in (4, 8))
        self.requires_grad_(False)
        for parameter in self.tuned():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> "PromptAttentionSam":
        """As of any module, but the frozen encoder keeps the statistics of its norms."""
        super().train(mode)
        self.image_encoder.eval()
        return self

    def tuned(self) -> list[nn.Parameter]:
        """What is trained: the attention, the mask decoder and the sharpening head."""
        return [parameter for part in (self.prompt_attention, self.mask_decoder, self.refine)
                for parameter in part.parameters()]

    def _attended(self, embedding: torch.Tensor, places: torch.Tensor, own: torch.Tensor, tokens: torch.Tensor | None,
                  dense: torch.Tensor, s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        decoder = self.mask_decoder
        queries, keys = self._looked(embedding, places, own, tokens, dense)
        value = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(keys) + s1))
        value = self.prompt_attention[0](value, queries)
        value = decoder.activation(decoder.upscale_conv2(value) + s0)
        return queries, self.prompt_attention[1](value, queries)
