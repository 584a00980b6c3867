"""How the voxels of an image become the slices of a DICOM series, and back: exact permutations and flips.

DICOM PS3.3 C.7.6.2: a slice has rows and columns at right angles, and a position; a reader (OHIF's cornerstone, ITK,
:mod:`promptzoo.data.dicom`) sorts slices by position along row direction x column direction, so that its grid always is
right-handed. Rows and columns are two axes of the image as they are; only the order of slices may have to be turned.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.core.errors import GeometryError, complain
from promptzoo.core.geometry import Grid, Reorientation

RIGHT_ANGLE_TOLERANCE = 1e-4
"""Largest cosine between rows and columns: float32 affines are off by 1e-7, this moves the far corner of a 500 mm
image by 0.05 mm."""


@dataclass(frozen=True, eq=False)
class VoxelMap:
    """Voxels of an image and of the DICOM series that shows it.

    Args:
        image: grid of the image file, ``[i, j, k]``.
        move: from the image's array to ``[column, row, slice]`` as a DICOM reader sees the series.
    """

    image: Grid
    move: Reorientation

    @property
    def series(self) -> Grid:
        """Grid of the series, ``[column, row, slice]``, in the same RAS+ world."""
        return self.move.grid(self.image)

    def to_series(self, index: object) -> np.ndarray:
        """Voxel indices ``[..., 3]`` of the image (may be fractional) as voxel indices of the series."""
        values = np.asarray(index, dtype=float)[..., list(self.move.order)]
        last = np.asarray(self.image.shape, dtype=float)[list(self.move.order)] - 1
        return np.where(self.move.flips, last - values, values)

    def to_image(self, index: object) -> np.ndarray:
        """Voxel indices ``[..., 3]`` of the series (may be fractional) as voxel indices of the image."""
        values = np.asarray(index, dtype=float)
        last = np.asarray(self.image.shape, dtype=float)[list(self.move.order)] - 1
        values = np.where(self.move.flips, last - values, values)
        return values[..., np.argsort(self.move.order)]

    def array_to_series(self, array: np.ndarray) -> np.ndarray:
        """An array ``[i, j, k]`` on the image's grid as ``[column, row, slice]``; a view."""
        return self.move.array(array)

    def array_to_image(self, array: np.ndarray) -> np.ndarray:
        """An array ``[column, row, slice]`` on the series' grid as ``[i, j, k]``; a view."""
        return self.move.inverse_array(array)


def voxel_map(grid: Grid) -> VoxelMap:
    """Choose the axes of rows, columns and slices.

    Slices are stacked along an axis of one voxel if there is one, else along the last axis whose two others are at
    right angles. A grid sheared in one plane so becomes a stack of shifted slices (as of a tilted gantry), which DICOM
    can say exactly, though OHIF's volume view draws such a stack unshifted.

    Raises:
        GeometryError: if no two axes are at right angles: DICOM has no words for such an image.
    """
    cosines = grid.directions.T @ grid.directions
    for stacked in sorted((2, 1, 0), key=lambda axis: grid.shape[axis] > 1):
        column, row = (axis for axis in range(3) if axis != stacked)
        if abs(cosines[column, row]) <= RIGHT_ANGLE_TOLERANCE:
            normal = np.cross(grid.directions[:, column], grid.directions[:, row])
            turned = bool(normal @ grid.directions[:, stacked] < 0)
            return VoxelMap(grid, Reorientation((column, row, stacked), (False, False, turned)))
    raise GeometryError(complain("image sheared in every plane", np.round(cosines, 4).tolist(),
                                 "two voxel axes at right angles", "Resample it onto a straight grid first"))
