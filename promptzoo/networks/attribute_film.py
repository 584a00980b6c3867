"""Structures of an image under a clinical record, which a person may correct.

Sun et al., "AEPL: Automated and Editable Prompt Learning for Brain Tumor Segmentation", ISBI 2025, and its public code:
the pooled bottleneck is classified, the probabilities make a scale and a bias for every level of the decoder, and a
person may put the true grade in their place. Bai et al., "FTSNet", Bioengineering 2024 (abstract): a dynamic prompt
head makes a segmentation head for each image from what its classifier says.

What is ours: 2D; the frozen encoder of ``sam_box_finetune`` instead of a U-Net's; the record holds what is asked for,
too, and attributes of other kinds than the grade; a click; attention over the image at the coarsest scale.
"""
from __future__ import annotations

from typing import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.blocks.unetr_block import UnetrUpBlock
from torch import nn

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.data.synthesis.clinical import STUDIES
from promptzoo.networks.sam import PyramidEncoder
from promptzoo.networks.text_guided import NORM, Attend, places
from promptzoo.text.records import CLASSES, FIELD_OF, LENGTH, SIZES, STUDY_OF

INJECTIONS = ("film", "dynamic")
HEADS = (len(STUDIES), *SIZES.values())
"""Classes of each attribute head: study, grade, segment, position."""


class AttributeFilm(nn.Module):
    """Encoder, attribute heads, and a decoder that a record modulates.

    Args:
        channels, hidden, fine: see :class:`PyramidEncoder`.
        width: features of the coarsest scale of the decoder, a multiple of 32.
        inject: ``film`` (scale and bias at every level) or ``dynamic`` (the record makes the weights of the last
            convolutions).

    Raises:
        PromptZooError: for another way to inject.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128, fine: int = 12,
                 width: int = 96, inject: str = "film") -> None:
        super().__init__()
        if inject not in INJECTIONS:
            raise PromptZooError(complain("way to inject attributes", inject, ", ".join(INJECTIONS)))
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        maps, widths = (hidden, hidden // 4, hidden // 8), (width, width // 2, 32)
        self.look = nn.Sequential(nn.Conv2d(sum(maps), 64, 3, padding=1), nn.GroupNorm(8, 64), nn.GELU(),
                                  nn.Conv2d(64, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.GELU())
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(64 * 5, 96), nn.GELU(), nn.Linear(96, count))
                                   for count in HEADS)
        self.itself, self.norms = Attend(width, width, 4), nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.sides = nn.ModuleList(nn.Conv2d(a + 1, b, 1) for a, b in zip(maps, widths))
        self.ups = nn.ModuleList(UnetrUpBlock(2, a, b, 3, 2, NORM, True) for a, b in zip(widths[:-1], widths[1:]))
        self.blocks = nn.ModuleList(UnetResBlock(2, one, one, 3, 1, NORM) for one in widths)
        self.record = nn.Sequential(nn.Linear(LENGTH, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU())
        self.inject, self.widths, self.inner = inject, widths, 12
        counts = ([2 * one for one in widths] if inject == "film" else
                  [self.inner * widths[-1], self.inner, 4 * self.inner, 4])
        self.made = nn.ModuleList(nn.Linear(128 + (widths[0] if inject == "dynamic" else 0), n) for n in counts)
        self.out = nn.Conv2d(widths[-1], 4, 1) if inject == "film" else nn.Identity()
        if inject == "film":
            nn.init.constant_(self.out.bias, -2.0)  # type: ignore[arg-type, union-attr]
        else:
            nn.init.constant_(self.made[3].bias, -2.0)  # type: ignore[arg-type, union-attr]
        first = torch.tensor([[float(STUDY_OF[name] == study and (not n or STUDY_OF[CLASSES[n - 1]] != study))
                               for n, name in enumerate(CLASSES)] for study in STUDIES])
        self.register_buffer("first", first, persistent=False)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def attributes(self, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits of study, grade, segment and position from three maps of the encoder, coarse to fine."""
        seen = self.look(torch.cat([maps[0], F.max_pool2d(maps[1], 2), F.max_pool2d(maps[2], 4)], 1))
        pooled = torch.cat([F.adaptive_avg_pool2d(seen, 2).flatten(1), seen.amax((2, 3))], 1)
        return tuple(head(pooled) for head in self.heads)

    def default_record(self, told: Sequence[torch.Tensor]) -> torch.Tensor:
        """The record ``[B, LENGTH]`` that nobody wrote: the first target of the predicted study, and its attribute."""
        study = told[0].softmax(1)
        parts = [study @ self.first]
        for name, logits in zip(SIZES, told[1:]):
            own = sum(study[:, n:n + 1] for n, one in enumerate(STUDIES) if FIELD_OF[one] == name)
            parts.append(own * logits.softmax(1))
        return torch.cat(parts, 1)

    def decode(self, record: torch.Tensor, click: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """Segment under records.

        Args:
            record: ``[B, LENGTH]``, see :func:`promptzoo.text.records.vector`.
            click: ``[B, 1, S/4, S/4]``, 1 around the click, zeros without one.
            maps: three maps of the encoder, coarse to fine.

        Returns:
            Logits ``[B, 1, S/2, S/2]``.
        """
        code = self.record(record)
        clicks = [F.max_pool2d(click, 4), F.max_pool2d(click, 2), click]
        sides = [side(torch.cat([one, here], 1)) for side, one, here in zip(self.sides, maps, clicks)]
        value = self._attended(sides[0])
        for n, block in enumerate(self.blocks):
            value = value if n == 0 else self.ups[n - 1](value, sides[n])
            if self.inject == "film":
                scale, bias = self.made[n](code)[..., None, None].chunk(2, 1)
                value = value * (1 + scale) + bias
            value = block(value)
            if n == 0:
                code = torch.cat([code, value.mean((2, 3))], 1) if self.inject == "dynamic" else code
        return F.pixel_shuffle(self.out(value) if self.inject == "film" else self._headed(code, value), 2)

    def _headed(self, code: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        first, bias, second, last = (one(code) for one in self.made)
        flat = F.gelu(first.unflatten(1, (self.inner, -1)) @ value.flatten(2) + bias[..., None])
        return (second.unflatten(1, (4, -1)) @ flat + last[..., None]).unflatten(2, value.shape[2:])

    def _attended(self, value: torch.Tensor) -> torch.Tensor:
        where = places(value.shape[2], value.shape[3], value.shape[1]).to(value)
        tokens = value.flatten(2).transpose(1, 2)
        normed = self.norms[0](tokens)
        tokens = tokens + where + self.norms[1](self.itself(normed + where, normed + where, normed))
        return tokens.transpose(1, 2).reshape(value.shape)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment whole images ``[B, 1, S, S]`` under the predicted record: logits ``[B, 1, S/2, S/2]``."""
        maps = self.image_encoder(image)[:3]
        nothing = maps[2][:, :1] * 0
        return self.decode(self.default_record(self.attributes(*maps)), nothing, *maps)
