"""Text-driven answers with an estimate how good they are."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.special import expit

from promptzoo.core.protocols import ObjectPrediction
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.text_inferer import Arrays, TextInferer
from promptzoo.inference.text_universal import Asked, UniversalPredictor
from promptzoo.inference.universal_view import grey
from promptzoo.text.wording import read_wording

Thirds = tuple[Callable[..., Arrays], Callable[..., Arrays], Callable[..., Arrays]]
"""Encoder, head and judge as plain callables."""


class QualityPredictor(UniversalPredictor):
    """A predictor that judges masks: how well does a mask show what it is said to show?

    Chen et al., "Quality Sentinel", 2024. Answers carry the estimate as ``estimated_dice``; of what is judged to be
    nothing it is said that it was not found. :meth:`judge` takes any mask, from elsewhere, too.

    Args:
        quality: text vectors ``[B, T]``, masks, weights, grey
            values and own answers ``[B, 1, *S]`` and features to logits of the Dice
            ``[B, 1]``.
        least_dice: estimate below which a structure counts as not found, unless a box says where it is.
        given: arguments of :class:`UniversalPredictor`.
    """

    def __init__(self, encoder: Any, head: Any, quality: Callable[..., Arrays], *given: Any, least_dice: float = 0.0,
                 **named: Any) -> None:
        super().__init__(encoder, head, *given, **named)
        self.quality, self.least_dice = quality, least_dice

    def judge(self, state: EncodedImage, mask: np.ndarray, text: str) -> float:
        """Estimated Dice in [0, 1] of a mask with what a text says that it is.

        Args:
            state: result of :meth:`encode`.
            mask: ``[i, j, k]`` bool on the image's own grid, not empty.
            text: name of a structure.

        Raises:
            UnclearTextError: for text that is not understood, or means nothing that the network knows.
        """
        return self._judged(state, mask, read_wording(text, self.classes).classes[0])

    def _judged(self, state: EncodedImage, mask: np.ndarray, name: str) -> float:
        """The mean over the windows, each with the mask's volume in it."""
        own = np.ascontiguousarray(state.move.array(mask)).astype(np.float32)
        vector, found = self.vectors[self.classes.index(name)][None], []
        for view in self.views(state):
            inside, there, value = np.zeros((3, 1, 1, *view.window.shape), np.float32)
            there[0, 0][view.inside] = 1
            value -= 1
            value[0, 0][view.inside] = grey(view.window.sample(state.data)[view.inside], state.hounsfield)
            inside[0, 0][view.inside] = view.window.sample(own)[view.inside] >= 0.5
            if inside.any():
                plain = self.head(vector, 0 * inside, *view.features)[0]
                logit = self.quality(vector, inside, there, value, plain, *view.features)[0]
                found.append((float(expit(logit[0, 0])), float(inside.sum())))
        return sum(guess * size for guess, size in found) / sum(size for _, size in found) if found else 0.0

    def _answer(self, state: EncodedImage, asked: Asked) -> ObjectPrediction:
        answer = super()._answer(state, asked)
        if len(asked.classes) != 1 or not answer.mask.any():
            return answer
        guess = self._judged(state, answer.mask, asked.classes[0])
        if guess >= self.least_dice or asked.spatial.box is not None:
            return replace(answer, estimated_dice=guess)
        reason = f"not found: {asked.classes[0].replace('_', ' ')}"
        return replace(answer, probability=np.minimum(answer.probability, 0.9 * answer.threshold), estimated_dice=guess,
                       info={**answer.info, "reason": reason})


class QualityInferer(TextInferer):
    """Inferer of text-driven networks with a judge.

    Args:
        classes, settings, overlap: see :class:`TextInferer`.
        least_dice: see :class:`QualityPredictor`.
    """

    def __init__(self, classes: Sequence[str], settings: Mapping[str, Any] | None = None, least_dice: float = 0.0,
                 overlap: str = "probability") -> None:
        super().__init__(classes, "tower", settings, overlap)
        self.least_dice = least_dice

    def predictor(self, network: Thirds, name: str = "text_universal", engine: str = "torch"  # type: ignore[override]
                  ) -> QualityPredictor:
        """The predictor around the three parts of a plain or compiled network."""
        return QualityPredictor(*network, self.vectors(), self.classes, self.settings, name, engine,
                                least_dice=self.least_dice)

    def wrap(self, network: Any) -> Thirds:  # type: ignore[override]
        """See :meth:`TextInferer.wrap`."""
        return *super().wrap(network), self.called(network.quality)

    def parts(self, network: Any) -> dict[str, Part]:
        """See :meth:`TextInferer.parts`."""
        found = super().parts(network)
        text, box, *encoded = found["head"].example
        given = (text, box, torch.ones_like(box), box - 1, box, *encoded)
        return {**found, "quality": Part(network.quality.eval(), given, ())}

    def assemble(self, compiled: Mapping[str, Any]) -> Thirds:  # type: ignore[override]
        """See :meth:`TextInferer.assemble`."""
        return *super().assemble(compiled), compiled["quality"]
