"""Predictor that marks on an image what finished cases show on theirs."""
from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.inference.by_reference import ByReference
from promptzoo.inference.examples import ContextParts, ContextSettings, Example, chosen, maps_of, near, view_of
from promptzoo.inference.interactive import INTERACTIVE_KINDS, InteractivePredictor
from promptzoo.inference.looks import as_chance, bounds
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.reference_cases import Plane, open_example, plane_of, stamps
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.through import prompted_slices, slice_axis
from promptzoo.prompts.types import MaskPrompt, PromptSet, ReferencePrompt

MOST_SLICES, KEPT = 24, 96
"""Slices of a volume that are looked at, and views of examples that are kept encoded."""
REFERENCES = "references"
"""Key of an answer's ``info``: which examples and boxes it stands on."""


@dataclass(frozen=True, eq=False)
class Found:
    """What examples say of a slice: probability ``[*N]``, prompts made of it, likeness of the best example, scores."""

    plane: Plane
    chance: np.ndarray
    prompts: PromptSet
    similarity: float
    told: dict[str, Any]
    reason: str = ""


class ContextPredictor(ByReference):
    """An :class:`InteractivePredictor` whose objects may also be shown by finished cases.

    References alone, or with a box, are answered by the network in one pass over all of them. Clicks, strokes, lassos
    and masks of the same object then correct that mask through the promptable network of ``corrector``, each from
    where the last answer left off; objects without references are all its own.

    Args:
        parts: the network.
        settings: how it sees.
        corrector: predictor whose segmenter answers all other prompts.
        local_after: corrections of what examples gave after which a further one changes the mask only where it asks
            for it.
        name, engine: for the answer.
    """

    def __init__(self, parts: ContextParts, settings: ContextSettings, corrector: InteractivePredictor,
                 local_after: int = 1, name: str = "in_context", engine: str = "torch") -> None:
        segmenter = corrector.segmenter
        super().__init__(segmenter.network, 2, segmenter.settings, corrector.calibration, name, engine,
                         INTERACTIVE_KINDS | {"reference"}, segmenter=segmenter)
        local = replace(segmenter.settings, local_after=local_after)
        self.corrector = InteractivePredictor(segmenter.network, 2, local, corrector.calibration, name, engine)
        self.parts, self.context = parts, settings
        self._views: OrderedDict[tuple, tuple[Any, ...]] = OrderedDict()
        self._examples: OrderedDict[tuple, Example] = OrderedDict()

    def referred(self, state: EncodedImage, object_id: int, references: Sequence[ReferencePrompt], plain: PromptSet,
                 previous: Prediction | None) -> ObjectPrediction:
        """The answer for an object with examples; see the class."""
        boxes = plain.of("box")
        stands_on = _digest(references, boxes)
        last = next((one for one in previous.objects if one.object_id == object_id), None) if previous else None
        rest = tuple(prompt for prompt in plain.prompts if prompt.kind != "box")
        info: dict[str, Any]
        if rest and last is not None and last.info.get(REFERENCES) == stands_on:
            start, info = last.mask, {key: last.info[key] for key in ("similarity", "examples") if key in last.info}
        else:
            found = self.find(state, references, plain)
            info = {"similarity": round(found.similarity, 4), "examples": found.told["examples"],
                    "generated": json.dumps(found.prompts.to_json())}
            if found.reason and not len(plain):
                return self.nothing(state, object_id, {**info, "reason": found.reason, REFERENCES: stands_on})
            full = self._full(state, found)
            if not rest and state.canonical.is_2d and not found.reason:
                return self._native(state, object_id, (0, 0, 0), full, None,  # type: ignore[arg-type]
                                    {**info, REFERENCES: stands_on})
            start = state.move.inverse_array(full) >= 0.5
        mask = (MaskPrompt(start, state.source, object_id),) if start.any() else ()
        through = not rest and not state.canonical.is_2d
        asked = replace(plain, prompts=(*mask, *plain.prompts), through_slices=through or plain.through_slices)
        answer = self.corrector.decode(state, asked).objects[0]
        return replace(answer, info={**answer.info, **info, REFERENCES: stands_on})

    def propose(self, state: EncodedImage, references: Sequence[ReferencePrompt]) -> Found:
        """The mask that examples of one object would be answered with, as a prompt to edit and to decode."""
        return self.find(state, references, PromptSet())

    def find(self, state: EncodedImage, references: Sequence[ReferencePrompt], plain: PromptSet) -> Found:
        """What the network marks after examples; of a volume, on the slice that carries prompts, else on the one on
        which it marks most.

        Args:
            state: the encoded image.
            references: the examples.
            plain: other prompts of the object, in world space; its boxes are shown to the network.

        Raises:
            NotFoundError, ImageError, PromptError: if a reference cannot be used, see
                :func:`promptzoo.inference.reference_cases.open_example`.
        """
        own = ObjectPrompts.of(plain, state.canonical)
        axis = int(np.argmin(state.data.shape)) if state.canonical.is_2d else slice_axis(state.canonical, own)
        count = state.data.shape[axis]
        indices: Sequence[int] = [] if own.empty else prompted_slices(own, axis, count)[:1]
        if not len(indices):
            indices = np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round().astype(int)).tolist()
        examples = [self._example(one, axis) for one in references]
        best: tuple[float, Plane, np.ndarray, dict[str, Any]] | None = None  # there is one slice at least
        for index in indices:
            plane = plane_of(state, axis, index)
            box = own.on_slice(axis, index).box if own.box is not None else None
            chance, told = self.look(plane, examples, box)
            marked = float(chance[chance >= 0.5].sum())
            if best is None or marked > best[0]:
                best = marked, plane, chance, told
        marked, plane, chance, told = best  # type: ignore[misc]
        layer = np.zeros(state.canonical.shape, bool)
        np.moveaxis(layer, axis, 0)[plane.index] = chance >= 0.5
        number = references[0].object_id
        made = PromptSet((MaskPrompt(layer, state.canonical, number),)) if marked else PromptSet()
        return Found(plane, chance, made, told["similarity"], told,
                     "" if marked else "nothing on this image is like what the examples show")

    def look(self, plane: Plane, examples: Sequence[Example], box: tuple[np.ndarray, np.ndarray] | None = None
             ) -> tuple[np.ndarray, dict[str, Any]]:
        """Probability ``[*N]`` on a slice after examples, and what was shown.

        Args:
            plane: the slice.
            examples: all that there are; the settings say how many are shown.
            box: faces of the structure on the slice, or None.
        """
        settings, size = self.context, self.context.window
        nothing = np.zeros((0, 2))
        asked = ObjectPrompts(nothing, nothing, box, nothing, nothing)
        if settings.crop and box is None:
            return self._tiled(plane, examples)
        margin = settings.margin if box is not None else 0.0
        chance, told = self._pass(plane, near(plane, box, size, margin), examples, asked, margin)
        faces = bounds(chance >= 0.5)
        if box is None and settings.second_look and faces is not None:
            closer = near(plane, faces, size, settings.margin)
            if max(closer.step) < 0.75 * max(near(plane, None, size, 0).step):
                again, _ = self._pass(plane, closer, [examples[n] for n in told["order"]], asked, settings.margin)
                chance = again if (again >= 0.5).any() else chance
        if box is not None:
            loose = 0.05 * (box[1] - box[0]) + 0.5
            keep = [(np.arange(n) >= low - slack) & (np.arange(n) <= high + slack)
                    for n, low, high, slack in zip(chance.shape, *box, loose)]
            chance = chance * np.outer(*keep)
        return chance, told

    def _pass(self, plane: Plane, window: Window, examples: Sequence[Example], asked: ObjectPrompts, margin: float
              ) -> tuple[np.ndarray, dict[str, Any]]:
        """One pass of the network: probability ``[*N]`` on a slice, 0 beyond the window, and what was shown."""
        settings = self.context
        seen = [self._seen(one, margin) for one in examples]
        query = self.parts.encode(view_of(plane, window))
        order, scores = chosen(settings.selector, settings.most, query, [maps for maps, _ in seen],
                               [maps for _, maps in seen], self.parts.select)
        maps = [np.concatenate([seen[n][0][level] for n in order]) for level in range(4)]
        logits = self.parts.decode(query, maps_of(asked, window), maps, np.concatenate([seen[n][1] for n in order]))
        told = {"order": order, "similarity": max(_alike(query[0], seen[n][0][0]) for n in order),
                "examples": [{"image": examples[n].name, "score": round(scores[n], 4)} for n in order]}
        return _restored(plane, window, np.asarray(logits[0, 0], np.float32)), told

    def _tiled(self, plane: Plane, examples: Sequence[Example]) -> tuple[np.ndarray, dict[str, Any]]:
        """A slice in tiles of the scale of annotated crops; where tiles overlap, their mean."""
        size, shape = self.context.window, np.asarray(plane.image.shape)
        side = float(np.median([max(one.window(size, -1.0).step * one.plane.spacing) * size for one in examples]))
        whole = shape * plane.spacing
        while np.prod(np.ceil(np.maximum(whole / side - 0.25, 0.1) / 0.75)) > self.context.most_tiles:
            side *= 1.15
        total, weight = np.zeros(shape, np.float32), np.full(shape, 1e-6, np.float32)
        centres = [np.linspace(min(side, n) / 2, n - min(side, n) / 2, int(np.ceil(max(n / side - 0.25, 0.1) / 0.75)))
                   for n in whole]
        nothing, told = np.zeros((0, 2)), {}
        for first in centres[0]:
            for second in centres[1]:
                window = Window.around(np.array([first, second]) / plane.spacing - 0.5, side / plane.spacing,
                                       (size, size))
                one, told = self._pass(plane, window, examples,
                                       ObjectPrompts(nothing, nothing, None, nothing, nothing), -1.0)
                inside = _restored(plane, window, np.zeros((size // 2, size // 2), np.float32)) > 0
                total, weight = total + one, weight + inside
        return total / weight, told

    def _example(self, prompt: ReferencePrompt, axis: int) -> Example:
        """The slice of a reference that is shown, kept until its files change."""
        key = (prompt.image, prompt.mask, prompt.label_value, axis, *stamps(prompt))
        if key not in self._examples:
            self._examples[key] = Example.of(Path(prompt.image).name, *open_example(prompt), axis)
            while len(self._examples) > KEPT:
                self._examples.popitem(last=False)
        return self._examples[key]

    def _seen(self, example: Example, margin: float) -> tuple[list[np.ndarray], np.ndarray]:
        """Maps of the encoder and prompts of an example, kept."""
        key = (id(example), margin)
        if key not in self._views:
            image, shown = example.shown(example.window(self.context.window, margin))
            self._views[key] = list(self.parts.encode(image)), shown, example  # the example itself keeps its id
            while len(self._views) > KEPT:
                self._views.popitem(last=False)
        return self._views[key][0], self._views[key][1]

    @staticmethod
    def _full(state: EncodedImage, found: Found) -> np.ndarray:
        full = np.zeros(state.canonical.shape, np.float32)
        np.moveaxis(full, found.plane.axis, 0)[found.plane.index] = found.chance
        return full


def _restored(plane: Plane, window: Window, logits: np.ndarray) -> np.ndarray:
    """Probability ``[*N]`` on a slice from logits ``[S/2, S/2]`` of a window; 0 beyond it."""
    factor = window.shape[0] // logits.shape[0]
    step = np.asarray(window.step)
    coarse = Window(tuple(np.asarray(window.origin) + step * (factor - 1) / 2), tuple(step * factor), logits.shape)
    offset, region = coarse.restore(as_chance(logits), plane.image.shape)
    chance = np.zeros(plane.image.shape, np.float32)
    chance[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
    return chance


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Mean cosine of each cell of an embedding ``[1, C, h, w]`` with the most similar cell of another."""
    flat = [value[0].reshape(value.shape[1], -1) for value in (one, other)]
    flat = [value - flat[1].mean(1, keepdims=True) for value in flat]
    flat = [value / (np.linalg.norm(value, axis=0) + 1e-6) for value in flat]
    return float((flat[0].T @ flat[1]).max(1).mean())


def _digest(references: Sequence[ReferencePrompt], boxes: Sequence[Any]) -> str:
    """Of the examples with their files' state, and of the boxes."""
    told = [(one.image, one.mask, one.label_value, stamps(one)) for one in references]
    return hashlib.sha256(repr((told, [(box.low, box.high) for box in boxes])).encode()).hexdigest()[:16]
