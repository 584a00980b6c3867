"""Words to boxes to masks: one bundle finds where a text lies, another segments there.

The scheme of Polyp-SAM++ (Biswas 2023), LuGSAM (Ramesh et al. 2024) and TV-SAM (Jiang et al. 2024): a detector that is
told words gives boxes, a promptable network segments every box. MedCLIP-SAM (Koleilat et al. 2024) takes the boxes
from a map of how well each place fits the text: smoothed, cut by Otsu's threshold, its largest parts kept. TP-DRSeg (Li
et al. 2024) hands such a map on as a mask prompt. The score of a mask is the text's score times its estimated Dice.
"""
from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from promptzoo.core.errors import BundleError, PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction, Predictor
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import Box, MaskPrompt, ObjectInfo, PromptSet, TextPrompt


@dataclass(frozen=True)
class TextToBox:
    """How places become prompts.

    Args:
        margin: share of its side by which a box is grown at every face.
        least_score: a mask whose text score times estimated Dice is lower is rejected.
        least_share: a part of a map that is smaller than this share of its largest part is dropped.
        most: most boxes of one object (and, of volumes with a 2D bundle, of one slice).
        smooth_vox: standard deviation by which a map is smoothed before it is cut.
        prior: also hand the map on, as a mask prompt.
        against: texts of what is not meant (``normal``); a place counts only where the text scores above all of them.

    Raises:
        BundleError: for numbers out of range.
    """

    margin: float = 0.05
    least_score: float = 0.2
    least_share: float = 0.2
    most: int = 20
    smooth_vox: float = 1.0
    prior: bool = False
    against: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.most < 1 or min(self.margin, self.smooth_vox) < 0 or not all(
                0 <= share <= 1 for share in (self.least_score, self.least_share)):
            raise BundleError(complain("settings of text to box", repr(self), "shares in 0 … 1, at least one box"))


@dataclass(frozen=True, eq=False)
class Place:
    """Where a text lies.

    Args:
        low, high: half-open bounds in voxels of the image.
        score: of the text there, in [0, 1].
        mask: its part of the map ``[i, j, k]`` bool, or None.
    """

    low: np.ndarray
    high: np.ndarray
    score: float
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class BothStates:
    """An image, encoded for the two bundles."""

    localiser: Any
    segmenter: Any
    source: Any

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(self.localiser.nbytes + self.segmenter.nbytes)


