"""Simulated clicks."""
from __future__ import annotations

import numpy as np
from scipy import ndimage


def depth(mask: np.ndarray, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    """Euclidean distance of each voxel of ``mask`` to the outside; the array border counts as outside."""
    padded = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing)
    return padded[tuple(slice(1, -1) for _ in mask.shape)]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The component of ``mask`` with most voxels, 8- or 26-connected; empty stays empty."""
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if count < 2:
        return mask.astype(bool)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == int(sizes.argmax())


def centre_of_largest_error(missed: np.ndarray, wrong: np.ndarray, spacing: tuple[float, ...] | None = None
                            ) -> tuple[np.ndarray, bool] | None:
    """The deepest voxel of the largest error component (CVPR 2025 interactive 3D challenge rule).

    Args:
        missed: ``[*S]`` voxels of the object that the mask lacks.
        wrong: ``[*S]`` voxels of the mask outside the object.
        spacing: voxel size per axis for the distance transform.

    Returns:
        Index ``[d]`` and whether the click is positive; None without an error.
    """
    error = missed | wrong
    if not error.any():
        return None
    part = largest_component(error)
    distance = depth(part, spacing)
    at = np.array(np.unravel_index(int(distance.argmax()), part.shape))
    return at, bool(missed[tuple(at)])


def next_click(missed: np.ndarray, wrong: np.ndarray, rng: np.random.Generator, stride: int = 2,
               depth_fraction: float = 0.5) -> tuple[np.ndarray, bool] | None:
    """A fast, noisy click for training: somewhere deep inside the larger error.

    Works on every ``stride``-th voxel; a random voxel whose depth is at least ``depth_fraction`` of the deepest one.

    Args:
        missed, wrong: see :func:`centre_of_largest_error`.
        rng: generator of the draw.
        stride: subsampling; errors thinner than that are searched at full resolution.
        depth_fraction: how central the click is, 0 to 1.

    Returns:
        Index ``[d]`` and whether the click is positive; None without an error.
    """
    for step in (stride, 1):
        few = tuple(slice(step // 2, None, step) for _ in missed.shape)
        depths = [depth(error[few]) if error.any() else np.zeros((1,) * error.ndim) for error in (missed, wrong)]
        tops = [float(d.max()) for d in depths]
        if max(tops) > 0:
            positive = tops[0] >= tops[1]
            chosen = depths[0 if positive else 1]
            candidates = np.flatnonzero(chosen >= chosen.max() * depth_fraction)
            at = np.array(np.unravel_index(int(rng.choice(candidates)), chosen.shape))
            return at * step + step // 2, positive
        if step == 1:
            break
    return None
