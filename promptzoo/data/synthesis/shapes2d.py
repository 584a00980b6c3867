"""Outlines of procedural objects in 2D: masks ``[S, S]`` bool."""
from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.draw import polygon

_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
_WAVES = np.cos(np.arange(1, 9)[:, None] * _ANGLES), np.sin(np.arange(1, 9)[:, None] * _ANGLES)


def fill(points: np.ndarray, size: int) -> np.ndarray:
    """The polygon with vertices ``[n, 2]`` (row, column), filled."""
    mask = np.zeros((size, size), bool)
    rows, columns = polygon(points[:, 0], points[:, 1], mask.shape)
    mask[rows, columns] = True
    return mask


def star(centre: np.ndarray, radii: tuple[float, float], rough: float, rng: np.random.Generator) -> np.ndarray:
    """Vertices ``[72, 2]`` of a star-shaped outline: an ellipse disturbed by Fourier harmonics of size ``rough``."""
    decay = np.arange(1, 9) ** rng.uniform(0.8, 1.6)
    a, b = rough * rng.standard_normal((2, 8)) / decay / np.sqrt(2)
    radius = np.clip(1 + a @ _WAVES[0] + b @ _WAVES[1], 0.25, 2.2)
    y, x = radii[0] * radius * np.sin(_ANGLES), radii[1] * radius * np.cos(_ANGLES)
    turn = rng.uniform(0, np.pi)
    return centre + np.stack([y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)], 1)


def curve(size: int, rng: np.random.Generator, samples: int = 48) -> np.ndarray:
    """A smooth open curve ``[samples, 2]``."""
    knots = int(rng.integers(3, 7))
    steps = rng.standard_normal((knots, 2)) * rng.uniform(0.06, 0.24) * size + rng.standard_normal(2) * rng.uniform(
        0, 0.18) * size
    points = np.cumsum(steps, 0)
    points += rng.uniform(0.1, 0.9, 2) * size - points.mean(0)
    at = np.linspace(0, knots - 1, samples)
    line = np.stack([np.interp(at, np.arange(knots), points[:, a]) for a in (0, 1)], 1)
    return ndimage.uniform_filter1d(line, 9, axis=0, mode="nearest")


def stroke(line: np.ndarray, widths: np.ndarray, size: int) -> np.ndarray:
    """The area within ``widths`` (half-width per sample) of a curve."""
    tangent = np.gradient(line, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-6
    offset = normal * widths[:, None]
    return fill(np.concatenate([line + offset, (line - offset)[::-1]]), size)


def tube(size: int, rng: np.random.Generator) -> np.ndarray:
    """A tapering tube with up to three branches (vessel, airway, nerve)."""
    start = size * 10 ** rng.uniform(-1.9, -1.05)
    line, end = curve(size, rng), start * rng.uniform(0.35, 1.1)
    mask = stroke(line, np.linspace(start, end, len(line)), size)
    for _ in range(int(rng.choice([0, 0, 1, 1, 2, 3]))):
        branch = curve(size, rng)
        branch = branch - branch[0] + line[rng.integers(8, len(line) - 8)]
        mask |= stroke(branch, np.linspace(start * rng.uniform(0.4, 0.9), end * 0.4, len(branch)), size)
    return mask


def band(size: int, rng: np.random.Generator) -> np.ndarray:
    """A curved band of even thickness (cortex, wall, layer)."""
    width = size * 10 ** rng.uniform(-1.7, -1.0)
    if rng.random() < 0.5:
        return stroke(curve(size, rng), np.full(48, width), size)
    radius = size * 10 ** rng.uniform(-0.9, -0.35)
    outline = star(rng.uniform(0.25, 0.75, 2) * size, (radius, radius * np.exp(rng.normal(0, 0.3))),
                   float(rng.choice([0, 0.05, 0.15])), rng)
    first, length = int(rng.integers(72)), int(rng.integers(20, 73))
    arc = np.roll(outline, -first, axis=0)[:length]
    return stroke(arc, np.full(len(arc), width), size)


def blob(size: int, rng: np.random.Generator, smooth: np.ndarray, radius: float | None = None) -> np.ndarray:
    """A random object; ``smooth`` is a smooth field used by some kinds, ``radius`` fixes the size."""
    radius = radius if radius is not None else size * 10 ** rng.uniform(-1.3, -0.32)
    spread = (-0.02, 1.02) if rng.random() < 0.25 else (0.18, 0.82)
    centre, aspect, kind = rng.uniform(*spread, 2) * size, np.exp(rng.normal(0, 0.35)), rng.random()
    radii = radius * aspect ** 0.5, radius / aspect ** 0.5
    if kind < 0.58:
        return fill(star(centre, radii, float(rng.choice([0, 0.06, 0.14, 0.24])), rng), size)
    if kind < 0.68:
        mask = fill(star(centre, (radii[0] * 1.4, radii[1] * 1.4), 0.1, rng), size)
        return mask & (smooth > np.quantile(smooth[mask], rng.uniform(0.2, 0.6))) if mask.any() else mask
    if kind < 0.77:
        return tube(size, rng)
    if kind < 0.84:
        return band(size, rng)
    if kind < 0.92:
        outline = star(centre, radii, 0.1, rng)
        hole = outline.mean(0) + (outline - outline.mean(0)) * rng.uniform(0.4, 0.85)
        return fill(outline, size) & ~fill(hole + rng.normal(0, 0.03 * radius, 2), size)
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    if kind < 0.97:
        return fill(centre + np.stack([radii[0] * np.sin(angles), radii[1] * np.cos(angles)], 1), size)
    turn = rng.uniform(0, 0.5) if rng.random() < 0.5 else 0.0
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return fill(centre + np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * radii @ matrix, size)
