"""How far a single prompt on a single slice reaches through a volume: the protocol ``anchors``.

Three answers to one case, each from nothing: a click on the slice of the largest area, the tight box there, and tight
boxes on five slices spread over the object from its first to its last slice. Bundles that see slices are asked to carry
the prompts through the volume (``PromptSet.through_slices``); bundles that see volumes get the very same prompts.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.prompts.simulators import clicks
from promptzoo.prompts.types import Box, Point

STEPS = ("1 click", "1 box", "5 boxes")
"""The three answers, in order."""
MANY = 5


def reading_axis(grid: Grid) -> int:
    """The array axis across which a reader leafs through a volume: that of clearly coarsest spacing, else axial."""
    spacing = np.asarray(grid.spacing_mm)
    coarsest = int(spacing.argmax())
    return coarsest if spacing[coarsest] > 1.2 * np.median(spacing) else int(grid.orientation.order[2])


def anchor_prompts(mask: np.ndarray, grid: Grid) -> dict[str, tuple[Any, ...]]:
    """The prompts of each step, in voxel space.

    Args:
        mask: bool ``[i, j, k]``, the object.
        grid: of the mask.

    Raises:
        PromptZooError: if there is no object, or only one slice.
    """
    if not mask.any() or grid.is_2d:
        raise PromptZooError(complain("protocol anchors", f"{int(mask.sum())} voxels on {grid.shape}",
                                      "an object in a volume", "Measure 3D rows with --task seg3d --slices none"))
    axis = reading_axis(grid)
    planes = np.moveaxis(mask, axis, 0)
    areas = planes.sum((1, 2))
    best, occupied = int(areas.argmax()), np.flatnonzero(areas)
    spread = sorted({int(occupied[round(t)]) for t in np.linspace(0, len(occupied) - 1, MANY)})
    centre, _ = clicks.centre_of_largest_error(planes[best], np.zeros_like(planes[best]),
                                               [mm for a, mm in enumerate(grid.spacing_mm) if a != axis])
    return {STEPS[0]: (Point(tuple(np.insert(np.asarray(centre, float), axis, best)), True, 1, "voxel"),),
            STEPS[1]: (_box(planes[best], axis, best),),
            STEPS[2]: tuple(_box(planes[index], axis, index) for index in spread)}


def _box(plane: np.ndarray, axis: int, index: int) -> Box:
    at = np.argwhere(plane)
    low, high = (np.insert(faces.astype(float), axis, index + n) for n, faces in enumerate((at.min(0), at.max(0) + 1)))
    return Box(tuple(low), tuple(high), 1, "voxel")
