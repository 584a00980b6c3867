"""A segmenter of several sequences with a transformer encoder, frozen, and two kinds of learned prompts for it.

The segmenter is MONAI's UNETR (Hatamizadeh et al., WACV 2022). Saeed et al., "Prompt-based tuning of transformer models
for multi-center medical image segmentation of head and neck cancer", Bioengineering 2023 (abstract; the code was not
found): learnable tokens, below 1 % of the parameters, enter the layers of its encoder and are tuned on a new centre
while all else is frozen. Cheng et al., "Frequency filtering prompt tuning", 2024 (title and a line of a survey):
frequency-filter and spatial-perturbation prompts stand in for sequences that are missing.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets.unetr import UNETR
from torch import nn

PLACES = 8
"""Cells per side of a spatial perturbation, and frequencies per axis of a filter; spread over the image."""


class FrequencyFill(nn.Module):
    """What stands in for missing sequences: those that are there, filtered in the frequency domain, and a perturbation.

    Args:
        sequences: number of sequences; every set of missing ones has weights and a perturbation of its own, all share
            the filters.
    """

    def __init__(self, sequences: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.zeros(sequences ** 2, 2, 2 * PLACES, PLACES))
        self.mix = nn.Parameter(torch.zeros(2 ** sequences, sequences, sequences))
        self.perturbation = nn.Parameter(torch.zeros(2 ** sequences, sequences, PLACES, PLACES))
        self.sign = nn.Parameter(torch.ones(2 ** sequences, sequences, sequences))

    def forward(self, image: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Fill in.

        Args:
            image: ``[B, C, H, W]``.
            there: ``[B, C]``, 1 or 0; what is there is left as it is.

        Returns:
            ``[B, C, H, W]``.
        """
        powers = 2 ** torch.arange(there.shape[1], device=there.device)
        pattern = (there.long() * powers).sum(1)
        weight = torch.softmax(self.mix[pattern] + (there[:, None] - 1) * 1e4, 2) * self.sign[pattern]
        spectrum = torch.fft.rfft2(image)
        rows, columns = spectrum.shape[2:]
        gains = F.interpolate(self.gains, size=(rows, columns), mode="bilinear", align_corners=True)
        gains = torch.roll(gains, rows // 2, 2).unflatten(0, there.shape[1:] * 2)  # negative frequencies come last
        gain = torch.complex(1 + gains[:, :, 0], gains[:, :, 1])
        mixed = torch.einsum("bma,mahw,bahw->bmhw", (weight * there[:, None]).to(gain.dtype), gain, spectrum)
        filled = torch.fft.irfft2(mixed, s=image.shape[2:])
        filled = filled + F.interpolate(self.perturbation[pattern], size=image.shape[2:], mode="bilinear")
        kept = there[..., None, None].to(image.dtype)
        return kept * image + (1 - kept) * filled


class SequenceUnetr(UNETR):
    """UNETR in two dimensions, frozen but for its prompts.

    Args:
        sequences: channels of the image.
        side: of the image in pixels, a multiple of 16.
        hidden: features of the transformer.
        features: of the convolutions.
        tokens: learned tokens that enter each of the first ``depth`` layers of the transformer; those of a layer are
            replaced by the next layer's.
        depth: layers with tokens, 1 (tokens at the input alone) to 12.
        fill: whether missing sequences are filled in by :class:`FrequencyFill`, or left as they are.
        tune: what is trained: ``prompts``, or ``base``: the segmenter, which then has no prompts.
    """

    def __init__(self, sequences: int = 2, side: int = 96, hidden: int = 64, features: int = 8, tokens: int = 0,
                 depth: int = 12, fill: bool = False, tune: str = "prompts") -> None:
        super().__init__(in_channels=sequences, out_channels=1, img_size=(side, side), feature_size=features,
                         hidden_size=hidden, mlp_dim=2 * hidden, num_heads=4, spatial_dims=2)
        self.sequences, self.side, self.tune, self.prompted = sequences, side, tune, True
        if tokens and tune != "base":
            self.tokens = nn.Parameter(0.02 * torch.randn(depth, tokens, hidden))
        if fill and tune != "base":
            self.fill = FrequencyFill(sequences)
        for name, parameter in self.named_parameters():
            parameter.requires_grad = (tune == "base") != name.startswith(("tokens", "fill."))

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def filled(self, image: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """Sequences ``[B, C, S, S]`` with prompts in the place of those that are not ``there`` ``[B, C]``; by default
        those that are constant are missing."""
        if not hasattr(self, "fill") or not self.prompted:
            return image
        there = (image.flatten(2).std(2) > 1e-4) if there is None else there
        return self.fill(image, there.to(image.dtype))

    def segment(self, image: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, S, S]`` of sequences ``[B, C, S, S]`` in [-1, 1]."""
        last, states = self._encoded(image)
        values = [self.encoder1(image), *(encoder(self.proj_feat(states[n])) for encoder, n in (
            (self.encoder2, 3), (self.encoder3, 6), (self.encoder4, 9)))]
        value = self.proj_feat(last)
        for decoder, skip in zip((self.decoder5, self.decoder4, self.decoder3, self.decoder2), values[::-1]):
            value = decoder(value, skip)
        return self.out(value)

    def _encoded(self, image: torch.Tensor) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
        """The transformer's output and those of its layers, without the tokens."""
        value, states = self.vit.patch_embedding(image), []
        own = value.shape[1]
        layers = len(self.tokens) if self.prompted and hasattr(self, "tokens") else 0
        for number, block in enumerate(self.vit.blocks):
            if number < layers:
                added = self.tokens[number].to(value.dtype).expand(len(value), -1, -1)
                value = torch.cat([value[:, :own], added], 1)
            value = block(value)
            states.append(value[:, :own])
        return self.vit.norm(value[:, :own]), states

    def forward(self, image: torch.Tensor, there: torch.Tensor | None = None) -> torch.Tensor:
        """Segment, see :meth:`filled` and :meth:`segment`.

        Images of another size are brought to ``side`` and back; sequences that lack at the end are missing.
        """
        size, lacking = image.shape[2:], self.sequences - image.shape[1]
        if lacking:
            image = torch.cat([image, image.new_zeros(len(image), lacking, *size)], 1)
        if size == (self.side, self.side):
            return self.segment(self.filled(image, there))
        logits = self(F.interpolate(image, size=(self.side, self.side), mode="bilinear"), there)
        return F.interpolate(logits, size=size, mode="bilinear")
