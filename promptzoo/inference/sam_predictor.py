"""The predictor of SAM-like bundles: besides answers, the candidates of a prompt and everything in an image."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.inference.candidates import check_selection
from promptzoo.inference.everything import Everything, find_everything
from promptzoo.inference.interactive import InteractivePredictor, prompted_slices, slice_axis
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, SamSegmenter, dice_of_iou
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.tissue_window import ct_limits, ct_window
from promptzoo.inference.zoom import Course, ZoomSettings
from promptzoo.prompts.types import PromptSet

SOFT_TISSUE_HU = 40.0
"""Without a prompt a CT image is looked at through the window of this tissue."""


class SelectingSegmenter(SamSegmenter):
    """A :class:`SamSegmenter` whose answer to every prompt is chosen among the candidates.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        selection: rule of :data:`promptzoo.inference.candidates.SELECTIONS`.

    Raises:
        BundleError: for an unknown rule.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, selection: str, limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.selection = check_selection(selection)

    def _course(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts, hounsfield: bool) -> Course:
        if hounsfield:
            image = ct_window(image, prompts)
        look = yield from super()._course(image, spacing, prompts, False)
        probability, iou = self.candidates_on(look.window, image, prompts).pick(self.selection)
        return self.local(replace(look, probability=probability, quality=dice_of_iou(iou),
                                  history=(*look.history, self.selection)), prompts)


@dataclass(frozen=True, eq=False)
class Offer:
    """An answer, and the candidates that it was or was not chosen from."""

    answer: ObjectPrediction
    candidates: tuple[ObjectPrediction, ...]


class SamPredictor(InteractivePredictor):
    """An :class:`InteractivePredictor` around a :class:`SamSegmenter`, which also tells its candidates."""

    segmenter: SamSegmenter

    def offer(self, state: EncodedImage, prompts: PromptSet) -> Offer:
        """The answer to prompts without a mask of before, and the masks among which they leave the choice.

        Args:
            state: result of :meth:`encode`.
            prompts: prompts of one object, all on one slice.

        Returns:
            The answer as :meth:`decode` gives it, and the candidates in the decoder's order; their ``estimated_dice``
            is that of the predicted IoU, not calibrated, and ``info["predicted_iou"]`` the IoU itself. No candidate
            without a positive prompt.

        Raises:
            PromptError: if the prompts do not fit the image or the bundle, or are on several slices or objects.
        """
        world = prompts.check_on(state.source, self.prompt_kinds).to_world(state.source)
        if len(world.objects) != 1:
            raise PromptError(complain("objects to offer candidates for", len(world.objects), "one"))
        own = ObjectPrompts.of(world, state.canonical)
        if own.empty:
            return Offer(self.decode(state, world).objects[0], ())
        axis = slice_axis(state.canonical, own)
        slices = prompted_slices(own, axis, state.data.shape[axis])
        if len(slices) != 1:
            raise PromptError(complain("slices to offer candidates for", len(slices), "one"))
        image, spacing = _plane(state, axis, slices[0])
        part, object_id = own.on_slice(axis, slices[0]), world.objects[0].object_id
        look = self.segmenter(image, spacing, part, state.hounsfield)
        found = self.segmenter.candidates_on(look.window, ct_window(image, part) if state.hounsfield else image, part)
        answer = _placed(state, axis, slices[0], look.window, look.probability, 0.0, object_id)
        answer = replace(answer, estimated_dice=self._estimate(look.quality), info={"windows": [list(look.history)]})
        return Offer(answer, tuple(_placed(state, axis, slices[0], found.window, chance, float(iou), object_id)
                                   for chance, iou in zip(found.chances, found.ious)))

    def everything(self, state: EncodedImage, settings: Everything = Everything(),
                   index: int | None = None) -> tuple[ObjectPrediction, ...]:
        """All that a grid of points finds on a slice; see :func:`promptzoo.inference.everything.find_everything`.

        Args:
            state: result of :meth:`encode`.
            settings: grid and filters. CT images in Hounsfield units are seen through the soft-tissue window.
            index: slice along the slice axis of the canonical grid; None for the only one of a flat image.

        Returns:
            Objects 1, 2, … in falling order of predicted IoU; ``info`` tells it beside ``stability`` and ``point``
            (indices on the slice).

        Raises:
            PromptError: without an index for a volume, or with one outside it.
        """
        axis = slice_axis(state.canonical, _NOTHING)
        count = state.data.shape[axis]
        if index is None and count > 1 or not 0 <= (index or 0) < count:
            raise PromptError(complain("slice to segment everything on", index, f"0 to {count - 1}"))
        image, spacing = _plane(state, axis, index or 0)
        if state.hounsfield:
            image = np.clip(image, *ct_limits(SOFT_TISSUE_HU))
        found = find_everything(self.segmenter, image, spacing, settings)
        return tuple(_placed(state, axis, index or 0, p.window, p.chance, p.iou, number,
                             {"stability": p.stability, "point": list(p.point)})
                     for number, p in enumerate(found, 1))


_NOTHING = ObjectPrompts(*[np.zeros((0, 3))] * 2, None, *[np.zeros((0, 3))] * 2)


def _plane(state: EncodedImage, axis: int, index: int) -> tuple[np.ndarray, list[float]]:
    """Pixels and spacing of a slice of the canonical grid."""
    spacing = [state.canonical.spacing_mm[a] for a in range(3) if a != axis]
    return np.take(state.data, index, axis), spacing


def _placed(state: EncodedImage, axis: int, index: int, window: Window, chance: np.ndarray, iou: float, object_id: int,
            told: dict[str, Any] | None = None) -> ObjectPrediction:
    """A mask of a window as a prediction on the image's own grid."""
    offset, region = window.restore(chance, [state.data.shape[a] for a in range(3) if a != axis])
    place = list(offset)
    place.insert(axis, index)
    placed = InteractivePredictor._native(state, object_id, place, np.expand_dims(region, axis), dice_of_iou(iou), ())
    return replace(placed, info={"predicted_iou": iou, **(told or {})})
