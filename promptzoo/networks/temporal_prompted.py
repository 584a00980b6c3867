"""Organs of a slice, found with a sentence that says where in the scan the slice lies.

Wang et al., "TP-UNet: Temporal Prompt Guided UNet for Medical Image Segmentation", 2024, section III: a sentence of
modality, organ and relative slice position; image and text are aligned by contrast before cross-attention brings them
together. The paper announces its code; the address printed for it belongs to another work.

What is ours: the guided decoder of Ariadne's Thread as this repository has it, on the frozen encoder of
``sam_box_finetune``, in the place of a UNet; words are bags of character n-grams, trained along, instead of CLIP or
Electra. The aligned space also answers which position fits an image best, so that the sentence can be left out.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from promptzoo.data.synthesis.clinical import GRADES, POSITIONS, SEGMENTS, STUDIES, TARGETS
from promptzoo.networks.text_guided import TextGuided
from promptzoo.text.ngrams import bags
from promptzoo.text.records import temporal_sentence

STUDY = STUDIES[2]
ORGANS = TARGETS[STUDY]
STEPS = 20


class TemporalPrompted(TextGuided):
    """The guided network whose retrieval is the aligned space of slices and sentences.

    Args:
        sizes: arguments of :class:`promptzoo.networks.text_guided.TextGuided`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        said = [temporal_sentence(organ, step / STEPS).split() for step in range(STEPS + 1) for organ in ORGANS]
        self.register_buffer("said", torch.from_numpy(bags(said, self.length, self.buckets)), persistent=False)
        spread = np.stack([np.clip(1 - np.abs(np.arange(POSITIONS) - step / STEPS * (POSITIONS - 1)), 0, 1)
                           for step in range(STEPS + 1)])
        self.register_buffer("spread", torch.from_numpy(spread.astype(np.float32)), persistent=False)

    def aligned(self, *maps: torch.Tensor) -> torch.Tensor:
        """Images in the aligned space, ``[B, width]`` of length 1."""
        return torch.nn.functional.normalize(self.seen(*maps).sum(1), dim=1)

    def positions(self, *maps: torch.Tensor) -> torch.Tensor:
        """How well each of the positions 0, 1/20 … 1 fits images, over all organs: ``[B, 21]``."""
        scores = self.aligned(*maps) @ self.clauses(self.said).T
        return scores.unflatten(1, (STEPS + 1, len(ORGANS))).logsumexp(2)

    def attributes(self, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits of study, grade, segment and position from three maps; all but the position are constant."""
        chance = self.positions(*maps).softmax(1) @ self.spread
        count = chance.shape[0]
        study = chance.new_tensor([[8.0 * (name == STUDY) for name in STUDIES]]).expand(count, -1)
        return (study, chance.new_zeros(count, len(GRADES)), chance.new_zeros(count, len(SEGMENTS)),
                chance.clamp(min=1e-4).log())
