"""Label maps in 3D and the fields they need."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.scenes2d import LabelMap


def spread(coarse: np.ndarray, size: int) -> np.ndarray:
    """Linear upsampling of ``[k, k, k]`` to ``[size, size, size]``, separable."""
    at = np.linspace(0, coarse.shape[0] - 1, size)
    matrix = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(coarse.shape[0]))).astype(np.float32)
    for axis in range(3):
        coarse = np.moveaxis(np.tensordot(matrix, coarse, (1, axis)), 0, axis)
    return np.ascontiguousarray(coarse)


class FieldSource3D:
    """Random 3D fields made from coarse noise; the state is only the window size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def smooth(self, rng: np.random.Generator, cells: int | None = None) -> np.ndarray:
        """A smooth field ``[size] * 3`` of deviation about 1."""
        cells = cells or int(rng.integers(3, 11))
        field = spread(rng.standard_normal((cells,) * 3, np.float32), self.size)
        return field / (field.std() + 1e-6)

    def texture(self, rng: np.random.Generator) -> np.ndarray:
        """A texture ``[size] * 3`` of mean 0 and deviation 1: white, coarse, or two scales mixed."""
        kind = rng.random()
        if kind < 0.35:
            return rng.standard_normal((self.size,) * 3, np.float32)
        field = spread(rng.standard_normal((int(rng.integers(10, 50)),) * 3, np.float32), self.size)
        if kind > 0.75:
            field = field / field.std() + 0.7 * rng.standard_normal(field.shape, np.float32)
        if kind > 0.9:
            field = np.abs(field)
        return (field - field.mean()) / (field.std() + 1e-6)


def _rotation(rng: np.random.Generator) -> np.ndarray:
    matrix, upper = np.linalg.qr(rng.standard_normal((3, 3)))
    return (matrix * np.sign(np.diag(upper))).astype(np.float32)


class Painter3D:
    """Draws random objects in the cube ``[-1, 1]³``."""

    def __init__(self, size: int) -> None:
        line = np.linspace(-1, 1, size, dtype=np.float32)
        self.axes = np.stack(np.meshgrid(line, line, line, indexing="ij"))
        self.fields = FieldSource3D(size)
        self.size = size

    def radius_field(self, centre: np.ndarray, radii: np.ndarray, rough: float, rng: np.random.Generator) -> np.ndarray:
        """Level of a disturbed super-ellipsoid, below 1 inside."""
        matrix = (_rotation(rng) / np.asarray(radii, np.float32)[:, None]).astype(np.float32)
        moved = self.axes - np.asarray(centre, np.float32)[:, None, None, None]
        local = np.abs(np.tensordot(matrix, moved, 1))
        if rng.random() < 0.8:
            level = np.sqrt((local * local).sum(0))
        else:
            power = rng.uniform(1.2, 6)
            level = ((local ** power).sum(0)) ** (1 / power)
        return level * (1 + rough * self.fields.smooth(rng, int(rng.integers(4, 9)))) if rough else level

    def tube(self, rng: np.random.Generator) -> np.ndarray:
        """A winding tube, sometimes with branches."""
        width = rng.uniform(0.03, 0.14)
        mask = np.zeros((self.size,) * 3, bool)
        starts = [(rng.uniform(-0.85, 0.85, 3), rng.standard_normal(3), width)]
        for _ in range(int(rng.choice([0, 0, 1, 2]))):
            starts.append((starts[0][0] + rng.normal(0, 0.2, 3), rng.standard_normal(3), width * rng.uniform(0.5, 0.9)))
        voxel = 2 / (self.size - 1)
        for at, heading, thick in starts:
            for _ in range(26):
                heading = heading + rng.normal(0, 0.25, 3)
                heading = heading / np.linalg.norm(heading)
                low = np.clip(((at - thick + 1) / voxel).astype(int), 0, self.size)
                high = np.clip(((at + thick + 1) / voxel).astype(int) + 2, 0, self.size)
                box = tuple(slice(a, b) for a, b in zip(low, high))
                near = self.axes[(slice(None), *box)] - at[:, None, None, None].astype(np.float32)
                mask[box] |= (near * near).sum(0) < thick * thick
                at = at + heading * 0.06
        return mask

    def thing(self, rng: np.random.Generator, radius: float | None = None) -> np.ndarray:
        """A random object ``[S, S, S]`` bool."""
        kind = rng.random()
        radius = radius or 10 ** rng.uniform(-0.95, -0.2)
        if kind < 0.14:
            return self.tube(rng)
        centre, rough = rng.uniform(-0.8, 0.8, 3), float(rng.choice([0, 0.08, 0.18, 0.3]))
        level = self.radius_field(centre, radius * np.exp(rng.normal(0, 0.35, 3)), rough, rng)
        if kind < 0.26:  # shell
            return (level < 1) & (level > rng.uniform(0.5, 0.85))
        if kind < 0.36:  # part of a blob
            inside, field = level < 1.3, self.fields.smooth(rng)
            part = rng.uniform(0.2, 0.6)
            return inside & (field > np.quantile(field[inside][:5000], part)) if inside.any() else inside
        return level < 1


