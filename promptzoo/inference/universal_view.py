"""What a text-driven volume network sees of an image: body found, voxel size chosen, intensities and positions."""
from __future__ import annotations

from typing import Sequence

import numpy as np
from scipy import ndimage

from promptzoo.inference.resample import Window, normalise

WINDOW = 64
ACROSS = 61
"""Voxels that the wider of the two horizontal sides of the body takes."""

STEPS_MM = (2.0, 6.5)
POSITION_MM = 200.0
CT_KNOTS = ((-1024.0, -300.0, -150.0, 250.0, 1500.0), (-1.0, -0.75, -0.5, 0.6, 1.0))
"""Hounsfield units, and the grey values that they become: soft tissue takes most of the range."""


def grey(image: np.ndarray, hounsfield: bool) -> np.ndarray:
    """Intensities ``[*S]`` to float32 in [-1, 1]."""
    return np.interp(image, *CT_KNOTS).astype(np.float32) if hounsfield else normalise(image)


def body_box(image: np.ndarray, spacing_mm: Sequence[float] | np.ndarray, hounsfield: bool
             ) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of what is not air, in voxels: lower and upper faces (half-open) per axis; the whole image if unclear.

    Args:
        image: ``[x, y, z]``.
        spacing_mm: voxel size.
        hounsfield: whether intensities are Hounsfield units.
    """
    step = [max(1, int(round(6.0 / s))) for s in spacing_mm]
    small = image[tuple(slice(None, None, n) for n in step)]
    level = -350.0 if hounsfield else float(np.percentile(small, 1) + 0.12 * np.ptp(np.percentile(small, (1, 99))))
    inside = ndimage.binary_opening(small > level, np.ones((3, 3, 1)))
    parts, count = ndimage.label(inside)
    whole = np.zeros(3, int), np.asarray(image.shape)
    if not count:
        return whole
    sizes = np.bincount(parts.ravel())[1:]
    keep = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.3 * sizes.max()))
    box = ndimage.find_objects(keep.astype(int))[0]
    low = np.array([max(0, (b.start - 1) * n) for b, n in zip(box, step)])
    high = np.array([min(size, (b.stop + 1) * n) for b, n, size in zip(box, step, image.shape)])
    return low, high


def step_for(extent_mm: Sequence[float] | np.ndarray) -> float:
    """Voxel size in mm for a body of this extent: its width and depth fit into one window."""
    return float(np.clip(max(extent_mm[0], extent_mm[1]) / ACROSS, *STEPS_MM))


def positions(window: Window, spacing_mm: Sequence[float] | np.ndarray, centre: Sequence[float] | np.ndarray
              ) -> np.ndarray:
    """Position channels ``[3, *S]`` of a window: distance to the body's centre over 200 mm, cut at 1.5.

    Args:
        window: in voxels of the image.
        spacing_mm: voxel size of the image.
        centre: of the body, in voxels.
    """
    axes = [np.clip((o + s * np.arange(n) - c) * mm / POSITION_MM, -1.5, 1.5).astype(np.float32)
            for o, s, n, c, mm in zip(window.origin, window.step, window.shape, centre, spacing_mm)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))
