"""Orthogonal slices of a volume as a radiologist sees them, with the millimetre coordinates of what is drawn on them.

Axial slices show the patient's right on the left and the front on top; coronal ones the right on the left and the
head on top; sagittal ones the front on the left and the head on top. Volumes on oblique grids are shown along their own
axes, named after the closest anatomical ones.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid

NAMES = ("sagittal", "coronal", "axial")
"""Plane by the RAS axis that it cuts."""

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
_SCREEN = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
"""Per cut RAS axis: the axes that run along screen columns and rows. Both run backwards: columns from right or front,
rows from front or head."""


@dataclass(frozen=True)
class Plane:
    """One slice of a grid on the screen.

    Args:
        grid: the volume's own grid.
        axis: the RAS axis (0, 1, 2 for sagittal, coronal, axial) that the slice is cut across.
        index: which slice, in voxels of the grid's own axis.
    """

    grid: Grid
    axis: int
    index: int

    @property
    def name(self) -> str:
        """``axial``, ``coronal`` or ``sagittal``."""
        return NAMES[self.axis]

    @property
    def source_axis(self) -> int:
        """The grid's own axis that is cut."""
        return self.grid.orientation.order[self.axis]

    def _screen_axes(self) -> tuple[int, int]:
        order = self.grid.orientation.order
        return order[_SCREEN[self.axis][0]], order[_SCREEN[self.axis][1]]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height on the screen."""
        across, down = self._screen_axes()
        return (self.grid.shape[across] * self.grid.spacing_mm[across],
                self.grid.shape[down] * self.grid.spacing_mm[down])

    @property
    def edge_letters(self) -> tuple[str, str, str, str]:
        """Anatomical directions at the left, right, top and bottom edge."""
        across, up = _SCREEN[self.axis]
        return _LETTERS[across][1], _LETTERS[across][0], _LETTERS[up][1], _LETTERS[up][0]

    def cut(self, array: np.ndarray) -> np.ndarray:
        """The slice of an array ``[i, j, k, ...]`` as a picture ``[row, column, ...]``."""
        order, flips = self.grid.orientation.order, self.grid.orientation.flips
        tail = tuple(range(3, array.ndim))
        moved = np.transpose(array, (*order, *tail))
        where = self.grid.shape[self.source_axis] - 1 - self.index if flips[self.axis] else self.index
        turned = moved[tuple(slice(None, None, -1) if f else slice(None) for f in flips)]
        plane = np.take(turned, where, axis=self.axis)
        return np.swapaxes(plane[::-1, ::-1], 0, 1)

    def place(self, index: np.ndarray) -> np.ndarray:
        """Voxel indices ``[..., 3]`` to the screen ``[..., 2]``: mm from the left and from the top edge."""
        values, result = np.asarray(index, dtype=float), []
        for ras in _SCREEN[self.axis]:
            axis = self.grid.orientation.order[ras]
            count = self.grid.shape[axis]
            along = values[..., axis] if self.grid.orientation.flips[ras] else count - 1 - values[..., axis]
            result.append((along + 0.5) * self.grid.spacing_mm[axis])
        return np.stack(result, axis=-1)

    def distance_vox(self, index: np.ndarray) -> np.ndarray:
        """How many slices voxel indices ``[..., 3]`` lie off the plane, signed."""
        return np.asarray(index, dtype=float)[..., self.source_axis] - self.index


def planes_of(grid: Grid, center: np.ndarray, slice_axis: int | str | None = None, index: int | None = None
              ) -> list[Plane]:
    """The slices to show: the one asked for, the single one of a 2D image, or all three through ``center``.

    Args:
        grid: the volume's grid.
        center: voxel indices ``[3]``; rounded and clipped to the volume.
        slice_axis: axis of the array (0, 1, 2), or ``axial``, ``coronal``, ``sagittal``.
        index: which slice along that axis; default through ``center``.

    Raises:
        ImageError: for an unknown axis, an index outside the volume, or an index without an axis.
    """
    middle = [int(np.clip(np.round(c), 0, n - 1)) for c, n in zip(center, grid.shape)]
    order = list(grid.orientation.order)
    if slice_axis is None:
        if index is not None:
            raise ImageError(complain("slice index without an axis", index, "slice_axis and index together"))
        thin = [a for a, n in enumerate(grid.shape) if n == 1]
        axes = [order.index(thin[-1])] if thin else [2, 1, 0]
        return [Plane(grid, axis, middle[order[axis]]) for axis in axes]
    if slice_axis in NAMES:
        axis = NAMES.index(str(slice_axis))
    elif slice_axis in (0, 1, 2):
        axis = order.index(int(slice_axis))
    else:
        raise ImageError(complain("slice axis", slice_axis, "0, 1, 2, " + ", ".join(NAMES)))
    chosen = middle[order[axis]] if index is None else index
    if not 0 <= chosen < grid.shape[order[axis]]:
        raise ImageError(complain("slice index", chosen, f"0 … {grid.shape[order[axis]] - 1}"))
    return [Plane(grid, axis, chosen)]
