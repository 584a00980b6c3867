"""Simulated boxes: half-open integer voxel bounds ``(low, high)``."""
from __future__ import annotations

import numpy as np

from promptzoo.core.errors import PromptError, complain

Bounds = tuple[np.ndarray, np.ndarray]


def tight(mask: np.ndarray) -> Bounds:
    """The smallest box around a mask ``[*S]``.

    Raises:
        PromptError: if the mask is empty.
    """
    low, high = [], []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(hit):
            raise PromptError(complain("box around an empty mask", "no voxel", "at least one voxel"))
        low.append(hit[0])
        high.append(hit[-1] + 1)
    return np.array(low), np.array(high)


def mid_slice(mask: np.ndarray, axis: int = -1) -> Bounds:
    """The in-plane box of the middle occupied slice over the object's whole range along ``axis``.

    The box prompt of the CVPR 2025 interactive 3D challenge: 2D box on the middle slice and first and last slice.

    Raises:
        PromptError: if the mask is empty.
    """
    low, high = tight(mask)
    occupied = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis % mask.ndim)))
    middle = int(occupied[len(occupied) // 2])
    plane_low, plane_high = tight(np.take(mask, [middle], axis))
    keep = np.arange(mask.ndim) != axis % mask.ndim
    return np.where(keep, plane_low, low), np.where(keep, plane_high, high)


def moved(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...], shifts: np.ndarray) -> Bounds:
    """Deterministic twin of :func:`jittered`: sides shifted by ``shifts`` ``[2, d]`` voxels, kept valid and inside."""
    size = np.asarray(shape)
    new_low = np.clip(np.rint(low + shifts[0]), 0, size - 1).astype(int)
    new_high = np.clip(np.rint(high + shifts[1]), 1, size).astype(int)
    swap = new_low >= new_high
    middle = np.clip((new_low + new_high) // 2, 0, size - 1)
    return np.where(swap, middle, new_low), np.where(swap, middle + 1, new_high)


def jittered(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...], sigma: float,
             rng: np.random.Generator) -> Bounds:
    """Every side shifted by a Gaussian of deviation ``sigma`` times the box's size along that axis."""
    size = np.asarray(high) - np.asarray(low)
    return moved(np.asarray(low), np.asarray(high), shape, rng.normal(0, sigma, (2, len(size))) * size)


def enlarged(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...], fraction: float) -> Bounds:
    """The box grown on every side by ``fraction`` of its size along that axis (negative shrinks it)."""
    grow = fraction * (np.asarray(high) - np.asarray(low))
    return moved(np.asarray(low), np.asarray(high), shape, np.stack([-grow, grow]))
