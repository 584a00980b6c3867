"""Space: voxel grids, world coordinates and axis-code arrangements (contract 2).

World coordinates are millimetres in RAS+ (x grows to the patient's right, y to the front, z to the head, as nibabel and
MONAI's ``MetaTensor.affine`` define it). Voxel indices are ``(i, j, k)`` in the order of the array's axes; index
``(0, 0, 0)`` is the *centre* of the first voxel, so the image covers ``[-0.5, n - 0.5]`` along an axis of ``n`` voxels.
Boxes are half-open: ``[low, high)`` in voxel indices holds the voxels ``low … high - 1``.

2D images are volumes of one slice, ``shape == (n_i, n_j, 1)``.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from typing import Sequence

import numpy as np

from promptzoo.core.errors import GeometryError, complain

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Left-multiply an LPS affine (DICOM, ITK, NRRD) with this to get the RAS affine, and the other way round."""

_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


def all_axis_codes() -> list[tuple[str, str, str]]:
    """The 48 axis-code arrangements (6 permutations x 8 sign choices), for example ``('L', 'P', 'S')``."""
    codes = []
    for order in permutations(range(3)):
        for signs in product((0, 1), repeat=3):
            codes.append(tuple(_AXIS_LETTERS[axis][sign] for axis, sign in zip(order, signs)))
    return codes  # type: ignore[return-value]


