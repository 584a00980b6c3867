"""A frozen SAM-like network with small adapters in its image encoder.

Cheng et al., "SAM-Med2D", 2023, section 3: an adapter after every block of the frozen encoder, which weighs channels by
a squeezed description of the image and then mixes pixels in a bottleneck. There the blocks are those of a transformer,
here the levels of a convolutional pyramid.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import nn

from promptzoo.networks.sam import PromptableSam, PyramidEncoder


class SqueezeAdapter(nn.Module):
    """Channel attention and a spatial bottleneck beside the identity; adds nothing before it is trained.

    Args:
        channels: features in and out.
        reduction: how much narrower the bottleneck is.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        narrow = max(8, channels // reduction)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, narrow, 1), nn.ReLU(),
                                     nn.Conv2d(narrow, channels, 1), nn.Sigmoid())
        self.mix = nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.ReLU(),
                                 nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow), nn.ReLU(),
                                 nn.Conv2d(narrow, channels, 1))
        nn.init.zeros_(self.mix[-1].weight)
        nn.init.zeros_(self.mix[-1].bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``[B, C, h, w]`` to the same shape."""
        return features + self.mix(features * self.squeeze(features))


class AdaptedEncoder(PyramidEncoder):
    """A :class:`PyramidEncoder` with an adapter after each level and after the embedding.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        reduction: see :class:`SqueezeAdapter`.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int, reduction: int) -> None:
        super().__init__(channels, hidden, fine)
        self.adapters = nn.ModuleList(SqueezeAdapter(width, reduction) for width in (*channels, hidden))
        self.adapted = True

    def adapt(self, place: int, features: torch.Tensor) -> torch.Tensor:
        """The adapter's answer, or the features as they are while :attr:`adapted` is off."""
        return self.adapters[place](features) if self.adapted else features


class AdaptedSam(PromptableSam):
    """A frozen :class:`PromptableSam` whose encoder's adapters, and the decoder's own tokens, are trained.

    Args:
        size, channels, hidden, fine: see :class:`PromptableSam`.
        reduction: see :class:`SqueezeAdapter`.
        tune: ``adapters`` freezes everything else; ``all`` trains the whole network, for comparison.
        sizes: further arguments of :class:`PromptableSam`.
    """

    def __init__(self, size: int = 256, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128,
                 fine: int = 12, reduction: int = 4, tune: str = "adapters", **sizes: Any) -> None:
        super().__init__(size, channels, hidden, fine, **sizes)
        self.image_encoder = AdaptedEncoder(channels, hidden, fine, reduction)
        if tune == "adapters":
            for name, parameter in self.named_parameters():
                parameter.requires_grad = "adapters." in name or "token" in name.split(".")[1]

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def tuned_share(network: nn.Module) -> float:
    """Parameters to train as a share of all."""
    count = {flag: sum(p.numel() for p in network.parameters() if p.requires_grad is flag) for flag in (True, False)}
    return count[True] / sum(count.values())