class TextToBoxPredictor:
    """Text and class prompts of a localiser, in front of any promptable predictor.

    Objects with a text get the union of what is found. Other prompts of the same object edit it: boxes say where to
    look, a negative click takes the mask under it away; others are refused. Objects without a text are answered by the
    promptable bundle.

    Args:
        localiser: takes text; answers boxes (``info["generated"]``, ``info["boxes"]``) or a map.
        segmenter: takes boxes.
        settings: see :class:`TextToBox`.
        name: of the bundle.

    Raises:
        BundleError: if one of the two does not take these prompts.
    """

    def __init__(self, localiser: Predictor, segmenter: Any, settings: TextToBox = TextToBox(),
                 name: str = "text_to_box_to_sam") -> None:
        for one, kind, wanted in ((localiser, "localiser", "text"), (segmenter, "segmenter", "box")):
            if wanted not in one.prompt_kinds:
                raise BundleError(complain(f"{kind} {one.name}", ", ".join(sorted(one.prompt_kinds)), wanted))
        self.localiser, self.segmenter, self.settings, self.name = localiser, segmenter, settings, name
        self.prompt_kinds = frozenset({"text", *(localiser.prompt_kinds & {"class"}), *segmenter.prompt_kinds})
        self.engine, self.dimensions = segmenter.engine, segmenter.dimensions

    def encode(self, volume: Volume) -> BothStates:
        """Prepare an image for any number of :meth:`decode` calls."""
        return BothStates(self.localiser.encode(volume), self.segmenter.encode(volume), volume.grid)

    def decode(self, state: BothStates, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Segment all objects of a prompt set.

        Objects with words carry ``info["generated"]``, the boxes as JSON of a prompt set in world space, to be edited
        and given; ``info["instances"]``, how many were kept; ``info["scores"]`` of all boxes; ``info["reason"]`` if
        none was kept.

        Raises:
            PromptError: if a prompt does not fit the image or the bundles.
            UnclearTextError: if the localiser does not understand a text.
        """
        started = time.perf_counter()
        world = prompts.check_on(state.source, self.prompt_kinds).to_world(state.source)
        worded = {p.object_id for p in world.prompts if p.kind in ("text", "class")}
        for prompt in world.prompts:
            if prompt.object_id in worded and (prompt.kind in ("lasso", "mask", "scribble")
                                               or getattr(prompt, "positive", False)):
                told = "positive click" if prompt.kind == "point" else prompt.kind
                raise PromptError(complain("beside words of the same object", told, "boxes and negative clicks",
                                           "Give the shape an object of its own"))
        plain = tuple(info for info in world.objects if info.object_id not in worded)
        rest = PromptSet(tuple(p for p in world.prompts if p.object_id not in worded), plain, world.through_slices)
        answers = {entry.object_id: entry for entry in self.segmenter.decode(state.segmenter, rest, previous).objects} \
            if plain else {}
        for number in worded:
            answers[number] = self._found(state, world.for_object(number))
        ordered = tuple(answers[info.object_id] for info in world.objects)
        return Prediction(state.source, ordered, time.perf_counter() - started, self.engine)

    def places(self, state: BothStates, prompts: PromptSet) -> list[Place]:
        """Where the words of one object lie, best first, inside its boxes if it has some."""
        words = PromptSet(tuple(p for p in prompts.prompts if p.kind in ("text", "class")), prompts.objects)
        answer = self.localiser.decode(state.localiser, words).objects[0]
        found = _boxes_of(answer, state) or self._parts(answer, state)
        for text in self.settings.against:
            other = PromptSet((TextPrompt(text, words.prompts[0].object_id),))
            against = _boxes_of(self.localiser.decode(state.localiser, other).objects[0], state)
            found = [p for p in found if all(q.score < p.score or not _meet(p, q) for q in against)]
        areas = prompts.to_voxel(state.source).of("box")
        if areas:
            found = [p for p in found if any(_within((p.low + p.high) / 2, area) for area in areas)]
        return sorted(found, key=lambda p: -p.score)

    def _parts(self, answer: ObjectPrediction, state: BothStates) -> list[Place]:
        """Parts of the map of an answer: of volumes with a 2D bundle slice by slice."""
        chance = answer.full_probability()
        if not (chance >= answer.threshold).any():
            return []
        flat, found = self.dimensions == 2 and not state.source.is_2d, []
        axis = int(np.argmin(chance.shape)) if state.source.is_2d else _slice_axis(state.source)
        sigma = np.where(np.asarray(chance.shape) > 1, self.settings.smooth_vox, 0.0)
        sigma[axis] = 0.0 if flat else sigma[axis]
        smooth = ndimage.gaussian_filter(chance, sigma)
        cut = smooth >= min(float(threshold_otsu(smooth)), answer.threshold)
        for index in range(chance.shape[axis]) if flat else [None]:
            layer = cut.copy() if index is None else np.zeros_like(cut)
            if index is not None:
                place = tuple(index if a == axis else slice(None) for a in range(3))
                layer[place] = cut[place]
            parts, count = ndimage.label(layer)
            sizes = ndimage.sum_labels(layer, parts, np.arange(1, count + 1))
            order = np.argsort(-sizes)[:self.settings.most] + 1
            for n in order[sizes[order - 1] >= self.settings.least_share * sizes.max(initial=0)]:
                part = parts == n
                at = np.argwhere(part)
                found.append(Place(at.min(0).astype(float), at.max(0) + 1.0, float(chance[part].mean()), part))
        return found

    def _prompts(self, places: Sequence[Place], state: BothStates) -> PromptSet:
        """Boxes, and maps where they are handed on, one object each, in world space."""
        shape, told = np.asarray(state.source.shape, float), []
        for number, place in enumerate(places, 1):
            grow = self.settings.margin * (place.high - place.low) * (place.high - place.low > 1)
            low, high = np.maximum(place.low - grow, 0), np.minimum(place.high + grow, shape)
            told.append(Box(tuple(low), tuple(high), number, "voxel"))
            if self.settings.prior and place.mask is not None:
                told.append(MaskPrompt(place.mask, state.source, number))
        names = tuple(ObjectInfo(n, f"{n}, score {place.score:.2f}") for n, place in enumerate(places, 1))
        return PromptSet(tuple(told), names).to_world(state.source)

    def _found(self, state: BothStates, own: PromptSet) -> ObjectPrediction:
        number, places = own.objects[0].object_id, self.places(state, own)[:self._most(state)]
        asked = self._prompts(places, state)
        answers = self.segmenter.decode(state.segmenter, asked).objects if places else ()
        scores = [place.score * (1.0 if a.estimated_dice is None else a.estimated_dice)
                  for place, a in zip(places, answers)]
        removed = [p.position for p in own.to_voxel(state.source).of("point") if not p.positive]
        kept = [n for n, (score, answer) in enumerate(zip(scores, answers)) if score >= self.settings.least_score
                and not any(_covers(answer, point) for point in removed)]
        info: dict[str, Any] = {"instances": len(kept), "scores": [round(float(score), 4) for score in scores]}
        if not kept:
            best = f"; the best of {len(scores)} places scored {max(scores):.2f}" if scores else ""
            info["reason"] = f"not found{best}"
            return ObjectPrediction(number, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), None, info=info)
        ids = {n + 1 for n in kept}
        info["generated"] = json.dumps(PromptSet(tuple(p for p in asked.prompts if p.object_id in ids), tuple(
            o for o in asked.objects if o.object_id in ids)).to_json())
        full = np.zeros(state.source.shape, np.float32)
        for n in kept:
            part = full[answers[n].region]
            np.maximum(part, answers[n].probability, out=part)
        quality = [a.estimated_dice for a in (answers[n] for n in kept) if a.estimated_dice is not None]
        return ObjectPrediction(number, state.source, (0, 0, 0), full, float(np.mean(quality)) if quality else None,
                                answers[kept[0]].threshold, info)

    def _most(self, state: BothStates) -> int:
        slices = self.dimensions == 2 and not state.source.is_2d
        return self.settings.most * (state.source.shape[_slice_axis(state.source)] if slices else 1)


def _slice_axis(grid: Any) -> int:
    """The axis from feet to head."""
    return next(n for n, letter in enumerate(grid.axis_codes) if letter in "IS")


def _boxes_of(answer: ObjectPrediction, state: BothStates) -> list[Place]:
    """The boxes that a detector tells."""
    if "generated" not in answer.info:
        return []
    drawn = PromptSet.from_json(json.loads(answer.info["generated"])).to_voxel(state.source).of("box")
    scores = [float(entry["score"]) for entry in answer.info.get("boxes", ())] or [1.0] * len(drawn)
    return [Place(np.asarray(b.low, float), np.asarray(b.high, float), s) for b, s in zip(drawn, scores)]


def _meet(first: Place, second: Place) -> bool:
    """Whether two places have half of the smaller one in common."""
    common = np.prod(np.clip(np.minimum(first.high, second.high) - np.maximum(first.low, second.low), 0, None))
    return bool(common >= 0.5 * min(np.prod(first.high - first.low), np.prod(second.high - second.low)))


def _within(point: np.ndarray, box: Box) -> bool:
    return bool((point >= box.low).all() and (point < box.high).all())


def _covers(answer: ObjectPrediction, point: Sequence[float]) -> bool:
    """Whether a voxel belongs to a mask."""
    index = tuple(np.clip(np.rint(point).astype(int), 0, np.asarray(answer.grid.shape) - 1))
    return bool(answer.mask[index])
