"""A frozen SAM-like network that only learned prompts adapt.

Of PSAM (Wen et al., 2024) only the title is known to us, prompt-based adaptation of SAM; this is what the words mean
elsewhere: Jia et al., "Visual prompt tuning", ECCV 2022 (deep variant, in its form for convolutional networks: learned
maps added to the features of every level), and learned tokens beside those of the user's prompts in the decoder.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.sam import PromptableSam, PyramidEncoder


class PromptTunedEncoder(PyramidEncoder):
    """A frozen :class:`PyramidEncoder` with a learned map added behind every level and to the embedding.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        cells: cells per side of a map, spread over the window.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int, cells: int = 4) -> None:
        super().__init__(channels, hidden, fine)
        self.prompts = nn.ParameterList(torch.zeros(1, width, cells, cells) for width in (*channels, hidden))
        self.scales = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in (*channels, hidden))
        self.prompted = True

    def adapt(self, place: int, features: torch.Tensor) -> torch.Tensor:
        """Features with the learned prompt of their level, or as they are while :attr:`prompted` is off."""
        if not self.prompted:
            return features
        spread = F.interpolate(self.prompts[place], size=features.shape[2:], mode="bilinear")
        return features * (1 + self.scales[place]) + spread


class PromptTunedSam(PromptableSam):
    """:class:`PromptableSam`, frozen, with learned prompts in encoder and decoder.

    Args:
        tokens: learned tokens beside those of the user's prompts.
        cells: see :class:`PromptTunedEncoder`.
        size, channels, hidden, fine, sizes: see :class:`PromptableSam`.
    """

    def __init__(self, tokens: int = 8, cells: int = 4, size: int = 256,
                 channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 **sizes: Any) -> None:
        super().__init__(size, channels, hidden, fine, **sizes)
        self.image_encoder = PromptTunedEncoder(channels, hidden, fine, cells)
        self.learned_prompts = nn.Parameter(0.02 * torch.randn(1, 1, tokens, hidden))
        for name, parameter in self.named_parameters():
            parameter.requires_grad = name.startswith(("learned_prompts", "image_encoder.prompts",
                                                       "image_encoder.scales"))

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _tokens(self, embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        told = super()._tokens(embedding, points, labels)
        if not self.image_encoder.prompted:
            return told
        return torch.cat([told, self.learned_prompts.to(told.dtype).expand(len(told), -1, -1, -1)], 2)
