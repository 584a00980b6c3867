"""Bundles that make their own prompts as a MONAI inferer."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import torch

from promptzoo.inference.auto_finder import PromptFinder
from promptzoo.inference.auto_predictor import AutoPromptPredictor
from promptzoo.inference.auto_prompts import AutoPrompt
from promptzoo.inference.auto_tiles import AutoParts
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.sam import SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer


class AutoPromptInferer(SamInferer):
    """:class:`SamInferer` that also takes class prompts.

    Args:
        classes: names of the classes that the head was trained on; all are the same to a head of one class.
        auto: arguments of :class:`promptzoo.inference.auto_prompts.AutoPrompt`.
        others: arguments of :class:`SamInferer`.
    """

    def __init__(self, classes: Sequence[str], auto: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.classes, self.auto = tuple(classes), AutoPrompt(**(auto or {}))

    def predictor(self, network: AutoParts, name: str = "auto_prompt", engine: str = "torch"  # type: ignore[override]
                  ) -> AutoPromptPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return AutoPromptPredictor(network.decode, 2, self.settings, self.calibration, name, engine,
                                   SAM_KINDS | {"class"}, segmenter=segmenter, classes=self.classes,
                                   finder=PromptFinder(segmenter, network, self.auto))

    def wrap(self, network: Any) -> AutoParts:
        """A torch network as what :meth:`predictor` takes."""
        return AutoParts.of(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder, decoder and head, which engines compile apart."""
        found = super().parts(network)
        encoded = found["mask_decoder"].example[:4]
        return {**found, "prompt_head": Part(network.prompt_head.eval(), tuple(torch.clone(e) for e in encoded), ())}

    def assemble(self, compiled: Mapping[str, Any]) -> AutoParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return AutoParts(compiled["image_encoder"], compiled["mask_decoder"], compiled["prompt_head"])