def scene3d(painter: Painter3D, rng: np.random.Generator) -> LabelMap:
    """A random 3D label map."""
    size, kind = painter.size, rng.random()
    result = LabelMap(np.zeros((size,) * 3, np.int32))
    if kind < 0.4:
        field = painter.fields.smooth(rng)
        levels = np.quantile(field[::4, ::4, ::4], np.sort(rng.uniform(0.05, 0.95, int(rng.integers(1, 5)))))
        result.labels[:] = np.digitize(field, levels)
        result.count = int(result.labels.max()) + 1
    elif kind < 0.6:
        _cells(result, painter, rng)
    if rng.random() < 0.35:
        _body(result, painter, rng)
    if rng.random() < 0.15:
        _repeated(result, painter, rng)
    for _ in range(int(rng.integers(2, 9))):
        mask = painter.thing(rng)
        if mask.sum() < 60:
            continue
        name = result.paint(mask)
        if rng.random() < 0.3:
            field = painter.fields.smooth(rng, 7)
            child = mask & (field > np.quantile(field[mask][:5000], rng.uniform(0.5, 0.85)))
            if child.sum() > 40:
                result.paint(child, name)
        elif rng.random() < 0.2:
            depth = ndimage.distance_transform_edt(mask[::2, ::2, ::2])
            deep = np.repeat(np.repeat(np.repeat(depth, 2, 0), 2, 1), 2, 2)[:size, :size, :size]
            core = mask & (deep > depth.max() * rng.uniform(0.2, 0.6))
            if core.sum() > 40:
                result.paint(core, name)
    return result


def _cells(result: LabelMap, painter: Painter3D, rng: np.random.Generator) -> None:
    seeds = rng.uniform(-1.1, 1.1, (int(rng.integers(4, 24)), 3)).astype(np.float32)
    warp = 0.12 * rng.random()
    moved = painter.axes + warp * np.stack([painter.fields.smooth(rng, 6) for _ in range(3)])
    best = np.full(result.labels.shape, np.inf, np.float32)
    for name, seed in enumerate(seeds):
        distance = ((moved - seed[:, None, None, None]) ** 2).sum(0)
        closer = distance < best
        best[closer], result.labels[closer] = distance[closer], name
    result.count = len(seeds)


def _body(result: LabelMap, painter: Painter3D, rng: np.random.Generator) -> None:
    """A body in air with layers below its surface, along a random long axis."""
    radii = rng.uniform(0.7, 1.2, 3)
    if rng.random() < 0.5:
        radii[int(rng.integers(3))] = 9.0
    level = painter.radius_field(rng.uniform(-0.15, 0.15, 3), radii, float(rng.choice([0, 0.05])), rng)
    result.air = result.paint(level >= 1)
    top = 1.0
    for _ in range(int(rng.integers(0, 3))):
        inner = top * rng.uniform(0.82, 0.95)
        result.paint((level < top) & (level >= inner))
        top = inner


def _repeated(result: LabelMap, painter: Painter3D, rng: np.random.Generator) -> None:
    group, radius = result.count, rng.uniform(0.12, 0.28)
    for _ in range(int(rng.integers(4, 14))):
        mask = painter.radius_field(rng.uniform(-0.9, 0.9, 3), radius * np.exp(rng.normal(0, 0.15, 3)), 0.1, rng) < 1
        if mask.sum() > 60 and (result.labels[mask] >= group).mean() < 0.2:
            result.alike[result.paint(mask)] = group
