"""Laryngoscopic frames as class prompts: the glottis is found, prompts follow from it, the network answers them."""
from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.inference.larynx import find_glottis, fold_prompts
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.sam_predictor import SamPredictor
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import Box, Point, PromptSet

CLASSES = ("glottis", "vocal folds")
NOTHING = "no glottis found"


class LarynxPredictor(SamPredictor):
    """A :class:`SamPredictor` that also takes the classes of :data:`CLASSES` on 2D images and makes their prompts."""

    def propose(self, state: EncodedImage, name: str) -> PromptSet:
        """The prompts that a class stands for, to be edited and decoded: one object per part, none without a glottis.

        Raises:
            PromptError: for an unknown class, or a volume.
        """
        if name not in CLASSES:
            raise PromptError(complain(f"class of {self.name}", name, ", ".join(CLASSES)))
        if not state.canonical.is_2d:
            raise PromptError(complain("image for a class prompt", f"a volume of {state.data.shape}", "a frame"))
        axis = int(np.argmin(state.data.shape))
        frame = np.take(state.data, 0, axis)
        glottis = find_glottis(frame)
        prompts: list[Any] = []
        if glottis is not None and name == CLASSES[0]:
            at = np.argwhere(glottis)
            prompts.append(self._box(axis, at.min(0) - 0.5, at.max(0) + 0.5, 1))
        elif glottis is not None:
            for number, fold in enumerate(fold_prompts(frame, glottis), 1):
                prompts.append(self._box(axis, *fold.box, number))
                prompts += [Point(tuple(np.insert(place, axis, 0.0)), sign, number, "voxel")
                            for places, sign in ((fold.positive, True), (fold.negative, False)) for place in places]
        return PromptSet(tuple(prompts)).to_world(state.canonical)

    @staticmethod
    def _box(axis: int, low: np.ndarray, high: np.ndarray, number: int) -> Box:
        return Box(tuple(np.insert(low + 0.5, axis, 0.0)), tuple(np.insert(high + 0.5, axis, 1.0)), number, "voxel")

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """See :meth:`InteractivePredictor.decode`; an object with a class prompt carries ``info["generated"]``, the
        prompts that were made as JSON, or ``info["reason"]``; it has no estimated Dice."""
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        named = {p.object_id: p.name for p in prompts.of("class")}
        plain = tuple(info for info in prompts.objects if info.object_id not in named)
        rest = PromptSet(tuple(p for p in prompts.prompts if p.object_id not in named), plain)
        found = {one.object_id: one for one in super().decode(state, rest, previous).objects} if plain else {}
        for number, name in named.items():
            others = prompts.for_object(number).kinds - {"class"}
            if others:
                raise PromptError(complain("a class prompt beside", ", ".join(sorted(others)), "nothing else",
                                           "Decode the proposed prompts, edited, as objects of their own"))
            found[number] = self._made(state, number, name)
        return Prediction(state.source, tuple(found[info.object_id] for info in prompts.objects),
                          time.perf_counter() - started, self.engine)

    def _made(self, state: EncodedImage, number: int, name: str) -> ObjectPrediction:
        """The answers to all parts of a class together."""
        made = self.propose(state, name)
        if not made.prompts:
            return ObjectPrediction(number, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), None,
                                    info={"reason": NOTHING})
        parts = super().decode(state, made).objects
        full = np.max([part.full_probability() for part in parts], 0)
        if name != CLASSES[0]:
            glottis = super().decode(state, self.propose(state, CLASSES[0])).objects[0].mask
            full = np.where(glottis, 0, full).astype(np.float32)
        info = {"generated": json.dumps(made.to_json()), "instances": len(parts)}
        return replace(parts[0], object_id=number, offset=(0, 0, 0), probability=full, estimated_dice=None, info=info)


class LarynxInferer(SamInferer):
    """Inferer of :class:`LarynxPredictor`; arguments of :class:`SamInferer`."""

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> SamPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return LarynxPredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS | {"class"},
                               segmenter=segmenter, propagation=self.propagation)
