"""Drawing tools of the phantoms: implicit shapes, smooth noise, and a canvas that composes them with partial volume.

A shape is a signed distance in millimetres, negative inside, as a float32 array over a region of the canvas. Ellipsoid
and capsule: I. Quilez, "Distance functions", https://iquilezles.org/articles/distfunctions (approximate for
the ellipsoid, which is enough for soft edges).
"""
from __future__ import annotations

from typing import Callable, Sequence, Union

import numpy as np
from scipy import ndimage

Vector = Union[Sequence[float], np.ndarray]
"""Three numbers, in mm unless said otherwise."""

Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]
Shape = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""World coordinates x, y, z in mm (broadcastable float32 arrays) to signed distance in mm."""


def ellipsoid(center: Vector, radii: Vector) -> Shape:
    """An ellipsoid; a radius of ``inf`` makes it a cylinder along that axis."""
    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        parts = [(v - c) / r for v, c, r in zip((x, y, z), center, radii) if np.isfinite(r)]
        finite = [r for r in radii if np.isfinite(r)]
        k0 = np.sqrt(sum(p * p for p in parts))
        k1 = np.sqrt(sum((p / r) ** 2 for p, r in zip(parts, finite)))
        return k0 * (k0 - 1.0) / np.maximum(k1, 1e-6)
    return distance


def capsule(a: Vector, b: Vector, radius_a: float, radius_b: float | None = None) -> Shape:
    """A tube with round ends from ``a`` to ``b``, its radius changing linearly."""
    start, axis = np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32) - np.asarray(a, dtype=np.float32)
    length2, other = float(axis @ axis) or 1.0, radius_a if radius_b is None else radius_b

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        t = np.clip((dx * axis[0] + dy * axis[1] + dz * axis[2]) / length2, 0.0, 1.0)
        gap = np.sqrt((dx - t * axis[0]) ** 2 + (dy - t * axis[1]) ** 2 + (dz - t * axis[2]) ** 2)
        return gap - (radius_a + t * (other - radius_a))
    return distance


def tube(points: Sequence[Vector] | np.ndarray, radii: Sequence[float] | np.ndarray) -> Shape:
    """A chain of capsules through ``points`` with a radius at each."""
    pieces = [capsule(a, b, ra, rb) for a, b, ra, rb in zip(points[:-1], points[1:], radii[:-1], radii[1:])]

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        result = pieces[0](x, y, z)
        for piece in pieces[1:]:
            result = smooth_min(result, piece(x, y, z), 4.0)
        return result
    return distance


def tilted(center: Vector, radii: Vector, roll: float, turn: float) -> Shape:
    """An ellipsoid turned by ``roll`` radians in the x-z plane and ``turn`` radians in the x-y plane."""
    base, (cx, cy, cz) = ellipsoid((0, 0, 0), radii), center
    cr, sr, ct, st = np.cos(roll), np.sin(roll), np.cos(turn), np.sin(turn)

    def distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        x, y, z = x - cx, y - cy, z - cz
        x, z = cr * x - sr * z, sr * x + cr * z
        x, y = ct * x - st * y, st * x + ct * y
        return base(x, y, z)
    return distance


def smooth_min(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """Union of two shapes, the seam rounded over ``width_mm`` (polynomial smooth minimum)."""
    h = np.maximum(width_mm - np.abs(a - b), 0.0) / width_mm
    return np.minimum(a, b) - h * h * (width_mm * 0.25)


def smooth_max(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """Intersection of two shapes with a rounded edge; ``smooth_max(a, -b)`` cuts ``b`` out of ``a``."""
    return -smooth_min(-a, -b, width_mm)


def smooth_noise(shape: tuple[int, ...], scale_vox: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """A smooth random field over ``shape``: zero mean, unit variance, correlated over ``scale_vox`` voxels per axis."""
    coarse = rng.standard_normal([int(np.ceil(n / max(s, 1.0))) + 4 for n, s in zip(shape, scale_vox)])
    field = coarse.astype(np.float32)
    for axis, (n, scale) in enumerate(zip(shape, scale_vox)):
        where = 1.5 + np.arange(n) / max(scale, 1.0)
        low = np.floor(where).astype(int)
        t = (where - low).astype(np.float32)
        weights = ((1 - t) ** 3 / 6, (3 * t ** 3 - 6 * t ** 2 + 4) / 6, (-3 * t ** 3 + 3 * t ** 2 + 3 * t + 1) / 6,
                   t ** 3 / 6)  # cubic B-spline: smooth second derivative, no overshoot
        tail = [1] * field.ndim
        tail[axis] = n
        field = sum(np.take(field, low + step, axis=axis, mode="clip") * w.reshape(tail)
                    for step, w in zip((-1, 0, 1, 2), weights))
    return ((field - field.mean()) / max(float(field.std()), 1e-6)).astype(np.float32)


class Canvas:
    """A volume under construction: intensities and labels in RAS order, painted back to front.

    Args:
        shape: voxels along x (to the right), y (to the front), z (to the head).
        spacing_mm: voxel size.
        background: intensity to start from.
        center_mm: world position of the middle of the volume.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: Vector, background: float,
                 center_mm: Vector = (0.0, 0.0, 0.0)) -> None:
        self.shape, self.spacing_mm = shape, tuple(float(s) for s in spacing_mm)
        self.first_mm = np.array([c - (n - 1) / 2 * s for n, s, c in zip(shape, self.spacing_mm, center_mm)])
        axes = [(f + s * np.arange(n)).astype(np.float32) for f, s, n in zip(self.first_mm, self.spacing_mm, shape)]
        self.axes = axes
        self.values = np.full(shape, background, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.warp: list[np.ndarray] = []

    def scale_vox(self, length_mm: float) -> tuple[float, ...]:
        """A length in voxels along each axis."""
        return tuple(length_mm / s for s in self.spacing_mm)

    def noise(self, length_mm: float, rng: np.random.Generator) -> np.ndarray:
        """:func:`smooth_noise` over the canvas, correlated over ``length_mm``."""
        return smooth_noise(self.shape, self.scale_vox(length_mm), rng)

    def region(self, low_mm: Vector, high_mm: Vector) -> tuple[slice, slice, slice]:
        """Index slices of a box given in mm, clipped to the canvas."""
        cut = []
        for axis in range(3):
            low = int(np.floor((low_mm[axis] - self.first_mm[axis]) / self.spacing_mm[axis]))
            high = int(np.ceil((high_mm[axis] - self.first_mm[axis]) / self.spacing_mm[axis])) + 1
            cut.append(slice(min(max(low, 0), self.shape[axis]), min(max(high, 0), self.shape[axis])))
        return tuple(cut)  # type: ignore[return-value]

    def coordinates(self, region: tuple[slice, slice, slice]) -> Coordinates:
        """World coordinates over a region, displaced by ``self.warp`` so that simple shapes grow organic."""
        x, y, z = self.axes[0][region[0]], self.axes[1][region[1]], self.axes[2][region[2]]
        grid = x[:, None, None], y[None, :, None], z[None, None, :]
        if not self.warp:
            return grid
        return tuple(g + w[region] for g, w in zip(grid, self.warp))

    def distance(self, shape: Shape, region: tuple[slice, slice, slice]) -> np.ndarray:
        """A shape over a region, full-sized."""
        size = tuple(s.stop - s.start for s in region)
        return np.broadcast_to(shape(*self.coordinates(region)), size).astype(np.float32)

    def fill(self, distance: np.ndarray, value: float | np.ndarray, label: int | None = None,
             region: tuple[slice, slice, slice] | None = None, soft_mm: float | None = None,
             opacity: float = 1.0) -> None:
        """Paint where ``distance`` is negative; the edge is mixed over ``soft_mm`` (default about one voxel).

        Args:
            distance: signed distance over ``region``.
            value: intensity inside, a number or an array over ``region``.
            label: label to set where at least half a voxel is covered; 0 erases; None leaves labels alone.
            region: part of the canvas; default all.
            soft_mm: width of the partial-volume edge.
            opacity: 1 covers what was there.
        """
        region = region or (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))
        width = soft_mm or float(np.mean(self.spacing_mm))
        cover = np.clip(0.5 - distance / width, 0.0, 1.0) * opacity
        target = self.values[region]
        target += cover * (value - target)
        if label is not None:
            self.labels[region][distance < 0] = label

    def paint(self, shape: Shape, value: float | np.ndarray, label: int | None = None,
              bounds: tuple[Vector, Vector] | None = None, **options: float) -> np.ndarray:
        """Evaluate a shape within ``bounds`` (low, high in mm) and :meth:`fill` it; returns the distance."""
        region = self.region(*bounds) if bounds else self.region((-1e6,) * 3, (1e6,) * 3)
        if any(s.stop <= s.start for s in region):
            return np.zeros((0, 0, 0), dtype=np.float32)
        distance = self.distance(shape, region)
        if not np.isscalar(value):
            value = np.broadcast_to(value, self.shape)[region]
        self.fill(distance, value, label, region, **options)  # type: ignore[arg-type]
        return distance

    def blob(self, center: Vector, radii: Vector, value: float | np.ndarray, label: int | None = None,
             roll: float = 0.0, turn: float = 0.0, **options: float) -> None:
        """Paint a :func:`tilted` ellipsoid within its own bounds."""
        reach = max(radii) if roll or turn else np.asarray(radii, dtype=float)
        margin = reach + 2 * max(self.spacing_mm) + 6.0  # edge and warp
        bounds = (np.subtract(center, margin), np.add(center, margin))
        shape = tilted(center, radii, roll, turn) if roll or turn else ellipsoid(center, radii)
        self.paint(shape, value, label, bounds, **options)

    def vessel(self, a: Vector, b: Vector, radius_a: float, radius_b: float, value: float,
               label: int | None = None, opacity: float = 1.0) -> None:
        """A thin tube; thinner than a voxel it fades instead of vanishing."""
        reach = max(radius_a, radius_b) + 2 * max(self.spacing_mm)
        low, high = np.minimum(a, b) - reach, np.maximum(a, b) + reach
        floor = 0.55 * float(np.mean(self.spacing_mm))
        fade = min(1.0, (0.5 * (radius_a + radius_b) / floor) ** 2)
        self.paint(capsule(a, b, max(radius_a, floor), max(radius_b, floor)), value, label, (low, high),
                   opacity=opacity * fade)


