"""Procedural chest radiographs with opacities, drawn in two dimensions: quick, and nobody's lungs.

Arrays are in canonical order ``[x, z]``: the first axis grows to the patient's right, the second to the head.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator

ZONES, SIDES = ("upper", "middle", "lower"), ("left", "right")
SIZES = (("small", 0.11), ("medium", 0.16), ("large", 1.0))
"""Names of sizes and the equivalent radius, as a fraction of the image's side, below which they apply."""


@dataclass(frozen=True, eq=False)
class Opacity:
    """An opacity: ``mask`` ``[x, z]`` bool, and the ``zone`` and ``side`` of the lungs that it lies in."""

    mask: np.ndarray
    zone: str
    side: str

    @property
    def size(self) -> str:
        """``small``, ``medium`` or ``large``, by its area."""
        radius = float(np.sqrt(self.mask.sum() / np.pi)) * 2 / self.mask.shape[0]
        return next(name for name, limit in SIZES if radius < limit)


@lru_cache
def _field(size: int, cell: int) -> np.ndarray:
    """Smooth noise ``[2 * size, 2 * size]`` of deviation 1, from which crops are taken."""
    coarse = generator(0, cell).standard_normal((2 * size // cell + 2,) * 2)
    field = ndimage.zoom(coarse, 2 * size / (len(coarse) - 1), order=1)[:2 * size, :2 * size]
    return (field / field.std()).astype(np.float32)


def _noise(rng: np.random.Generator, size: int, cell: float) -> np.ndarray:
    """Smooth noise ``[size, size]`` of deviation about 1; ``cell`` is the grain in pixels."""
    grain = int(2 ** np.rint(np.log2(np.clip(cell, 4, size / 3))))
    row, column = rng.integers(0, size, 2)
    crop = _field(size, grain)[row:row + size, column:column + size]
    return crop[::-1] if rng.random() < 0.5 else crop


def _soft(value: np.ndarray, edge: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(value / edge, -30, 30)))


def chest(rng: np.random.Generator, size: int = 192, count: int | None = None) -> tuple[np.ndarray, list[Opacity]]:
    """A frontal radiograph ``[size, size]`` float32, air dark, and its opacities, each in another part of the lungs.

    Args:
        rng: source of all draws.
        size: side in pixels.
        count: number of opacities; None for 0 to 4.
    """
    rows, columns = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    turn, zoom = rng.uniform(-0.08, 0.08), rng.uniform(0.85, 1.15)
    u = (columns * np.cos(turn) - rows * np.sin(turn) - rng.uniform(-0.08, 0.08)) * zoom * rng.uniform(0.93, 1.07)
    v = (rows * np.cos(turn) + columns * np.sin(turn) - rng.uniform(-0.08, 0.08)) * zoom
    bend = 0.05
    u, v = u + bend * _noise(rng, size, size / 3), v + bend * _noise(rng, size, size / 3)
    heart_side = 1 if rng.random() > 0.08 else -1  # picture right is the patient's left
    body = _soft(0.98 - np.abs(u) ** 2.5 - np.clip(-v - 0.75, 0, 1) * 3 * np.abs(u), 0.05)
    image = 0.12 + 0.62 * body
    lungs, level = {}, {}
    top, bottom, out = rng.uniform(-0.86, -0.74), rng.uniform(0.48, 0.72), rng.uniform(0.7, 0.82)
    inner = rng.uniform(0.1, 0.17)
    for side, sign in (("left", 1), ("right", -1)):
        floor = bottom - (0.06 if side == "right" else 0.0)
        x, y = sign * u, (v - top) / (floor - top)
        middle = (inner + out) / 2
        wide = (out - inner) / 2 * np.clip(0.45 + 0.6 * np.clip(y, 0, 1) ** 0.6, 0, 1.05)
        dome = floor + 0.18 * ((x - middle + 0.1) / (out - inner)) ** 2 * np.where(x > middle, 1.6, 0.6)
        lungs[side] = (_soft(1 - np.abs((x - middle) / np.maximum(wide, 0.02)) ** 2.6, 0.12) * _soft(v - top - 0.12 * (
            (x - middle) / wide) ** 2, 0.02) * _soft(dome - v, 0.025))
        level[side] = y
    heart = _soft(1 - ((u - heart_side * 0.13) / rng.uniform(0.26, 0.36)) ** 2 - ((v - 0.32) / 0.34) ** 2, 0.12)
    lung = (lungs["left"] + lungs["right"]) * (1 - 0.9 * heart)
    image -= rng.uniform(0.3, 0.48) * lung
    image += 0.12 * heart * body + 0.08 * _soft(0.1 - np.abs(u), 0.03) * body
    for k in range(9):
        rib = v - (-0.75 + 0.15 * k + rng.uniform(-0.02, 0.02)) - 0.35 * np.clip(np.abs(u) - 0.1, 0, 2) ** 1.3
        image += rng.uniform(0.03, 0.08) * np.exp(-(rib / 0.028) ** 2) * (np.abs(u) < 0.88) * (np.abs(u) > 0.08)
    collar = v + 0.72 - 0.2 * np.abs(u)
    image += rng.uniform(0.05, 0.14) * np.exp(-(collar / 0.03) ** 2) * (np.abs(u) < 0.7)
    for sign in (1, -1):
        hilum = ((u - sign * 0.2) / 0.12) ** 2 + ((v + 0.05) / 0.2) ** 2
        image += rng.uniform(0.02, 0.12) * np.exp(-hilum) * (1 + 0.4 * _noise(rng, size, 6))
    image += lung * (0.025 * _noise(rng, size, 5) + 0.02 * _noise(rng, size, 14))
    number = int(rng.choice(5, p=(0.08, 0.27, 0.27, 0.22, 0.16))) if count is None else count
    found = []
    for n in rng.permutation(6)[:number]:
        zone, side = int(n) % 3, SIDES[int(n) // 3]
        one = _opacity(rng, lungs[side] * (1 - heart), level[side], zone, u, v)
        if one is not None:
            image, mask = image + one[0], one[1]
            found.append(Opacity(_canonical(mask), ZONES[zone], side))
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.0)) + rng.uniform(0.005, 0.03) * rng.standard_normal(
        image.shape)
    image = np.clip(image, 0, 1.2) ** np.exp(rng.normal(0, 0.25))
    return _canonical(image.astype(np.float32)), found


