"""Predictor that takes the name of a class beside points, boxes and masks: it makes the prompts itself."""
from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.inference.auto_finder import Found, PromptFinder
from promptzoo.inference.interactive import InteractivePredictor, prompted_slices, slice_axis
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import Box, MaskPrompt, ObjectInfo, Point, PromptSet

NOTHING = "nothing found"


class AutoPromptPredictor(InteractivePredictor):
    """:class:`InteractivePredictor` with class prompts.

    An object with a class prompt gets the union of all objects of that class. Other prompts of the same object edit it:
    boxes say where to look, a negative click takes the object under it away, a positive click outside adds one. Objects
    without a class prompt are answered as by the base.

    Args:
        finder: makes and answers prompts on a slice.
        classes: names taken.
        others: arguments of :class:`InteractivePredictor`.
    """

    all_slices = False
    """Whether a class prompt on a volume that names no place means all slices."""

    def __init__(self, *others: Any, finder: PromptFinder, classes: Sequence[str], **named: Any) -> None:
        super().__init__(*others, **named)
        self.finder, self.classes = finder, tuple(classes)
        self._last: tuple[Any, ...] = ()

    def propose(self, state: EncodedImage, name: str, region: PromptSet | None = None) -> PromptSet:
        """The prompts that a class prompt would be answered with, to be edited and decoded.

        Args:
            state: result of :meth:`encode`.
            name: of the class.
            region: prompts of one object that say where to look or edit the answer, see the class; a volume needs some.

        Returns:
            Points, boxes and masks in world space, one object (1, 2, …) for each that was found.

        Raises:
            PromptError: for an unknown class, or a volume without a region.
        """
        return self._sets(state, self._objects(state, name, region))

    def instances(self, state: EncodedImage, name: str, region: PromptSet | None = None) -> Prediction:
        """The answer to each prompted object, numbered as in :meth:`propose`; same arguments and errors."""
        started = time.perf_counter()
        found = []
        for number, (axis, index, one) in enumerate(self._objects(state, name, region), 1):
            offset, volume = list(one.offset), np.expand_dims(one.probability, axis)
            offset.insert(axis, index)
            found.append(replace(self._native(state, number, offset, volume, self._estimate(one.quality), []), info={}))
        return Prediction(state.source, tuple(found), time.perf_counter() - started, self.engine)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Segment all objects of a prompt set, see :meth:`InteractivePredictor.decode`.

        Objects with a class prompt carry ``info["generated"]``, the prompts that were made as JSON of a prompt set, and
        ``info["instances"]``, their number; ``info["reason"]`` if there are none. They have no estimated Dice.

        Raises:
            PromptError: also for an unknown class, a class beside drawn shapes, or a volume without a place.
        """
        named = {p.object_id for p in prompts.of("class")}
        if not named:
            return super().decode(state, prompts, previous)
        started = time.perf_counter()
        world = prompts.check_on(state.source, self.prompt_kinds).to_world(state.source)
        plain = [o for o in world.objects if o.object_id not in named]
        rest = PromptSet(tuple(p for p in world.prompts if p.object_id not in named), tuple(plain))
        answers = {entry.object_id: entry for entry in super().decode(state, rest, previous).objects} if plain else {}
        for number in named:
            answers[number] = self._union(state, world.for_object(number))
        ordered = tuple(answers[info.object_id] for info in world.objects)
        return Prediction(state.source, ordered, time.perf_counter() - started, self.engine)

    def _union(self, state: EncodedImage, own: PromptSet) -> ObjectPrediction:
        """All objects of one class prompt together."""
        number = own.objects[0].object_id
        found = self._objects(state, own.of("class")[0].name, own)
        full = np.zeros(state.data.shape, np.float32)
        for axis, index, one in found:
            layer = np.moveaxis(full, axis, 0)[index][one.region]
            np.maximum(layer, one.probability, out=layer)
        info: dict[str, Any] = {"instances": len(found), "generated": json.dumps(self._sets(state, found).to_json())}
        if not found:
            info["reason"] = NOTHING
            return ObjectPrediction(number, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), None, info=info)
        return replace(self._native(state, number, (0, 0, 0), full, 0.0, []), estimated_dice=None, info=info)

    def _objects(self, state: EncodedImage, name: str, region: PromptSet | None) -> list[tuple[int, int, Found]]:
        """Axis, index of the slice, and what was found there."""
        names = [p.name for p in region.of("class")] if region is not None else []
        for wanted in dict.fromkeys([name, *names]):
            if wanted not in self.classes or wanted != name:
                raise PromptError(complain(f"class of bundle {self.name}", wanted, ", ".join(self.classes),
                                           "One class per object"))
        known = PromptSet(()) if region is None else region
        if known.kinds & {"mask", "lasso"}:
            raise PromptError(complain("a class prompt beside", ", ".join(sorted(known.kinds & {"mask", "lasso"})),
                                       "boxes and clicks", "Give the shape an object of its own"))
        if self._last and self._last[0] is state and self._last[1:3] == (name, known):
            return self._last[3]
        boxes, merged = known.of("box"), ObjectPrompts.of(known, state.canonical)
        axis = slice_axis(state.canonical, merged)
        slices = prompted_slices(merged, axis, state.data.shape[axis])
        if state.canonical.is_2d:
            slices = [0]
        elif not slices and self.all_slices:
            slices = list(range(state.data.shape[axis]))
        elif not slices:
            raise PromptError(complain(f"class prompt on a volume of {state.data.shape[axis]} slices", "no place",
                                       "a box or a click of the same object on each slice meant"))
        areas = [ObjectPrompts.of(PromptSet((box,)), state.canonical) for box in boxes]
        found = [(axis, index, one) for index in slices
                 for one in self._on_slice(state, name, axis, index, merged.on_slice(axis, index),
                                           [a.on_slice(axis, index) for a in areas])]
        self._last = (state, name, known, found)
        return found

    def found_on(self, state: EncodedImage, image: np.ndarray, spacing: Sequence[float], name: str) -> list[Found]:
        """All objects of a class on a slice ``[H, W]`` of an image, with pixels of ``spacing`` millimetres."""
        return self.finder(image, spacing)

    def shown(self, state: EncodedImage, image: np.ndarray) -> np.ndarray:
        """A slice as the finder is to see it."""
        return image

    def _on_slice(self, state: EncodedImage, name: str, axis: int, index: int, told: ObjectPrompts,
                  areas: Sequence[ObjectPrompts]) -> list[Found]:
        """What is found on a slice after a person's boxes and clicks."""
        image = self.shown(state, np.take(state.data, index, axis))
        spacing = [state.canonical.spacing_mm[a] for a in range(3) if a != axis]
        found = self.found_on(state, image, spacing, name)
        places = [area.box for area in areas if area.box is not None]
        if areas:
            found = [one for one in found if any(_within(_middle(one), box) for box in places)]
        found = [one for one in found if not any(_covers(one, click) for click in told.negative)]
        missed = [click for click in told.positive if not any(_covers(one, click) for one in found)]
        return found + self.finder.at_clicks(image, np.asarray(spacing), missed, told.negative)

    @staticmethod
    def _sets(state: EncodedImage, found: Sequence[tuple[int, int, Found]]) -> PromptSet:
        """The prompts of what was found, as a person would have given them."""
        prompts: list[Any] = []
        grid = state.canonical
        for number, (axis, index, one) in enumerate(found, 1):
            told = one.prompts
            for points, positive in ((told.positive, True), (told.negative, False)):
                for point in np.clip(points, -0.49, np.delete(grid.shape, axis) - 0.51):
                    prompts.append(Point(tuple(np.insert(point, axis, index)), positive, number, "voxel"))
            if told.box is not None:
                edge = np.delete(np.asarray(grid.shape, float), axis)
                low = np.clip(np.insert(np.clip(told.box[0] + 0.5, 0, edge - 1), axis, index), 0, None)
                high = np.insert(np.clip(told.box[1] + 0.5, 1, edge), axis, index + 1)
                prompts.append(Box(tuple(low), tuple(high), number, "voxel"))
            if told.prior is not None and (told.prior >= 0.5).any():
                layer = np.zeros(grid.shape, bool)
                np.moveaxis(layer, axis, 0)[index] = told.prior >= 0.5
                prompts.append(MaskPrompt(layer, grid, number))
        names = tuple(ObjectInfo(number, f"{number}") for number in range(1, len(found) + 1))
        return PromptSet(tuple(prompts), names).to_world(grid)


def _middle(one: Found) -> np.ndarray:
    """Centre of a mask in image indices."""
    return np.argwhere(one.probability >= 0.5).mean(0) + one.offset


def _within(point: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> bool:
    return bool((point >= box[0]).all() and (point <= box[1]).all())


def _covers(one: Found, click: np.ndarray) -> bool:
    at = np.rint(click).astype(int) - one.offset
    inside = (at >= 0).all() and (at < one.probability.shape).all()
    return bool(inside and one.probability[tuple(at)] >= 0.5)
