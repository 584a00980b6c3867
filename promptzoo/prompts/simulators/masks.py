"""Simulated first masks: what an earlier model or a hasty person would leave."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

KINDS = ("eroded", "dilated", "shifted", "cut", "holed")


def changed(mask: np.ndarray, kind: str, amount: float, direction: np.ndarray) -> np.ndarray:
    """Deterministic twin of :func:`disturbed`.

    Args:
        mask: ``[*S]`` bool.
        kind: one of :data:`KINDS`.
        amount: voxels to erode, dilate or shift by; for ``cut`` and ``holed`` the place along ``direction`` in -1 … 1.
        direction: unit vector ``[d]``.

    Returns:
        ``[*S]`` bool; may be empty.
    """
    if kind == "eroded":
        return ndimage.distance_transform_edt(np.pad(mask, 1))[tuple(slice(1, -1) for _ in mask.shape)] > amount
    if kind == "dilated":
        return ndimage.distance_transform_edt(~mask) <= amount if mask.any() else mask.copy()
    if kind == "shifted":
        return ndimage.shift(mask.astype(np.uint8), direction * amount, order=0).astype(bool)
    points = np.argwhere(mask)
    if not len(points):
        return mask.copy()
    reach = (np.indices(mask.shape).reshape(mask.ndim, -1).T - points.mean(0)) @ direction
    reach = reach.reshape(mask.shape) / max(1e-6, float(np.abs((points - points.mean(0)) @ direction).max()))
    if kind == "cut":
        return mask & (reach < amount)
    size = 0.35 * np.cbrt(len(points)) if mask.ndim == 3 else 0.3 * np.sqrt(len(points))
    centre = points.mean(0) + direction * amount * size
    near = sum((g - c) ** 2 for g, c in zip(np.indices(mask.shape, sparse=True), centre)) < size ** 2
    return mask & ~near


def disturbed(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``mask`` after one or two random disturbances; never empty if ``mask`` is not."""
    result = mask
    extent = float(mask.sum()) ** (1 / mask.ndim)
    for kind in rng.choice(KINDS, size=int(rng.integers(1, 3)), replace=False):
        direction = rng.standard_normal(mask.ndim)
        direction /= np.linalg.norm(direction) + 1e-9
        amount = rng.uniform(-0.2, 0.8) if kind in ("cut", "holed") else extent * rng.uniform(0.03, 0.2)
        fresh = changed(result, str(kind), float(amount), direction)
        result = fresh if fresh.any() else result
    return result
