"""A 2D predictor used slice by slice on a volume, so that a 3D bundle has a peer at equal prompts.

The adapter does what an annotator with a 2D tool does:

1. A slice that holds clicks or scribbles, or the middle of the box, is a *key slice* and is segmented from its own
   prompts. If it already had a mask from the last round, that is the warm start.
2. From each key slice the mask is carried outwards: the bounding box of one slice's mask is the box prompt of the next
   slice. Two key slices meet halfway.
3. Carrying stops at the range of the box prompt; without one, where the mask gets empty, overlaps its neighbour by a
   Dice below ``MIN_OVERLAP``, or looks more like the surroundings of the key slice than like its object.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np
from scipy.ndimage import binary_dilation

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction, Predictor
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import acquisition_axis, take_slice
from promptzoo.evaluation.metrics import bounding_box, dice
from promptzoo.prompts.types import Box, PromptSet

MIN_OVERLAP = 0.4
"""Carrying stops when two neighbouring slices' masks agree by less than this Dice."""


@dataclass(eq=False)
class _Stack:
    """A volume as slices along ``axis``, each encoded at most once; ``carried`` remembers answers to carried boxes."""

    volume: Volume
    axis: int
    inner: Predictor
    _encoded: dict[int, tuple[Volume, Any]] = field(default_factory=dict)
    carried: dict[tuple, np.ndarray] = field(default_factory=dict)

    def at(self, index: int) -> tuple[Volume, Any]:
        """Slice ``index`` as ``[a, b, 1]`` volume, and the predictor's state for it."""
        if index not in self._encoded:
            empty = np.zeros(self.volume.grid.shape, dtype=bool)
            part, _ = take_slice(self.volume, empty, self.axis, index)
            self._encoded[index] = (part, self.inner.encode(part))
        return self._encoded[index]


