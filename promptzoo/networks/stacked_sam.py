"""A frozen SAM-like network that sees a slice together with its neighbours in space or time.

Wu et al., "Medical SAM Adapter", 2023, sections 3.2 and 3.3 (public code ``MedicineToken/Medical-SAM-Adapter``):
adapters in the frozen encoder whose depth branch attends along the slices of a volume at each place, and adapters of
the decoder whose weights are made from the prompt. Chen et al., "Cine cardiac magnetic resonance segmentation using
temporal-spatial adaptation of prompt-enabled segment-anything-model", JCMR 2025: the same along the frames of a heart
cycle, weights frozen. There both branches are attention in the blocks of a transformer; here the spatial one is a
depthwise convolution in the bottleneck of an adapter behind each level of a convolutional pyramid.
"""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.sam import PromptableSam, PyramidEncoder

HEADS = 4

GATE_GAIN = 10.0
"""Of the stored gates: with the steps of a short training they would stay closed."""


class StackAdapter(nn.Module):
    """Bottleneck beside the identity: within each slice a depthwise convolution, across slices attention at each place.

    Across slices, a place's features move towards what the slices say together, by a gate per channel. Adds nothing
    before it is trained.

    Args:
        channels: features in and out, a multiple of 8.
        slices: slices that are seen together.
        across: False leaves the attention out.
    """

    def __init__(self, channels: int, slices: int, across: bool = True) -> None:
        super().__init__()
        narrow = channels // 2
        self.slices, self.across = slices, across
        self.down, self.up = nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, channels, 1)
        self.within = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow)
        self.places = nn.Parameter(0.02 * torch.randn(slices, narrow))
        self.attend = nn.Linear(narrow, 2 * narrow)
        self.back = nn.Conv2d(narrow, channels, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(channels, 1, 1))
        nn.init.orthogonal_(self.down.weight)
        self.back.weight.data = self.down.weight.data.transpose(0, 1).clone()
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B * slices, C, h, w]`` to the same."""
        narrow = self.down(value)
        found = value + self.up(F.gelu(self.within(F.gelu(narrow))))
        if not self.across:
            return found
        return found + GATE_GAIN * self.gate * self.back(self._together(narrow) - narrow)

    def _together(self, narrow: torch.Tensor) -> torch.Tensor:
        """Attention along the slices, ``[B * slices, C, h, w]``."""
        width, height, columns = narrow.shape[1:]
        tokens = narrow.reshape(-1, self.slices, width, height, columns).permute(0, 3, 4, 1, 2)  # [B, h, w, K, C]
        query, key = self.attend(tokens + self.places).reshape(
            *tokens.shape[:4], 2, HEADS, width // HEADS).permute(4, 0, 1, 2, 5, 3, 6)
        told = tokens.reshape(*tokens.shape[:4], HEADS, width // HEADS).transpose(3, 4)
        weight = torch.softmax(query @ key.transpose(-1, -2) / (width // HEADS) ** 0.5, -1)
        found = (weight @ told).permute(0, 4, 3, 5, 1, 2)
        return found.reshape(narrow.shape)


class StackEncoder(PyramidEncoder):
    """A frozen :class:`PyramidEncoder` on each slice of a stack, with an adapter across the stack behind each level.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        slices: slices of a stack, odd; the outputs are those of the middle one.
        across: see :class:`StackAdapter`.
    """

    def __init__(self, channels: Sequence[int], hidden: int, fine: int, slices: int, across: bool = True) -> None:
        super().__init__(channels, hidden, fine)
        self.slices, self.adapted = slices, True
        self.adapters = nn.ModuleList(StackAdapter(width, slices, across) for width in channels)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode stacks ``[B, slices, S, S]``; see :meth:`PyramidEncoder.forward`."""
        if not self.adapted:
            return super().forward(image[:, self.slices // 2, None])
        value, features = self.stem(image.reshape(-1, 1, *image.shape[2:])), []
        for level, adapter in zip(self.levels, self.adapters):
            value = adapter(level(value))
            features.append(value.reshape(-1, self.slices, *value.shape[1:])[:, self.slices // 2])
        return self.merged(features)


class PromptAdapter(nn.Module):
    """Adapter of the image embedding whose inner weights are made from the prompt (HyP-Adpt); at first adds nothing.

    Args:
        hidden: features of tokens and embedding.
        narrow: features of the bottleneck.
    """

    def __init__(self, hidden: int, narrow: int = 12) -> None:
        super().__init__()
        self.narrow = narrow
        self.down, self.up = nn.Conv2d(hidden, narrow, 1), nn.Conv2d(narrow, hidden, 1)
        self.weights, self.norm = nn.Linear(hidden, narrow * narrow), nn.LayerNorm(narrow)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, embedding: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """``[B, hidden, h, w]`` for prompts ``[B, 1, T, hidden]``."""
        made = self.weights(tokens.mean((1, 2))).reshape(-1, self.narrow, self.narrow)
        value = torch.einsum("bnm,bmhw->bhwn", made, F.gelu(self.down(embedding)))
        return embedding + self.up(F.relu(self.norm(value)).permute(0, 3, 1, 2))


class StackedSam(PromptableSam):
    """:class:`PromptableSam`, frozen, on stacks of slices; adapters and the decoder's own tokens are trained.

    Args:
        slices, across: see :class:`StackEncoder`.
        hyper: whether the decoder has a :class:`PromptAdapter`.
        size, channels, hidden, fine, sizes: see :class:`PromptableSam`.

    Raises:
        BundleError: for an even number of slices.
    """

    def __init__(self, slices: int = 5, across: bool = True, hyper: bool = True, size: int = 256,
                 channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 **sizes: Any) -> None:
        super().__init__(size, channels, hidden, fine, **sizes)
        if slices % 2 == 0 or slices < 1:
            raise BundleError(complain("slices of StackedSam", slices, "an odd number"))
        self.image_encoder = StackEncoder(channels, hidden, fine, slices, across)
        self.prompt_adapter = PromptAdapter(hidden) if hyper else None
        for name, parameter in self.named_parameters():
            parameter.requires_grad = "adapter" in name or "token" in name.split(".")[1]

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, image: torch.Tensor, points: torch.Tensor | None = None, labels: torch.Tensor | None = None,
                dense: torch.Tensor | None = None) -> torch.Tensor:
        """As :meth:`PromptableSam.forward`, for stacks ``[B, slices, S, S]``; a lone slice stands for all its
        neighbours."""
        stack = image.expand(-1, self.image_encoder.slices, -1, -1) if image.shape[1] == 1 else image
        return super().forward(stack, points, labels, dense)

    def _masks(self, embedding: torch.Tensor, places: torch.Tensor, tokens: torch.Tensor, dense: torch.Tensor,
               s0: torch.Tensor, s1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.prompt_adapter is not None and self.image_encoder.adapted:
            embedding = self.prompt_adapter(embedding, tokens)
        return super()._masks(embedding, places, tokens, dense, s0, s1)
