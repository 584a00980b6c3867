"""Volumes as cells, and patches of them around a place."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.inference.classes import CT_LIMITS
from promptzoo.inference.resample import Window, normalise
from promptzoo.networks.medlam import CELL_MM, PATCH


@dataclass(frozen=True, eq=False)
class Cells:
    """A volume on cells of :data:`CELL_MM`: ``data`` ``[*C]`` in [-1, 1] and its ``window`` on the volume's grid."""

    data: np.ndarray
    window: Window


def cells_of(data: np.ndarray, spacing: np.ndarray, hounsfield: bool = True) -> Cells:
    """A volume ``[*N]`` in canonical order of ``spacing`` millimetres; CT cut to :data:`CT_LIMITS`, others stretched.

    Its first cell covers the first voxels, so a scan of a part of the body gives the cells of that part.
    """
    spacing = np.asarray(spacing, float)
    shape = np.maximum(np.round(spacing * data.shape / CELL_MM), 1).astype(int)
    window = Window.around((np.asarray(data.shape) - 1) / 2, shape * CELL_MM / spacing, shape.tolist())
    low, high = CT_LIMITS
    seen = window.sample(np.clip(data, low, high) if hounsfield else data)
    return Cells((seen - low) / (high - low) * 2 - 1 if hounsfield else normalise(seen), window)


def patch_at(cells: Cells, centre: np.ndarray) -> np.ndarray:
    """The patch ``[P, P, P]`` around a cell, rounded; beyond the volume it is as dark as air."""
    start = np.round(np.asarray(centre)).astype(int) - PATCH // 2
    found = np.full((PATCH,) * 3, -1.0, np.float32)
    low, high = np.maximum(start, 0), np.minimum(start + PATCH, cells.data.shape)
    if (high > low).all():
        place = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
        found[place] = cells.data[tuple(slice(a, b) for a, b in zip(low, high))]
    return found
