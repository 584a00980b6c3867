"""2D bundles on volumes: the prompts of one object on some slices become its mask on all of them."""
from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Mapping, Protocol, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.inference.looks import Look
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.propagation import Propagation, faded, propagate
from promptzoo.inference.slice_answers import SliceAnswer, ranges
from promptzoo.inference.state import EncodedImage, StateCache
from promptzoo.inference.tissue_window import ct_limits
from promptzoo.prompts.types import PromptSet

PROMPTED = "prompted"
"""Member of an answer's ``info``: ``{slice: (digest of its prompts, network's estimate)}`` of the prompted slices."""


class Segmenter(Protocol):
    """What is needed of :class:`promptzoo.inference.zoom.ZoomSegmenter`."""

    def __call__(self, image: np.ndarray, spacing: Sequence[float], prompts: ObjectPrompts,
                 hounsfield: bool = False) -> Look:
        """Segment one object on one slice."""


@dataclass(frozen=True, eq=False)
class Slices:
    """The prompts of one object, slice by slice.

    Args:
        axis: of the slices, in canonical order.
        own: prompts of each slice that has some.
        limits: first slice and slice behind the last that the object may reach.
    """

    axis: int
    own: Mapping[int, ObjectPrompts]
    limits: tuple[int, int]

    @classmethod
    def of(cls, prompts: PromptSet, grid: Grid, context: Sequence[np.ndarray | None] = ()) -> "Slices":
        """Split the prompts of a single object.

        Boxes on different slices are prompts of these slices, not of what lies between. A box that spans several slices
        is a prompt of each, and bounds the object.
        """
        voxel = prompts.to_voxel(grid)
        rest = ObjectPrompts.of(PromptSet(tuple(p for p in voxel.prompts if p.kind != "box"), voxel.objects), grid)
        rest = rest.with_context(context)
        boxes = [(np.asarray(b.low) - 0.5, np.asarray(b.high) - 0.5) for b in voxel.of("box")]
        axis = slice_axis(grid, replace(rest, box=_flattest(boxes)))
        count = grid.shape[axis]
        spans = [_span(box, axis, count) for box in boxes]
        indices = sorted({*prompted_slices(rest, axis, count), *(n for span in spans for n in span)})
        own = {}
        for index in indices:
            here = [box for box, span in zip(boxes, spans) if index in span]
            hull = (np.min([b[0] for b in here], 0), np.max([b[1] for b in here], 0)) if here else None
            part = replace(rest, box=hull).on_slice(axis, index)
            own[index] = part if part.prior is None or (part.prior >= 0.5).any() else part.with_prior(None)
        thick = [span for span in spans if len(span) > 1]
        limits = (0, count)
        if thick and indices:
            limits = (min(indices), max(indices) + 1)
        return cls(axis, own, limits)


@dataclass(eq=False)
class ThroughSlices:
    """Carries prompts through the slices of a volume.

    Args:
        segmenter: segments one slice.
        estimate: from the network's estimate to expected Dice.
        settings: how masks are carried.
        memory: answers to carried prompts, so that a new prompt costs only the slices that it changes.
    """

    segmenter: Segmenter
    estimate: Callable[[float], float]
    settings: Propagation = Propagation()
    memory: StateCache = field(default_factory=lambda: StateCache(64 << 20))
    _known: WeakKeyDictionary = field(default_factory=WeakKeyDictionary)
    _numbers: Any = field(default_factory=itertools.count)

    def __call__(self, state: EncodedImage, prompts: PromptSet, last: ObjectPrediction | None,
                 context: Sequence[np.ndarray | None] = ()) -> tuple[np.ndarray, float, dict[str, Any]]:
        """The volume of one object.

        Args:
            state: the image.
            prompts: prompts of one object, in world space.
            last: the answer to earlier prompts: slices whose prompts did not change keep their mask, the others start
                from it.
            context: see :class:`ObjectPrompts`.

        Returns:
            Probability ``[i, j, k]`` in canonical order, estimated Dice, and what to tell of it.
        """
        parts = Slices.of(prompts, state.canonical, context)
        axis, stack = parts.axis, np.moveaxis(state.data, parts.axis, 0)
        seen = getattr(self.segmenter, "stack_size", 1)
        before = None if last is None else np.moveaxis(state.move.array(last.full_probability()), axis, 0)
        known = {} if last is None else dict(last.info.get(PROMPTED, {}))
        digests = {index: digest(part, axis, index) for index, part in parts.own.items()}
        anchors, corrections = {}, {}
        for index, part in parts.own.items():
            if part.empty:
                corrections[index] = part
            elif before is not None and known.get(index, ("",))[0] == digests[index]:
                anchors[index] = SliceAnswer.full(before[index], known[index][1])
            else:
                if part.prior is None and before is not None and (before[index] >= 0.5).any():
                    part = part.with_prior(before[index])
                anchors[index] = self._look(state.slice(axis, index, seen), spacing_of(state, axis), part,
                                            state.hounsfield)
        token = self._known.setdefault(state, next(self._numbers))

        def ask(index: int, told: ObjectPrompts, tissue: float) -> SliceAnswer:
            limits = ct_limits(tissue) if state.hounsfield else None
            plane = state.slice(axis, index, seen)
            plane = plane if limits is None else np.clip(plane, *limits)
            return self.memory.get((str(token), str(limits), digest(told, axis, index)),
                                   lambda: self._look(plane, spacing_of(state, axis), told, False))

        carried = propagate(ask, stack, anchors, corrections, parts.limits, self.settings)
        full = np.zeros(state.data.shape, dtype=np.float32)
        for index, answer in (*anchors.items(), *carried.answers.items()):
            np.moveaxis(full, axis, 0)[index] = answer.plane
        estimate, each = faded(carried, anchors, self.estimate, self.settings)
        native, turn = _native_axis(state, axis)
        return full, estimate, {
            "windows": [list(answer.history) for _, answer in sorted(anchors.items())],
            PROMPTED: {index: (digests[index], answer.quality) for index, answer in anchors.items()},
            "through_slices": {
                "axis": native, "anchors": sorted(map(turn, anchors)), "negative": sorted(map(turn, corrections)),
                "propagated": ranges([turn(n) for n in carried.answers]),
                "interpolated": ranges([turn(n) for n in carried.interpolated]),
                "stops": [{"anchor": turn(s.anchor), "at": turn(s.at), "reason": s.reason} for s in carried.stops],
                "estimated_dice": {turn(n): round(each[n], 4) for n in sorted(each)}}}

    def _look(self, plane: np.ndarray, spacing: Sequence[float], part: ObjectPrompts, hounsfield: bool) -> SliceAnswer:
        look = self.segmenter(plane, spacing, part, hounsfield)
        offset, region = look.window.restore(look.probability, plane.shape[-2:])
        return SliceAnswer(plane.shape[-2:], tuple(int(o) for o in offset), region.astype(np.float32), look.quality,
                           look.history)


