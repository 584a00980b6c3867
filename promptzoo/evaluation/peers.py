"""What the peers of :mod:`promptzoo.evaluation.baselines` share: seeds from prompts, and a small working window."""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import binary_dilation, zoom

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import PromptSet

BOX_SLACK_3D = 0.15
"""The box of a middle slice need not hold the other slices: in a volume an object may reach this fraction of the box's
sides beyond it."""


@dataclass(frozen=True, eq=False)
class Seeds:
    """Prompts of one object in voxel indices of the image.

    Args:
        positive, negative: ``[n, 3]`` int; clicks and painted scribble voxels, clipped to the image.
        box: ``(low, high)`` half-open integer bounds, the hull of all boxes, or None.
    """

    positive: np.ndarray
    negative: np.ndarray
    box: tuple[np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, prompts: PromptSet, object_id: int, grid: Grid) -> "Seeds":
        """Collect the spatial prompts of one object; other kinds are not used."""
        local = prompts.for_object(object_id).to_voxel(grid)
        top = np.asarray(grid.shape) - 1
        places: dict[bool, list] = {True: [], False: []}
        for point in local.of("point"):
            places[point.positive].append(np.asarray(point.position)[None])
        for stroke in local.of("scribble"):
            places[stroke.positive].append(stroke.points)
        arrays = [np.unique(np.clip(np.round(np.concatenate(places[sign])), 0, top).astype(int), axis=0)
                  if places[sign] else np.zeros((0, 3), dtype=int) for sign in (True, False)]
        boxes = local.of("box")
        box = None
        if boxes:
            low = np.clip(np.round(np.min([b.low for b in boxes], axis=0)), 0, top).astype(int)
            high = np.clip(np.round(np.max([b.high for b in boxes], axis=0)), low + 1, top + 1).astype(int)
            box = (low, high)
        return cls(arrays[0], arrays[1], box)


class Peer:
    """A method without learning behind the ``Predictor`` protocol; subclasses answer one object at a time."""

    name = "peer"
    prompt_kinds = frozenset({"point", "box", "scribble"})
    needs: tuple[str, str] | None = None
    """Module and pip extra of a package that the method cannot do without."""

    def encode(self, volume: Volume) -> Volume:
        """Nothing to prepare: the state is the image itself."""
        return volume

    def decode(self, state: Volume, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Answer each object of ``prompts`` on its own, from all its prompts; ``previous`` is not used."""
        start = time.perf_counter()
        prompts.check_on(state.grid, self.prompt_kinds)
        objects = []
        for info in prompts.objects:
            seeds = Seeds.of(prompts, info.object_id, state.grid)
            offset, probability = self.solve(state, seeds)
            objects.append(ObjectPrediction(info.object_id, state.grid, tuple(int(o) for o in offset),
                                            np.ascontiguousarray(probability, dtype=np.float32)))
        return Prediction(state.grid, tuple(objects), time.perf_counter() - start, "none")

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[Any, np.ndarray]:
        """Offset of a region and the probability ``[i, j, k]`` in it."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Window:
    """A crop around the prompts, reduced to a limited number of voxels a side.

    Args:
        low, high: half-open bounds in the image.
        image: ``[a, b]`` (one slice) or ``[a, b, c]``, scaled to [0, 1] between the crop's 1st and 99th percentile.
        positive, negative: seed masks of that shape; each click is a small disk or ball.
        inside: mask of the box (in a volume ``BOX_SLACK_3D`` wider), or None without one.
    """

    low: np.ndarray
    high: np.ndarray
    image: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    inside: np.ndarray | None

    @classmethod
    def around(cls, volume: Volume, seeds: Seeds, side_2d: int = 112, side_3d: int = 48,
               margin_frac: float = 0.25, reach_3d_mm: float = 64.0) -> "Window":
        """Cut the window.

        With a box: the box and all clicks, ``margin_frac`` of the box wider on each side and at least 3 voxels.
        Without: on one slice the whole image; in a volume the hull of the clicks, ``reach_3d_mm`` wider.
        """
        shape = np.asarray(volume.grid.shape)
        points = np.concatenate([seeds.positive, seeds.negative])
        corners = [points.min(0), points.max(0) + 1] if len(points) else []
        if seeds.box is not None:
            corners += list(seeds.box)
            margin = np.maximum(3, np.ceil(margin_frac * (seeds.box[1] - seeds.box[0])))
        elif volume.grid.is_2d or not corners:
            corners, margin = [np.zeros(3), shape], np.zeros(3)
        else:
            margin = np.ceil(reach_3d_mm / np.asarray(volume.grid.spacing_mm))
        low = np.maximum(0, np.min(corners, axis=0) - margin).astype(int)
        high = np.minimum(shape, np.max(corners, axis=0) + margin).astype(int)
        crop = tuple(slice(a, b) for a, b in zip(low, high))
        flat = (high - low) == 1
        keep = ~flat if np.count_nonzero(~flat) >= 2 else np.arange(3) < 2
        sides = (high - low)[keep]
        side = side_2d if len(sides) == 2 else side_3d
        small = np.maximum(1, np.round(sides * np.minimum(1.0, side / sides))).astype(int)
        scale = small / sides

        def shrink(array: np.ndarray, order: int) -> np.ndarray:
            part = np.asarray(array[crop], dtype=np.float32).reshape(sides)
            return part if (small == sides).all() else zoom(part, scale, order=order, grid_mode=True, mode="nearest")

        def plant(places: np.ndarray) -> np.ndarray:
            seed = np.zeros(small, dtype=bool)
            index = np.clip(((places - low + 0.5)[:, keep] * scale).astype(int), 0, small - 1)
            seed[tuple(index.T)] = True
            return seed

        values = volume.data[crop]
        bottom, top = np.percentile(values, (1, 99))
        image = np.clip((shrink(volume.data, 1) - bottom) / max(float(top - bottom), 1e-6), 0, 1)
        inside = None
        if seeds.box is not None:
            inside = np.zeros(small, dtype=bool)
            slack = 0 if len(sides) == 2 else np.round(BOX_SLACK_3D * (seeds.box[1] - seeds.box[0]))
            first = np.clip(seeds.box[0] - low - slack, 0, high - low - 1)[keep]
            last = np.clip(seeds.box[1] - low + slack, 1, high - low)[keep]
            a = np.floor(first * scale).astype(int)
            b = np.maximum(a + 1, np.ceil(last * scale).astype(int))
            inside[tuple(slice(s, e) for s, e in zip(a, b))] = True
        return cls(low, high, image, plant(seeds.positive), plant(seeds.negative), inside)

    def frame(self) -> np.ndarray:
        """The outermost voxels of the window, as a mask."""
        ring = np.ones(self.image.shape, dtype=bool)
        ring[tuple(slice(1, -1) if n > 2 else slice(None) for n in self.image.shape)] = False
        return ring

    def disks(self, seeds: np.ndarray, radius: int) -> np.ndarray:
        """``seeds`` grown by ``radius`` steps of the 4-/6-neighbourhood."""
        return binary_dilation(seeds, iterations=radius) if radius and seeds.any() else seeds

    def enlarge(self, probability: np.ndarray) -> np.ndarray:
        """A result of the window's size back to the crop's own voxels ``[i, j, k]``."""
        shape = self.high - self.low
        target = [n for n in shape if n > 1] if probability.ndim < 3 else list(shape)
        while len(target) < probability.ndim:
            target.append(1)
        if tuple(target) != probability.shape:
            factors = [t / n for t, n in zip(target, probability.shape)]
            probability = zoom(probability.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
        return np.clip(probability, 0, 1).reshape(shape)
