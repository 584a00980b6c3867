"""Task decoders beside a frozen generalist, chosen by a gate, so that what was known is not forgotten.

Wang et al., "SAM-Med3D-MoE: Towards a non-forgetting Segment Anything Model via mixture of experts for 3D medical image
segmentation", MICCAI 2024: fine-tuned decoders stand beside the general one, a gating network reads image and prompt
embeddings and gives each a confidence, and an expert answers only where its confidence passes a threshold; no parameter
of the generalist is changed. Here the experts begin as copies of the generalist's decoder and learn with the gate.
"""
from __future__ import annotations

from typing import Sequence

import torch
from torch import nn

from promptzoo.core.errors import BundleError, complain
from promptzoo.networks.sam3d import MultiLevelDecoder, PromptableVolume

_NEW = ("experts.", "gate.")


class Standardised(nn.Module):
    """Features by their mean and spread over all that training saw so far; a batch's own would hide what a whole batch
    has in common.

    Args:
        width: features.
        least: share of a new batch in the statistics.
    """

    def __init__(self, width: int, least: float = 0.01) -> None:
        super().__init__()
        self.least = least
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """``[B, width]``, same shape; in training the batch becomes part of the statistics first."""
        if self.training:
            self.batches += 1
            share = max(1.0 / float(self.batches), self.least)
            self.mean.lerp_(value.detach().mean(0), share)
            off = (value.detach() - self.mean).square().mean(0)
            self.spread.copy_(self.spread.square().lerp_(off, share).sqrt_())
        return (value - self.mean) / self.spread.clamp(min=1e-3)


class VolumeExperts(PromptableVolume):
    """:class:`promptzoo.networks.sam3d.PromptableVolume` with task decoders; everything else is frozen.

    Args:
        channels, hidden, fine, layers, queries: see there.
        experts: task decoders.
        threshold: confidence from which an expert answers instead of the generalist, in (0, 1).

    Raises:
        BundleError: for no expert, or a threshold outside its range.
    """

    def __init__(self, channels: Sequence[int] = (24, 48, 80, 112, 144), hidden: int = 96, fine: int = 8,
                 layers: int = 2, queries: int = 8, experts: int = 2, threshold: float = 0.5) -> None:
        super().__init__(channels, hidden, fine, layers, queries)
        if experts < 1 or not 0 < threshold < 1:
            raise BundleError(complain("task decoders and their threshold", [experts, threshold],
                                       "at least one, and a number between 0 and 1"))
        self.threshold = threshold
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.experts = nn.ModuleList(MultiLevelDecoder(channels, hidden, fine) for _ in range(experts))
        self.gate = nn.Sequential(Standardised(3 * hidden), nn.Linear(3 * hidden, hidden), nn.GELU(),
                                  nn.Linear(hidden, 1 + experts))

    def confidence(self, embedding: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Confidence ``[B, 1 + experts]`` in the generalist and in each expert, of sum 1.

        Args:
            embedding: of the image, ``[B, hidden, *S / 8]``.
            token: the mask token after it met the prompts, ``[B, hidden]``.
        """
        return torch.softmax(self.preference(embedding, token), 1)

    def preference(self, embedding: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
        """Logits of :meth:`confidence`."""
        seen = embedding.flatten(2)
        return self.gate(torch.cat([seen.mean(2), seen.std(2), token], 1))

    def decode(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`PromptableVolume.decode`, by the decoder that the gate chooses."""
        answers, attended, tokens, gate = self._answers(*inputs)
        weight = torch.softmax(gate, 1)
        best = weight[:, 1:].argmax(1)
        sure = (weight[:, 1:].amax(1) >= self.threshold).to(best.dtype)
        logits, value = _chosen(answers, sure * (1 + best))
        return logits, self.predicted_iou(logits, value, attended, tokens[:, 1])

    def by_task(self, task: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As :meth:`decode`, by the decoders of known tasks ``[B]`` int64 (0: the generalist), and what the gate would
        have said, ``[B, 1 + experts]`` logits."""
        answers, attended, tokens, gate = self._answers(*inputs)
        logits, value = _chosen(answers, task)
        return logits, self.predicted_iou(logits, value, attended, tokens[:, 1]), gate

    def _answers(self, *inputs: torch.Tensor) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor,
                                                       torch.Tensor, torch.Tensor]:
        """What all decoders say, the attended embedding, the tokens and the gate's logits."""
        *encoded, points, labels, dense = inputs
        features, embedding, fine = encoded[:-2], encoded[-2], encoded[-1]
        tokens, attended = self.attend(embedding, points, labels)
        joined = [*self.dense(features, dense), features[-1]]
        answers = [decoder(joined, attended, tokens[:, 0], fine, dense)
                   for decoder in (self.mask_decoder, *self.experts)]
        return answers, attended, tokens, self.preference(embedding, tokens[:, 0])

    def inherited(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of the generalist, its decoder also for every expert."""
        found = super().inherited(state)
        if not any(name.startswith(_NEW) for name in found):
            decoder = {name: value for name, value in found.items() if name.startswith("mask_decoder.")}
            for n in range(len(self.experts)):
                found.update((name.replace("mask_decoder.", f"experts.{n}.", 1), value)
                             for name, value in decoder.items())
        return found


def _chosen(answers: Sequence[tuple[torch.Tensor, torch.Tensor]], which: torch.Tensor
            ) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each output of the decoders ``[B, C, *S]`` the one of decoder ``which`` ``[B]``; as products, which every
    exporter knows."""
    weight = nn.functional.one_hot(which, len(answers))
    logits, value = (sum(weight[:, n, None, None, None, None].to(part.dtype) * part for n, part in enumerate(parts))
                     for parts in zip(*answers))
    return logits, value
