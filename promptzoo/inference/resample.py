"""Windows of an image at network resolution, and their way back; separable and anti-aliased, 1 to 3 dimensions."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from promptzoo.core.errors import GeometryError, complain


@dataclass(frozen=True)
class Window:
    """A box of the image sampled on a network's pixels.

    Window pixel ``p`` lies at image index ``origin + p * step`` along each axis (pixel centres at integers).

    Args:
        origin: image index of window pixel 0, per axis.
        step: image voxels per window pixel, per axis; above 1 the window is coarser than the image.
        shape: window pixels per axis.
    """

    origin: tuple[float, ...]
    step: tuple[float, ...]
    shape: tuple[int, ...]

    @classmethod
    def around(cls, centre: Sequence[float], sides: Sequence[float], shape: Sequence[int]) -> "Window":
        """The window centred at image index ``centre`` whose sides cover ``sides`` image voxels.

        Raises:
            GeometryError: if a side is not positive.
        """
        if min(sides) <= 0:
            raise GeometryError(complain("window sides", list(sides), "positive numbers of voxels"))
        step = [side / n for side, n in zip(sides, shape)]
        origin = [c - s * (n - 1) / 2 for c, s, n in zip(centre, step, shape)]
        return cls(tuple(float(o) for o in origin), tuple(float(s) for s in step), tuple(int(n) for n in shape))

    @property
    def low(self) -> np.ndarray:
        """Lower faces of the covered box in continuous image indices."""
        return np.asarray(self.origin) - np.asarray(self.step) / 2

    @property
    def high(self) -> np.ndarray:
        """Upper faces of the covered box in continuous image indices."""
        return self.low + np.asarray(self.step) * np.asarray(self.shape)

    def to_window(self, index: np.ndarray) -> np.ndarray:
        """Image indices ``[..., d]`` to window pixels."""
        return (np.asarray(index, dtype=np.float64) - self.origin) / self.step

    def sample(self, image: np.ndarray) -> np.ndarray:
        """Image ``[*N]`` to window ``[*shape]`` float32; beyond the image its edge is repeated."""
        value, crop = image, []
        matrices = []
        for axis, size in enumerate(image.shape):
            first, matrix = _downward(self.origin[axis], self.step[axis], self.shape[axis], size)
            crop.append(slice(first, first + matrix.shape[1]))
            matrices.append(matrix)
        value = value[tuple(crop)].astype(np.float32, copy=False)
        for axis in np.argsort([m.shape[0] / m.shape[1] for m in matrices]):
            value = _along(value, matrices[axis], int(axis))
        return np.ascontiguousarray(value)

    def restore(self, values: np.ndarray, image_shape: Sequence[int]) -> tuple[tuple[int, ...], np.ndarray]:
        """Window values back on the image's voxels.

        Args:
            values: ``[*shape]``.
            image_shape: shape of the image.

        Returns:
            Offset of the covered voxels and their linearly interpolated values ``[*M]`` float32 (M may be 0).
        """
        offset, value = [], values.astype(np.float32, copy=False)
        for axis, size in enumerate(image_shape):
            first = int(max(0, np.ceil(self.low[axis] - 1e-9)))
            last = int(min(size - 1, np.floor(self.high[axis] + 1e-9)))
            where = (np.arange(first, last + 1) - self.origin[axis]) / self.step[axis]
            where = np.clip(where, 0, self.shape[axis] - 1)
            below = np.minimum(where.astype(int), max(self.shape[axis] - 2, 0))
            frac = (where - below).astype(np.float32)
            matrix = np.zeros((len(where), self.shape[axis]), dtype=np.float32)
            rows = np.arange(len(where))
            matrix[rows, below] = 1 - frac
            if self.shape[axis] > 1:
                matrix[rows, below + 1] += frac
            value = _along(value, matrix, axis)
            offset.append(first)
        return tuple(offset), np.ascontiguousarray(value)


def _downward(origin: float, step: float, count: int, size: int) -> tuple[int, np.ndarray]:
    """First image voxel needed and the matrix ``[count, voxels]`` of triangle weights of half-width max(1, step)."""
    radius = max(1.0, step)
    centres = np.clip(origin + step * np.arange(count), 0, size - 1)
    first = int(max(0, np.floor(centres[0] - radius)))
    last = int(min(size - 1, np.ceil(centres[-1] + radius)))
    voxels = np.arange(first, last + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - voxels[None]) / radius)
    return first, (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _along(value: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    if axis == value.ndim - 1:
        return value @ matrix.T
    if axis == 0:
        return (matrix @ value.reshape(value.shape[0], -1)).reshape(matrix.shape[0], *value.shape[1:])
    return np.matmul(matrix, value)  # middle axis of three


def normalise(window: np.ndarray) -> np.ndarray:
    """Intensities between the 0.5th and 99.5th percentile of the window to [-1, 1], cut at both ends."""
    sample = window[tuple(slice(None, None, 2) for _ in window.shape)] if window.size > 4096 else window
    low, high = np.percentile(sample, (0.5, 99.5))
    return (np.clip((window - low) / max(high - low, 1e-6), 0, 1) * 2 - 1).astype(np.float32)