class SliceWise:
    """The :class:`promptzoo.core.protocols.Predictor` of a volume made of a 2D one; see the module for the rules.

    Args:
        inner: a predictor of single slices that takes boxes.
        axis: the slice axis; None takes the acquisition axis of each volume.

    Raises:
        PromptZooError: if ``inner`` takes no boxes: masks could not be carried from slice to slice.
    """

    def __init__(self, inner: Predictor, axis: int | None = None) -> None:
        if "box" not in inner.prompt_kinds:
            raise PromptZooError(complain("slice-wise use of " + inner.name, sorted(inner.prompt_kinds),
                                          "a predictor that takes boxes"))
        self.inner, self.axis = inner, axis
        self.name = f"{inner.name} (slice-wise)"
        self.prompt_kinds = frozenset(inner.prompt_kinds & {"point", "box", "scribble"})

    def encode(self, volume: Volume) -> _Stack:
        """Nothing is encoded yet: slices are when they are needed."""
        return _Stack(volume, acquisition_axis(volume.grid) if self.axis is None else self.axis, self.inner)

    def decode(self, state: _Stack, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Segment each object; ``previous`` is the warm start of slices that got a new prompt."""
        start = time.perf_counter()
        prompts.check_on(state.volume.grid, self.prompt_kinds)
        last = {} if previous is None else {o.object_id: o for o in previous.objects}
        answers = [self._object(state, prompts.for_object(o.object_id), last.get(o.object_id)) for o in prompts.objects]
        return Prediction(state.volume.grid, tuple(a for a, _ in answers), time.perf_counter() - start,
                          next((engine for _, engine in answers if engine), "torch"))

    def _object(self, state: _Stack, prompts: PromptSet, last: ObjectPrediction | None
                ) -> tuple[ObjectPrediction, str | None]:
        grid, axis = state.volume.grid, state.axis
        local, object_id = prompts.to_voxel(grid), prompts.objects[0].object_id
        before = None if last is None else np.moveaxis(last.full_probability(), axis, 2)
        known = {} if last is None else dict(last.info.get("prompts_per_slice", {}))
        own = _by_slice(local, axis, grid.shape[axis])
        full = np.zeros([n for a, n in enumerate(grid.shape) if a != axis] + [grid.shape[axis]], dtype=np.float32)
        engine, estimates = None, []
        for index in sorted(own):
            if before is not None and known.get(index) == len(own[index].prompts):
                full[..., index] = before[..., index]
                continue
            part, encoded = state.at(index)
            warm = None
            if before is not None and (before[..., index] >= 0.5).any():
                guess = np.ascontiguousarray(before[..., index:index + 1])
                warm = Prediction(part.grid, (ObjectPrediction(object_id, part.grid, (0, 0, 0), guess),))
            answer = self.inner.decode(encoded, own[index].to_world(part.grid), warm)
            full[..., index] = answer.objects[0].full_probability()[..., 0]
            engine = answer.engine
            if answer.objects[0].estimated_dice is not None:
                estimates.append(answer.objects[0].estimated_dice)
        boxes = local.of("box")
        limits = (0, grid.shape[axis]) if not boxes else (
            max(0, int(round(min(b.low[axis] for b in boxes)))),
            min(grid.shape[axis], int(round(max(b.high[axis] for b in boxes)))))
        for index, step, stop in _routes(sorted(own), limits):
            self._carry(state, full, index, step, stop, object_id, bounded=bool(boxes))
        info = {"prompts_per_slice": {index: len(part.prompts) for index, part in own.items()}, "axis": axis}
        estimate = float(np.mean(estimates)) if estimates else None
        return ObjectPrediction(object_id, grid, (0, 0, 0), np.ascontiguousarray(np.moveaxis(full, 2, axis)), estimate,
                                info=info), engine

    def _carry(self, state: _Stack, full: np.ndarray, key: int, step: int, stop: int, object_id: int, bounded: bool
               ) -> None:
        """Carry the mask of slice ``key`` along ``step`` up to, not including, slice ``stop``."""
        mask = full[..., key] >= 0.5
        if not mask.any():
            return
        inside, outside = _looks(state.at(key)[0].data[..., 0], mask)
        for index in range(key + step, stop, step):
            box = bounding_box(mask)
            if box is None:
                return
            part, encoded = state.at(index)
            bounds = tuple(b.start for b in box) + tuple(b.stop for b in box)
            memory = (index, *bounds)
            if memory not in state.carried:
                prompt = Box((*bounds[:2], 0), (*bounds[2:], 1), object_id, "voxel")
                answer = self.inner.decode(encoded, PromptSet((prompt,)).to_world(part.grid), None)
                state.carried[memory] = answer.objects[0].full_probability()[..., 0]
            found = state.carried[memory]
            new = found >= 0.5
            if not new.any() or (not bounded and (dice(new, mask) < MIN_OVERLAP or _is_other(
                    float(part.data[..., 0][new].mean()), inside, outside))):
                return
            full[..., index], mask = found, new


def _by_slice(prompts: PromptSet, axis: int, count: int) -> dict[int, PromptSet]:
    """The prompts that each key slice gets, in voxel indices of the slice ``(a, b, 0)``."""
    order = [a for a in range(3) if a != axis]
    found: dict[int, list] = {}

    def flat(place: Sequence[float]) -> tuple[float, float, float]:
        return (float(place[order[0]]), float(place[order[1]]), 0.0)

    for prompt in prompts.prompts:
        if prompt.kind == "point":
            index = int(np.clip(round(prompt.position[axis]), 0, count - 1))
            found.setdefault(index, []).append(type(prompt)(flat(prompt.position), prompt.positive, prompt.object_id,
                                                            "voxel"))
        elif prompt.kind == "scribble":
            rows = np.clip(np.round(prompt.points[:, axis]), 0, count - 1).astype(int)
            for index in np.unique(rows):
                stroke = type(prompt)(np.array([flat(p) for p in prompt.points[rows == index]]), prompt.positive,
                                      prompt.object_id, "voxel")
                found.setdefault(int(index), []).append(stroke)
        elif prompt.kind == "box":
            low, high = int(round(prompt.low[axis])), int(round(prompt.high[axis]))
            index = int(np.clip(low + (high - low) // 2, 0, count - 1))
            top = flat(prompt.high)[:2]
            found.setdefault(index, []).append(Box(flat(prompt.low), (*top, 1.0), prompt.object_id, "voxel"))
    return {index: PromptSet(tuple(parts)) for index, parts in found.items()}


def _routes(keys: Sequence[int], limits: tuple[int, int]) -> list[tuple[int, int, int]]:
    """``(key slice, step, stop)`` of every stretch to carry; neighbours meet halfway, ends run to the limits."""
    routes = []
    for n, key in enumerate(keys):
        below = limits[0] - 1 if n == 0 else (keys[n - 1] + key) // 2
        above = limits[1] if n == len(keys) - 1 else (key + keys[n + 1]) // 2 + 1
        routes += [(key, -1, min(below, key)), (key, 1, max(above, key))]
    return routes


def _looks(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Mean intensity of the object, and of a rim of three pixels around it."""
    rim = binary_dilation(mask, iterations=3) & ~mask
    return float(image[mask].mean()), float(image[rim].mean()) if rim.any() else float("nan")


def _is_other(value: float, inside: float, outside: float) -> bool:
    return bool(abs(value - outside) < abs(value - inside))