def _canonical(picture: np.ndarray) -> np.ndarray:
    """Rows from the top and columns from the patient's right, as a picture has them, to ``[x, z]``."""
    return np.ascontiguousarray(picture[::-1, ::-1].T)


def _opacity(rng: np.random.Generator, lung: np.ndarray, level: np.ndarray, zone: int, u: np.ndarray,
             v: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What an opacity adds to the picture, and its mask; None if its zone is hidden."""
    height = (zone + 0.5) / 3 + rng.uniform(-0.07, 0.07)
    inside = np.argwhere((lung > 0.6) & (np.abs(level - height) < 0.05))
    if len(inside) < 5:
        return None
    row, column = inside[int(rng.integers(len(inside)))]
    radius = np.exp(rng.uniform(np.log(0.09), np.log(0.24)))
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.5))
    a, b = u - u[row, column], v - v[row, column]
    a, b = (a * np.cos(angle) + b * np.sin(angle)) / stretch, (b * np.cos(angle) - a * np.sin(angle)) * stretch
    ragged = _noise(rng, len(u), len(u) * radius / 3)
    field = ndimage.gaussian_filter(np.sqrt(a * a + b * b) / radius + rng.uniform(0.08, 0.28) * ragged, 1.5)
    soft = _soft(1 - field, rng.uniform(0.08, 0.22)) * lung
    texture = 1 + 0.12 * _noise(rng, len(u), 8)
    mask = soft > 0.45
    return (rng.uniform(0.14, 0.36) * soft * texture, mask) if mask.sum() > 20 else None
