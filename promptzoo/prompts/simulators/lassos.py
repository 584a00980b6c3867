"""Simulated lassos: closed outlines drawn loosely around the object on a slice."""
from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

from promptzoo.core.errors import PromptError, complain


def loose_region(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The region a loose lasso encloses.

    Args:
        mask: ``[H, W]`` or ``[D, H, W]`` bool, not empty; in 3D one slice along a random axis is drawn on.
        rng: generator of margin and wobble.

    Returns:
        ``[*S]`` float32, 1 inside the lasso.

    Raises:
        PromptError: if the mask is empty.
    """
    if not mask.any():
        raise PromptError(complain("lasso around an empty mask", "no voxel", "at least one voxel"))
    if mask.ndim == 3:
        axis = int(rng.integers(3))
        area = mask.sum(tuple(a for a in range(3) if a != axis)).astype(float)
        index = int(rng.choice(len(area), p=area ** 2 / (area ** 2).sum()))
        region = np.zeros(mask.shape, np.float32)
        np.moveaxis(region, axis, 0)[index] = loose_region(np.take(mask, index, axis), rng)
        return region
    root = float(np.sqrt(mask.sum()))
    return around(mask, root * rng.uniform(0.0, 0.25), root * rng.uniform(0.02, 0.12), rng)


def around(mask: np.ndarray, margin: float, wobble: float, rng: np.random.Generator) -> np.ndarray:
    """Pixels within ``margin`` of ``mask`` ``[H, W]``, its border displaced by smooth noise of ``wobble`` pixels."""
    signed = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), max(2.0, 0.12 * max(mask.shape)))
    signed = signed + noise / (noise.std() + 1e-6) * wobble
    return (signed < max(margin, 0.5)).astype(np.float32)


def outline(region: np.ndarray) -> np.ndarray:
    """Vertices ``[n, 2]`` of the longest outline of a region ``[H, W]``, in drawing order."""
    lines = find_contours(np.pad(region.astype(float), 1), 0.5)
    return max(lines, key=len)[:-1] - 1
