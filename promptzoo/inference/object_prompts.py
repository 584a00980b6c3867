"""The prompts of one object in image indices, and what they look like in a network window."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np
from skimage.draw import polygon2mask

from promptzoo.core.geometry import Grid
from promptzoo.inference.resample import Window
from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.types import PromptSet

DECIMALS = 6
"""Prompts are taken to this many decimals of a voxel: world millimetres come back to voxels with errors that differ
from one arrangement of the axes to another, and would decide where a half is rounded to."""


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """Spatial prompts of one object on an array of ``d`` axes, in continuous indices of that array.

    Args:
        positive, negative: clicks ``[n, d]``.
        box: lower and upper faces ``[d]`` each, or None.
        scribble_positive, scribble_negative: stroke samples ``[n, d]``.
        lassos: ``(vertices [n, d], positive)`` pairs.
        prior: probability ``[*N]`` of a mask to start from (mask prompt or last prediction), or None.
        context: masks ``[*N]`` of other structures for a network's prior channels, in their order; None where one is
            not known.
        classes: names of the classes that the object is said to be of.
    """

    positive: np.ndarray
    negative: np.ndarray
    box: tuple[np.ndarray, np.ndarray] | None
    scribble_positive: np.ndarray
    scribble_negative: np.ndarray
    lassos: tuple[tuple[np.ndarray, bool], ...] = ()
    prior: np.ndarray | None = None
    context: tuple[np.ndarray | None, ...] = ()
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompts: PromptSet, grid: Grid) -> "ObjectPrompts":
        """Collect the prompts of a single-object set on ``grid``; several boxes become their hull."""
        voxel = prompts.to_voxel(grid)

        def rows(kind: str, positive: bool) -> np.ndarray:
            found = [p for p in voxel.of(kind) if p.positive == positive]
            values = [np.atleast_2d(p.position if kind == "point" else p.points) for p in found]
            return np.round(np.concatenate(values), DECIMALS) if values else np.zeros((0, 3))

        boxes = voxel.of("box")
        box = (np.round(np.min([b.low for b in boxes], 0), DECIMALS) - 0.5,
               np.round(np.max([b.high for b in boxes], 0), DECIMALS) - 0.5) if boxes else None
        prior = None
        for mask in voxel.of("mask"):
            layer = _on_grid(mask.mask, mask.grid, grid)
            prior = layer if prior is None else np.maximum(prior, layer)
        return cls(rows("point", True), rows("point", False), box, rows("scribble", True), rows("scribble", False),
                   tuple((np.round(p.points, DECIMALS), p.positive) for p in voxel.of("lasso")), prior,
                   classes=tuple(p.name for p in voxel.of("class")))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to segment from (negative prompts alone do not name an object)."""
        return self.box is None and self.prior is None and not len(self.positive) \
            and not len(self.scribble_positive) and not any(sign for _, sign in self.lassos)

    def with_prior(self, prior: np.ndarray | None) -> "ObjectPrompts":
        """The same prompts with another starting mask."""
        return replace(self, prior=prior)

    def with_context(self, context: Sequence[np.ndarray | None]) -> "ObjectPrompts":
        """The same prompts beside other structures that are known."""
        return replace(self, context=tuple(context))

    def on_slice(self, axis: int, index: int, prior: np.ndarray | None = None) -> "ObjectPrompts":
        """The part of 3D prompts that lies on slice ``index`` of ``axis``, as prompts of the 2D slice."""
        keep = [a for a in range(3) if a != axis]

        def near(points: np.ndarray) -> np.ndarray:
            return points[np.round(points[:, axis]).astype(int) == index][:, keep]

        box = None
        if self.box is not None and self.box[0][axis] - 1e-6 <= index <= self.box[1][axis] + 1e-6:
            box = (self.box[0][keep], self.box[1][keep])
        lassos = tuple((v[:, keep], sign) for v, sign in self.lassos
                       if np.ptp(v[:, axis]) <= 0.51 and round(float(v[:, axis].mean())) == index)
        own = None if self.prior is None else np.take(self.prior, index, axis)
        context = tuple(None if mask is None else np.take(mask, index, axis) for mask in self.context)
        return ObjectPrompts(near(self.positive), near(self.negative), box, near(self.scribble_positive),
                             near(self.scribble_negative), lassos, own if prior is None else prior, context,
                             self.classes)

    def in_window(self, window: Window, prior: np.ndarray | None) -> WindowPrompts:
        """Prompts in pixels of a window.

        Args:
            window: the window.
            prior: probability ``[*window.shape]`` to feed back, or None.
        """
        box = None if self.box is None else (window.to_window(self.box[0]), window.to_window(self.box[1]))
        return WindowPrompts(
            len(window.shape), window.to_window(self.positive), window.to_window(self.negative), box,
            window.to_window(self.scribble_positive), window.to_window(self.scribble_negative),
            self._lasso_map(window), prior)

    def context_in(self, window: Window, count: int) -> np.ndarray:
        """The first ``count`` context masks in pixels of a window, ``[count, *S]`` float32; unknown ones are zero."""
        channels = np.zeros((count, *window.shape), dtype=np.float32)
        for channel, mask in zip(channels, self.context):
            if mask is not None:
                channel[...] = window.sample(mask)
        return channels

    def _lasso_map(self, window: Window) -> np.ndarray | None:
        if not self.lassos:
            return None
        region = np.zeros(window.shape, dtype=np.float32)
        for vertices, positive in self.lassos:
            points = window.to_window(vertices)
            if points.shape[1] == 2:
                region[polygon2mask(window.shape, points)] = 1.0 if positive else -1.0
                continue
            flat = int(np.argmin(np.ptp(points, axis=0)))
            keep = [a for a in range(3) if a != flat]
            level = int(round(float(points[:, flat].mean())))
            half = max(0, int(round(0.5 / window.step[flat] - 0.5)))  # one image slice may be several window slices
            filled = polygon2mask([window.shape[a] for a in keep], points[:, keep])
            for slab in range(max(0, level - half), min(window.shape[flat], level + half + 1)):
                np.moveaxis(region, flat, 0)[slab][filled] = 1.0 if positive else -1.0
        return region


def _on_grid(mask: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """A mask on another grid, nearest neighbour; identical grids are copied."""
    if source.same_space(target):
        return mask.astype(np.float32)
    centres = np.stack(np.meshgrid(*[np.arange(n) for n in target.shape], indexing="ij"), -1)
    index = np.round(source.to_index(target.to_world(centres))).astype(int)
    valid = ((index >= 0) & (index < source.shape)).all(-1)
    result = np.zeros(target.shape, dtype=np.float32)
    result[valid] = mask[tuple(index[valid].T)]
    return result