def _checked_affine(affine: object) -> np.ndarray:
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError(complain("unusable affine", np.asarray(affine).tolist(), "a finite 4 x 4 matrix",
                                     "Check the image header"))
    if not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise GeometryError(complain("unusable affine, last row", matrix[3].tolist(), "0 0 0 1"))
    if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise GeometryError(complain("singular affine", matrix[:3, :3].tolist(), "three independent axis vectors",
                                     "Check the voxel spacing in the image header"))
    matrix.setflags(write=False)
    return matrix


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid in the world.

    Args:
        shape: number of voxels along ``(i, j, k)``; every entry at least 1.
        affine: ``[4, 4]`` matrix from homogeneous voxel indices to world RAS+ millimetres.

    Raises:
        GeometryError: if the shape is not three positive integers or the affine is not finite and invertible.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(complain("unusable grid shape", list(self.shape), "three integers of at least 1",
                                         "Give a 2D image a third axis of length 1"))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.same_space(other)

    def same_space(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and place every corner within ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array(list(product(*[(0, n - 1) for n in self.shape])), dtype=float)
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance_mm)

    @cached_property
    def inverse(self) -> np.ndarray:
        """``[4, 4]`` matrix from world millimetres to voxel indices."""
        return np.linalg.inv(self.affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along ``(i, j, k)`` in millimetres."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))  # type: ignore[return-value]

    @cached_property
    def directions(self) -> np.ndarray:
        """``[3, 3]`` matrix whose columns are the unit world directions of the axes ``i, j, k``."""
        return self.affine[:3, :3] / np.asarray(self.spacing_mm)

    @property
    def is_2d(self) -> bool:
        """Whether the grid has a single slice (some axis of length 1)."""
        return min(self.shape) == 1

    @cached_property
    def orientation(self) -> "Reorientation":
        """The permutation and flips that bring this grid closest to RAS+ axis order."""
        return Reorientation.to_ras(self)

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """The letters towards which ``i, j, k`` grow, for example ``('R', 'A', 'S')``."""
        codes = [""] * 3
        for world_axis, (source, flip) in enumerate(zip(self.orientation.order, self.orientation.flips)):
            codes[source] = _AXIS_LETTERS[world_axis][0 if flip else 1]
        return tuple(codes)  # type: ignore[return-value]

    def to_world(self, index: object) -> np.ndarray:
        """Voxel indices ``[..., 3]`` (may be fractional) to world millimetres ``[..., 3]``."""
        return _apply(self.affine, index)

    def to_index(self, world: object) -> np.ndarray:
        """World millimetres ``[..., 3]`` to fractional voxel indices ``[..., 3]``."""
        return _apply(self.inverse, world)

    def inside(self, index: object, slack_vox: float = 0.5) -> np.ndarray:
        """Which voxel indices ``[..., 3]`` lie in the image, ``slack_vox`` voxels beyond its outer faces allowed."""
        values = np.asarray(index, dtype=float)
        low, high = -0.5 - slack_vox, np.asarray(self.shape) - 0.5 + slack_vox
        return ((values >= low - 1e-6) & (values <= high + 1e-6)).all(-1)


def _apply(matrix: np.ndarray, points: object) -> np.ndarray:
    values = np.asarray(points, dtype=np.float64)
    if values.shape[-1:] != (3,):
        raise GeometryError(complain("coordinates with the wrong last axis", list(values.shape), "[..., 3]"))
    return values @ matrix[:3, :3].T + matrix[:3, 3]


@dataclass(frozen=True)
class Reorientation:
    """A permutation of array axes followed by flips; exact, never resamples.

    Args:
        order: ``order[a]`` is the source axis that becomes axis ``a``.
        flips: whether new axis ``a`` runs against its source axis.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def to_ras(cls, grid: Grid) -> "Reorientation":
        """Closest RAS+ arrangement of ``grid``: the assignment of axes with the largest total cosine."""
        cosines = grid.directions  # world axis x array axis
        order = max(permutations(range(3)), key=lambda p: sum(abs(cosines[a, p[a]]) for a in range(3)))
        return cls(order, tuple(bool(cosines[a, order[a]] < 0) for a in range(3)))  # type: ignore[arg-type]

    def array(self, source: np.ndarray) -> np.ndarray:
        """Re-arrange an array ``[i, j, k]`` of the source grid; returns a view."""
        moved = np.transpose(source, self.order)
        return moved[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def inverse_array(self, moved: np.ndarray) -> np.ndarray:
        """Undo :meth:`array`; returns a view on the source grid's axis order."""
        flipped = moved[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]
        return np.transpose(flipped, np.argsort(self.order))

    def grid(self, source: Grid) -> Grid:
        """The grid of :meth:`array`'s result: same world, re-arranged indices."""
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        for axis, (origin, flip) in enumerate(zip(self.order, self.flips)):
            matrix[origin, axis] = -1.0 if flip else 1.0
            if flip:
                matrix[origin, 3] = source.shape[origin] - 1
        return Grid(tuple(source.shape[a] for a in self.order), source.affine @ matrix)  # type: ignore[arg-type]


def grid_with_codes(grid: Grid, codes: tuple[str, str, str]) -> tuple[Reorientation, Grid]:
    """The re-arrangement that gives ``grid`` the axis codes ``codes``, and the grid it leads to.

    Raises:
        GeometryError: if ``codes`` does not name each of L/R, P/A and I/S once.
    """
    have = grid.axis_codes
    order, flips = [], []
    for letter in codes:
        pair = next((p for p in _AXIS_LETTERS if letter in p), None)
        matches = [a for a, own in enumerate(have) if pair and own in pair]
        if not matches or matches[0] in order:
            raise GeometryError(complain("axis codes", list(codes), "one letter each of L/R, P/A and I/S"))
        order.append(matches[0])
        flips.append(have[matches[0]] != letter)
    move = Reorientation(tuple(order), tuple(flips))  # type: ignore[arg-type]
    return move, move.grid(grid)


def box_iou(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """Intersection over union of two boxes, each its lower and upper faces ``(low, high)`` along any number of axes, in
    the same space; 0 for boxes without extent."""
    (a, b), (c, d) = ([np.asarray(face, float) for face in box] for box in (first, second))
    common = float(np.prod(np.clip(np.minimum(b, d) - np.maximum(a, c), 0, None)))
    total = float(np.prod(b - a)) + float(np.prod(d - c)) - common
    return common / total if total > 0 else 0.0
