"""Networks that give all classes at once without a prompt, made from a frozen SAM-like network."""
from __future__ import annotations

from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from promptzoo.core.optional import require
from promptzoo.networks.sam import PromptableSam, PyramidEncoder
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS

LOW_RANK_TARGETS = r"image_encoder\.(levels|neck|merge)\..*\.conv\d\.conv|mask_decoder\..*\.(q_proj|v_proj)"
"""Where low-rank updates go: query and value projections, and the convolutions that stand in the place of an encoder's
attention."""

TUNED = ("class_tokens", "default_prompt", "mask_decoder.output_hypernetworks_mlps.0.", "mask_decoder.upscale_")
"""Beginnings of the names of what is trained as it is: the default prompt, and the decoder's way to masks."""


class LowRankSam(PromptableSam):
    """Low-rank updates of encoder and decoder, and one mask token per class in the place of prompts.

    Zhang and Liu, "Customized Segment Anything Model for Medical Image Segmentation" (SAMed), 2023, section 3: rank 4
    on query and value projections, the decoder, tuned, gives the masks of all classes in one pass from the default
    prompt embedding, tuned as well. There the encoder is a transformer; here its convolutions get the updates, in the
    decoder the two-way transformer does too, and one hypernetwork serves all class tokens.

    Args:
        classes: number of classes beside the background.
        rank: of the updates.
        sizes: arguments of :class:`PromptableSam`.

    Raises:
        MissingDependencyError: without ``peft``.
    """

    def __init__(self, classes: int, rank: int = 4, **sizes: Any) -> None:
        super().__init__(**sizes)
        peft = require("peft", "low-rank updates")
        self.class_tokens = nn.Embedding(classes + 1, self.hidden)
        self.default_prompt = nn.Parameter(torch.zeros(1, self.hidden, 1, 1))
        peft.inject_adapter_in_model(
            peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=LOW_RANK_TARGETS, lora_dropout=0.0), self)
        for name, parameter in self.named_parameters():
            parameter.requires_grad = "lora_" in name or name.startswith(TUNED)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def inherited(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of the base under the names that they have beside their updates."""
        own = {name.replace(".base_layer.", "."): name for name in self.state_dict()}
        found = {own.get(name, name): value for name, value in super().inherited(state).items()}
        token, tokens = found.get("mask_decoder.mask_tokens.weight"), self.class_tokens.weight
        if token is not None and "class_tokens.weight" not in found:  # the classes start around the base's first mask
            spread = token[0].float().std() * tokens.detach() / tokens.detach().std()
            found["class_tokens.weight"] = (token[:1].float() + spread).to(token.dtype)
        return found

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment whole slices.

        Args:
            image: ``[B, 1, S, S]`` in [-1, 1].

        Returns:
            Logits ``[B, 1 + classes, S/4, S/4]``; the first is the background.
        """
        embedding, s1, s0, fine = self.image_encoder(image)
        decoder = self.mask_decoder
        own = torch.cat([decoder.obj_score_token.weight, decoder.iou_token.weight, self.class_tokens.weight], 0)
        nothing = fine.new_zeros(fine.shape[0], len(DENSE_CHANNELS), fine.shape[2] // 2, fine.shape[3] // 2)
        queries, value = self._attended(embedding, self._places(embedding), own, None,
                                        self.prompt_encoder.mask_embed(nothing) + self.default_prompt, s0, s1)
        weights = decoder.output_hypernetworks_mlps[0](queries[:, 2:2 + self.class_tokens.num_embeddings])
        return torch.einsum("bnc,bchw->bnhw", weights, value)


class HeadSam(nn.Module):
    """A light convolutional head on the frozen image encoder; prompt encoder and decoder are left out.

    Shaharabany et al., "AutoSAM", 2023, and Hu et al., "How to efficiently adapt large segmentation model (SAM) to
    medical images" (AutoSAM heads), 2023: prediction heads on the frozen encoder, trained with few labels.

    Args:
        classes: number of classes beside the background.
        channels, hidden, fine: see :class:`PyramidEncoder`.
        width: features of the head.
    """

    def __init__(self, classes: int, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 128,
                 fine: int = 12, width: int = 40) -> None:
        super().__init__()
        self.image_encoder = PyramidEncoder(channels, hidden, fine)
        self.image_encoder.requires_grad_(False)
        self.context = nn.Sequential(nn.Conv2d(hidden, width, 1), nn.GroupNorm(8, width), nn.GELU(),
                                     nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.GroupNorm(8, width),
                                     nn.GELU())
        self.s1, self.s0 = nn.Conv2d(hidden // 4, width, 1), nn.Conv2d(hidden // 8, width, 1)
        self.merge = nn.ModuleList(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width),
                                                 nn.GELU()) for _ in range(2))
        self.classes = nn.Conv2d(width, classes + 1, 1)

    def tuned(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Segment whole slices; see :meth:`LowRankSam.forward`."""
        embedding, s1, s0, _ = self.image_encoder(image)
        value = F.interpolate(self.context(embedding), size=s1.shape[2:], mode="bilinear")
        value = F.interpolate(self.merge[0](value + self.s1(s1)), size=s0.shape[2:], mode="bilinear")
        return self.classes(self.merge[1](value + self.s0(s0)))
