"""Surfaces of a head that all head phantoms share: signed distances in millimetres, negative inside.

Positions are RAS millimetres with the origin in the middle of the brain.
"""
from __future__ import annotations

import numpy as np

from promptzoo.data.phantom_shapes import ellipsoid, smooth_max, smooth_min, tube


def cranial_cavity(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height above the base of the skull, and the distance from the inside of the skull."""
    vault = ellipsoid((0, 2, 14), (70, 88, 68))(x, y, z)
    fossa = ellipsoid((0, -42, -36), (54, 42, 36))(x, y, z)
    temples = 11 * np.exp(-((np.abs(x) - 42) / 17) ** 2) / (1 + np.exp((y - 34) / 4))
    floor = z + 25 + temples + 60 / (1 + np.exp((y + 8) / 5))
    return floor, smooth_max(smooth_min(vault, fossa, 22.0), -floor, 8.0)


def skin(inner: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Scalp, face with its nose, and neck, around a cranial cavity."""
    face = ellipsoid((0, 44, -62), (62, 58, 76))(x, y, z)
    neck = ellipsoid((0, -26, 0), (58, 60, float("inf")))(x, y, z) + np.clip((z + 40) * 0.6, 0, 60)
    surface = smooth_min(smooth_min(inner - 15.0, face, 24.0), neck, 20.0)
    return smooth_min(surface, tube(((0, 96, -30), (0, 112, -52)), (7, 12))(x, y, z), 10.0)


def cerebrum(margin: np.ndarray, floor: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Both hemispheres without their folds; ``margin`` to the skull, ``floor`` see :func:`cranial_cavity`."""
    stem = ellipsoid((0, -12, -44), (21, 24, 36))(x, y, z)
    hind = smooth_min(ellipsoid((0, -48, -42), (62, 46, 27))(x, y, z), stem, 12.0)
    brain = smooth_max(ellipsoid((0, 2, 14), (70, 88, 68))(x, y, z) + margin, -hind, 6.0)
    return smooth_max(brain, 3.0 - floor, 6.0)


def cortical_depth(brain: np.ndarray, folds: np.ndarray, opening: float, across: np.ndarray, x: np.ndarray,
                   y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Depth below the folded surface of the cerebrum.

    Args:
        brain: of :func:`cerebrum`.
        folds: smooth noise; its zero sheets are the sulci.
        opening: half width of the sulci in mm.
        across: distance from the middle plane.
        x, y, z: of the voxels.
    """
    depth, core = -brain, ellipsoid((0, -2, 12), (46, 60, 30))(x, y, z)
    buried = 0.9 * np.clip(depth - 17, 0, None) + 0.35 * np.clip(3 - core, 0, None)
    sulcus = 6.5 * np.abs(folds) - opening + buried
    middle = np.abs(across) - 1.2 + 0.8 * np.clip(8 - core, 0, None)
    return np.minimum(np.minimum(depth, sulcus), middle)


def cerebellum(inner: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Its hemispheres and the vermis, inside a cranial cavity."""
    halves = np.minimum(*(ellipsoid((sign * 24, -47, -41), (30, 33, 23))(x, y, z) for sign in (1, -1)))
    lobe = smooth_min(halves, ellipsoid((0, -46, -38), (12, 28, 20))(x, y, z), 6.0)
    return np.maximum(lobe, inner + 2.5)
