"""SAM-like networks that are told, beside boxes and clicks, which class the object is of."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import Prediction
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.sam_predictor import SamPredictor
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.zoom import Request, ZoomSettings
from promptzoo.networks.class_prompt_sam import CLASS
from promptzoo.prompts.encoders.tokens import PADDING, SamPrompt
from promptzoo.prompts.types import PromptSet


class NamedSegmenter(SamSegmenter):
    """A :class:`SamSegmenter` that passes the class of an object on as one more token.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        classes: names, in the order of the network's embeddings.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, classes: Sequence[str],
                 limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.classes = tuple(classes)

    def told(self, request: Request, window: Window, view: np.ndarray) -> SamPrompt:
        """See :meth:`SamSegmenter.told`."""
        prompt = super().told(request, window, view)
        free = np.flatnonzero(prompt.labels == PADDING)
        if not request.prompts.classes or not len(free):
            return prompt
        labels = prompt.labels.copy()
        labels[free[0]] = CLASS + self.classes.index(request.prompts.classes[0])
        return replace(prompt, labels=labels, ambiguous=False)


class NamedPredictor(SamPredictor):
    """A :class:`SamPredictor` that takes one class prompt per object."""

    segmenter: NamedSegmenter

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """See :meth:`InteractivePredictor.decode`.

        Raises:
            PromptError: for unknown classes, and for several classes of one object, too.
        """
        for info in prompts.objects:
            named = [prompt.name for prompt in prompts.for_object(info.object_id).of("class")]
            if len(named) > 1 or not set(named) <= set(self.segmenter.classes):
                raise PromptError(complain(f"class of object {info.object_id} for {self.name}", ", ".join(named),
                                           f"one of {', '.join(self.segmenter.classes)}"))
        return super().decode(state, prompts, previous)


class NamedInferer(SamInferer):
    """Inferer of :class:`promptzoo.networks.class_prompt_sam.ClassPromptSam`.

    Args:
        classes: see :class:`NamedSegmenter`.
        settings, calibration, overlap, embedding_mb, propagation: see :class:`SamInferer`.
    """

    def __init__(self, classes: Sequence[str], settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 embedding_mb: int = 128, propagation: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, calibration, overlap, embedding_mb, propagation=propagation)
        self.classes = tuple(classes)

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> SamPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = NamedSegmenter(network, self.settings, self.classes, self.embedding_mb << 20)
        return NamedPredictor(network.decode, 2, self.settings, self.calibration, name, engine,
                              SAM_KINDS | {"class"}, segmenter=segmenter, propagation=self.propagation)
