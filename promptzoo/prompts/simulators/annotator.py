"""An annotator made of the simulators: prompts in voxel space from a truth and a mask on an image's grid."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.morphology import skeletonize

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.prompts.simulators import boxes, clicks, lassos, masks, scribbles
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, Point, Scribble

BOX_KINDS = ("tight", "jittered", "enlarged", "mid-slice")


@dataclass(frozen=True)
class AnnotatorStyle:
    """How an annotator misses.

    Args:
        click_depth_frac: a noisy click falls on a voxel at least this fraction as deep in the error as its deepest
            voxel, from 0 (anywhere in the error) to 1 (a deepest voxel).
        click_slip_mm: Gaussian deviation of the hand; a slip out of the error is not made.
        box_sigma_frac: deviation of each side of a jittered box, as a fraction of the box's size along that axis.
        box_grow_frac: growth of each side of an enlarged box, as a fraction of its size; negative shrinks.
        slice_axis: array axis across which the annotator looks at a volume when there is no generator.
    """

    click_depth_frac: float = 0.5
    click_slip_mm: float = 0.0
    box_sigma_frac: float = 0.08
    box_grow_frac: float = 0.1
    slice_axis: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.click_depth_frac <= 1 or min(self.click_slip_mm, self.box_sigma_frac) < 0:
            raise PromptError(complain("annotator style", repr(self), "a depth in 0 … 1 and deviations from 0 on"))
        if self.slice_axis not in (0, 1, 2):
            raise PromptError(complain("annotator slice axis", self.slice_axis, "0, 1 or 2"))


class SimulatedAnnotator:
    """Answers a mask as a person would.

    With a generator ``rng`` every method is a sampler; without one it is the deterministic twin: the exact centre of
    the largest error, the skeleton and the outline of the object on its fullest slice. All draws come from ``rng``.

    Args:
        grid: the image's grid; masks ``[i, j, k]`` lie on it, prompts are in its voxel space.
        style: how the annotator misses.
        object_id: the object that the prompts speak of.

    Every method raises :class:`PromptError` for a mask off the grid, and for an empty object except in `next_click`.
    """

    def __init__(self, grid: Grid, style: AnnotatorStyle = AnnotatorStyle(), object_id: int = 1) -> None:
        self.grid, self.style, self.object_id = grid, style, object_id
        self._axis = int(np.argmin(grid.shape)) if grid.is_2d else style.slice_axis

    def first_click(self, truth: np.ndarray, rng: np.random.Generator | None = None) -> Point:
        """A positive click into the largest component of ``truth``, see :meth:`next_click`."""
        click = self.next_click(self._object(truth), np.zeros(self.grid.shape, dtype=bool), rng)
        if click is None:
            raise PromptError(complain("object to click on", "an empty one", "one with a voxel"))
        return click

    def next_click(self, truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator | None = None) -> Point | None:
        """A click into the largest error of ``mask``: its centre by Euclidean distance in millimetres, with ``rng`` a
        place near it as the style says. None without an error."""
        truth, mask = self._on_grid(truth), self._on_grid(mask)
        missed, wrong, spacing = truth & ~mask, mask & ~truth, self.grid.spacing_mm
        if self.grid.is_2d:  # the faces of the only slice are no border
            missed, wrong = (np.take(a, 0, self._axis) for a in (missed, wrong))
            spacing = tuple(np.delete(spacing, self._axis))
        found = clicks.centre_of_largest_error(missed, wrong, spacing)
        if found is None:
            return None
        at = found[0] if rng is None else self._near_centre(missed | wrong, np.asarray(spacing), rng)
        index = np.insert(at, self._axis, 0) if self.grid.is_2d else at
        return Point(_triple(index), bool(missed[tuple(at)]), self.object_id, "voxel")

    def box(self, truth: np.ndarray, kind: str = "tight", rng: np.random.Generator | None = None) -> Box:
        """A box around ``truth``, of a kind of :data:`BOX_KINDS`; ``mid-slice`` is the in-plane box of the middle slice
        over the whole range. PromptError for other kinds, and for a jittered box without ``rng`` (its deterministic
        twin is :func:`promptzoo.prompts.simulators.boxes.moved`)."""
        truth, shape = self._object(truth), self.grid.shape
        low, high = boxes.mid_slice(truth, self._axis) if kind == "mid-slice" else boxes.tight(truth)
        if kind == "enlarged":
            low, high = boxes.enlarged(low, high, shape, self.style.box_grow_frac)
        elif kind == "jittered" and rng is not None:
            low, high = boxes.jittered(low, high, shape, self.style.box_sigma_frac, rng)
        elif kind not in ("tight", "mid-slice"):
            raise PromptError(complain("simulated box", kind, ", ".join(BOX_KINDS), "Give a generator for jittered"))
        return Box(_triple(low), _triple(high), self.object_id, "voxel")

    def scribbles(self, truth: np.ndarray, rng: np.random.Generator | None = None) -> tuple[Scribble, ...]:
        """A positive scribble on one slice of ``truth`` and, with ``rng``, mostly a negative one around it."""
        plane, axis, index = self._slice(truth, rng)
        if rng is None:
            middle = np.argwhere(skeletonize(plane))
            drawn = [middle if len(middle) else np.argwhere(plane)[:1]]
        else:  # padded, because strokes of an object at the border may leave the array and be lost
            drawn = [p - 2 for p in scribbles.human_like(np.pad(plane, 2), rng)]
            drawn = [p[((p >= 0) & (p < plane.shape)).all(1)] for p in drawn]
        return tuple(Scribble(np.insert(points.astype(float), axis, index, 1), n == 0, self.object_id, "voxel")
                     for n, points in enumerate(drawn) if len(points))

    def lasso(self, truth: np.ndarray, rng: np.random.Generator | None = None) -> Lasso:
        """The outline of one slice of ``truth``, with ``rng`` drawn loosely."""
        plane, axis, index = self._slice(truth, rng)
        region = plane if rng is None else lassos.loose_region(plane, rng) > 0.5
        line = lassos.outline(region if region.any() else plane)
        return Lasso(np.insert(line, axis, index, 1), True, self.object_id, "voxel")

    def mask(self, truth: np.ndarray, rng: np.random.Generator | None = None) -> MaskPrompt:
        """A mask prompt: ``truth``, with ``rng`` eroded, dilated, shifted, cut or holed."""
        truth = self._object(truth)
        return MaskPrompt(truth if rng is None else masks.disturbed(truth, rng), self.grid, self.object_id)

    def _near_centre(self, error: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        part = clicks.largest_component(error)
        distance = clicks.depth(part, tuple(spacing))
        deep = np.argwhere(part & (distance >= distance.max() * self.style.click_depth_frac))
        at = deep[int(rng.integers(len(deep)))]
        slip = at + np.rint(rng.standard_normal(len(at)) * self.style.click_slip_mm / spacing).astype(int)
        return slip if ((slip >= 0) & (slip < part.shape)).all() and part[tuple(slip)] else at

    def _slice(self, truth: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, int, int]:
        truth = self._object(truth)
        axis = self._axis if rng is None or self.grid.is_2d else int(rng.integers(3))
        area = truth.sum(tuple(a for a in range(3) if a != axis)).astype(float)
        index = int(area.argmax()) if rng is None else int(rng.choice(len(area), p=area ** 2 / (area ** 2).sum()))
        return np.take(truth, index, axis), axis, index

    def _on_grid(self, mask: np.ndarray) -> np.ndarray:
        if np.shape(mask) != self.grid.shape:
            raise PromptError(complain("mask does not fit the grid", list(np.shape(mask)), str(self.grid.shape)))
        return np.asarray(mask).astype(bool)

    def _object(self, truth: np.ndarray) -> np.ndarray:
        truth = self._on_grid(truth)
        if not truth.any():
            raise PromptError(complain("prompt for an empty object", "no voxel", "at least one voxel"))
        return truth


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
