"""Where structures lie in images: boxes relative to the image, learned from labels, as prompts for images without."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.evaluation.datalist import acquisition_axis
from promptzoo.evaluation.metrics import bounding_box
from promptzoo.prompts.types import Box, PromptSet


@dataclass(frozen=True)
class Place:
    """A box as parts of the image's extent, along right, anterior, superior; 0 to 1.

    Args:
        low, high: its faces.
    """

    low: tuple[float, float, float] = (0.25, 0.25, 0.25)
    high: tuple[float, float, float] = (0.75, 0.75, 0.75)

    @classmethod
    def of(cls, mask: np.ndarray, grid: Grid) -> "Place | None":
        """The place of a mask ``[i, j, k]`` on its grid; None if it is empty."""
        moved = grid.orientation.array(mask)
        bounds = bounding_box(moved)
        if bounds is None:
            return None
        low, high = zip(*((part.start / n, part.stop / n) for part, n in zip(bounds, moved.shape)))
        return cls(low, high)  # type: ignore[arg-type]

    @classmethod
    def mean(cls, places: Sequence["Place"]) -> "Place":
        """Where a structure usually lies; the middle of the image without an example."""
        if not places:
            return cls()
        low, high = np.mean([p.low for p in places], 0), np.mean([p.high for p in places], 0)
        return cls(tuple(low.tolist()), tuple(high.tolist()))  # type: ignore[arg-type]

    def prompt(self, grid: Grid, dimensions: int, rng: np.random.Generator | None = None, jitter: float = 0.1
               ) -> PromptSet:
        """The place on an image as a box prompt in world space.

        Args:
            grid: of the image.
            dimensions: 2 for bundles that see slices: the box is on the middle slice of the place.
            rng: moves every face by a normal number of standard deviation ``jitter`` times the side; None: none moves.
            jitter: see there.
        """
        move = grid.orientation
        canonical = move.grid(grid)
        shape = np.asarray(canonical.shape)
        low, high = np.asarray(self.low), np.asarray(self.high)
        if rng is not None:
            side = high - low
            low, high = low + rng.normal(0, jitter, 3) * side, high + rng.normal(0, jitter, 3) * side
        first = np.clip(np.floor(low * shape), 0, shape - 1)
        last = np.clip(np.ceil(high * shape), first + 1, shape)
        if dimensions == 2:
            axis = acquisition_axis(canonical)
            first[axis] = (first[axis] + last[axis] - 1) // 2
            last[axis] = first[axis] + 1
        return PromptSet((Box(tuple(first.tolist()), tuple(last.tolist()), 1, "voxel"),)).to_world(canonical)