def spacing_of(state: EncodedImage, axis: int) -> list[float]:
    """Pixel size of the slices along ``axis``."""
    return [mm for a, mm in enumerate(state.canonical.spacing_mm) if a != axis]


def digest(part: ObjectPrompts, axis: int, index: int) -> str:
    """Equal for equal prompts on the same slice."""
    told = hashlib.blake2b(f"{axis} {index} {' '.join(part.classes)}".encode(), digest_size=16)
    arrays = [part.positive, part.negative, part.scribble_positive, part.scribble_negative, *(part.box or ()),
              *(vertices for vertices, _ in part.lassos), part.prior, *part.context]
    for array in arrays:
        told.update(b"none" if array is None else str(np.shape(array)).encode())
        told.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    told.update(str([part.box is None, [sign for _, sign in part.lassos]]).encode())
    return told.hexdigest()


def slice_axis(grid: Grid, prompts: ObjectPrompts) -> int:
    """The axis across which a 2D bundle sees slices.

    The axis of length 1 of a 2D image; else the axis along which a box is one voxel thick or a lasso or scribble is
    flat; else the axis of clearly coarsest spacing (acquisition); else the last (axial in RAS+ order).
    """
    if grid.is_2d:
        return int(np.argmin(grid.shape))
    if prompts.box is not None:
        thickness = prompts.box[1] - prompts.box[0]
        if thickness.min() < 1.01 and (thickness > 1.01).sum() == 2:
            return int(np.argmin(thickness))
    drawn = [v for v, _ in prompts.lassos] + [s for s in (prompts.scribble_positive,) if len(s) > 2]
    for points in drawn:
        spread = np.ptp(points, axis=0)
        if spread.min() <= 0.51 and (spread > 0.51).sum() == 2:
            return int(np.argmin(spread))
    spacing = np.asarray(grid.spacing_mm)
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > 1.2 * np.median(spacing) else 2


def prompted_slices(prompts: ObjectPrompts, axis: int, count: int) -> list[int]:
    """Indices along ``axis`` that carry any prompt or prior mask, in order."""
    found: set[int] = set()
    for points in (prompts.positive, prompts.negative, prompts.scribble_positive, prompts.scribble_negative,
                   *(v for v, _ in prompts.lassos)):
        found.update(np.round(points[:, axis]).astype(int).tolist())
    if prompts.box is not None:
        found.update(_span(prompts.box, axis, count))
    if prompts.prior is not None:
        other = tuple(a for a in range(3) if a != axis)
        found.update(np.flatnonzero((prompts.prior >= 0.5).any(other)).tolist())
    return sorted(i for i in found if 0 <= i < count)


def _span(box: tuple[np.ndarray, np.ndarray], axis: int, count: int) -> range:
    """The slices whose centres lie in a box."""
    low, high = int(np.ceil(box[0][axis] - 1e-6)), int(np.floor(box[1][axis] + 1e-6))
    return range(max(low, 0), min(high + 1, count))


def _flattest(boxes: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray] | None:
    """The box that tells most clearly on which axis it was drawn: its thinnest side is far from its other sides."""
    def flatness(box: tuple[np.ndarray, np.ndarray]) -> float:
        thin, middle, _ = sorted(box[1] - box[0])
        return float(middle / max(thin, 1e-6))

    return max(boxes, key=flatness, default=None)


def _native_axis(state: EncodedImage, axis: int) -> tuple[int, Callable[[int], int]]:
    """The slice axis in the image's own order, and how an index along it reads there."""
    last = state.canonical.shape[axis] - 1
    return int(state.move.order[axis]), (lambda n: last - n) if state.move.flips[axis] else (lambda n: n)