def tree(start: Vector, direction: Vector, length_mm: float, radius_mm: float, depth: int,
         rng: np.random.Generator, spread: float = 0.6) -> list[tuple[np.ndarray, np.ndarray, float, float]]:
    """Segments (from, to, radius, radius) of a branching vessel; each generation shorter and thinner (factor 0.79,
    Murray's law for equal branches), bent at random."""
    origin = np.asarray(start, dtype=float)
    heading = np.asarray(direction, dtype=float) / np.linalg.norm(direction)
    middle = origin + heading * length_mm * 0.5
    bend = heading + 0.25 * rng.standard_normal(3)
    end = middle + bend / np.linalg.norm(bend) * length_mm * 0.5
    thin = radius_mm * 0.86
    segments = [(origin, middle, radius_mm, thin), (middle, end, thin, thin)]
    if depth > 0:
        side = np.cross(heading, rng.standard_normal(3))
        side /= max(float(np.linalg.norm(side)), 1e-6)
        for sign in (-1, 1):
            turned = bend + sign * spread * (0.7 + 0.6 * rng.random()) * side
            segments += tree(end, turned, length_mm * (0.7 + 0.25 * rng.random()), radius_mm * 0.79, depth - 1, rng,
                             spread)
    return segments


def blurred_noise(shape: tuple[int, ...], sigma_vox: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """White noise blurred by ``sigma_vox`` and brought back to unit variance: the grain of a reconstruction."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma_vox)
    return noise / max(float(noise.std()), 1e-6)


def inside_organ(canvas: Canvas, a: np.ndarray, b: np.ndarray, ra: float, rb: float, value: float,
                 labels: np.ndarray, wanted: int) -> None:
    """A vessel segment, left out where its far end is not in the organ."""
    index = np.round((b - canvas.first_mm) / canvas.spacing_mm).astype(int)
    if ((index >= 0) & (index < canvas.shape)).all() and labels[tuple(index)] == wanted:
        canvas.vessel(a, b, ra, rb, value)
