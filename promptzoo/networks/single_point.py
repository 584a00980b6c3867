"""SPPNet: one pair of points for all nuclei of an image, and a low-level branch beside a light image encoder.

Xu et al., "SPPNet: A single-point prompt network for nuclei image segmentation", MLMI 2023, and its public code
(``xq141839/SPPNet``, ``sppnet.py`` and ``modeling/mask_decoder.py``): a convolution, a depthwise one with a residual
and a pointwise one look at the image at the decoder's resolution, and what they see is added to the decoder's upscaled
features before the masks are read off.
"""
from __future__ import annotations

from typing import Any, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.networks.efficient_sam import EfficientSam
from promptzoo.networks.students import LightPyramid

SHRINK = 4
"""Window pixels per side of a cell of the decoder's masks."""


class LowLevel(nn.Module):
    """The low-level branch.

    Args:
        features: of the decoder's masks.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.entry = nn.Sequential(nn.Conv2d(1, features, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(features))
        self.depthwise = nn.Sequential(nn.Conv2d(features, features, 3, padding=1, groups=features), nn.ReLU(),
                                       nn.BatchNorm2d(features))
        self.pointwise = nn.Sequential(nn.Conv2d(features, features, 1), nn.ReLU(), nn.BatchNorm2d(features))
        nn.init.zeros_(self.pointwise[2].weight)  # at first the branch says nothing

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Windows ``[B, 1, S, S]`` to ``[B, features, S/4, S/4]``."""
        value = self.entry(F.avg_pool2d(image, SHRINK))
        return self.pointwise(value + self.depthwise(value))


class SinglePointEncoder(LightPyramid):
    """The light encoder with the low-level branch; its third output carries both, so that one pass encodes a window.

    Args:
        hidden: features of the embedding.
        others: arguments of :class:`promptzoo.networks.students.LightPyramid`.
    """

    def __init__(self, hidden: int = 128, **others: Any) -> None:
        super().__init__(hidden=hidden, **others)
        self.low_level = LowLevel(hidden // 8)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode windows; the third output is ``[B, 2 * hidden/8, S/4, S/4]``, the branch last."""
        embedding, s1, s0, fine = super().forward(image)
        return embedding, s1, torch.cat([s0, self.low_level(image)], 1), fine


class SinglePointSam(EfficientSam):
    """:class:`EfficientSam` whose decoder adds the low-level branch to its upscaled features.

    Args:
        student, others: arguments of :class:`EfficientSam`.
    """

    def __init__(self, student: Mapping[str, Any] | None = None, hidden: int = 128, fine: int = 12,
                 **others: Any) -> None:
        super().__init__(student, hidden, fine, **others)
        self.image_encoder = SinglePointEncoder(**{"hidden": hidden, "fine": fine, **(student or {})})
        self.requires_grad_(False)
        for parameter in self.tuned():
            parameter.requires_grad_(True)

    def train(self, mode: bool = True) -> "SinglePointSam":
        """As of any module, but the frozen encoder keeps the statistics of its norms."""
        super().train(mode)
        for name, part in self.image_encoder.named_children():
            part.train(mode and name == "low_level")
        return self

    def tuned(self) -> list[nn.Parameter]:
        """What is trained: the low-level branch, the mask decoder and the sharpening head."""
        parts = (self.image_encoder.low_level, self.mask_decoder, self.sampler, self.refine)
        return [parameter for part in parts for parameter in part.parameters()]

    def _attended(self, embedding: torch.Tensor, places: torch.Tensor, own: torch.Tensor, tokens: torch.Tensor | None,
                  dense: torch.Tensor, s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen, low = s0.chunk(2, 1)
        queries, value = super()._attended(embedding, places, own, tokens, dense, seen, s1)
        return queries, value + low
