"""Label maps in 2D."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.fields import FieldBank
from promptzoo.data.synthesis.shapes2d import band, blob, fill, star


@dataclass(eq=False)
class LabelMap:
    """Regions of a scene.

    Args:
        labels: ``[*S]`` integer region ids from 0.
        parents: region id to the id of the region that it lies in (nested objects).
        alike: region id to the id of a group that looks the same (repeated objects).
        count: number of ids.
        air: id of an empty background, or None.
    """

    labels: np.ndarray
    parents: dict[int, int] = field(default_factory=dict)
    alike: dict[int, int] = field(default_factory=dict)
    count: int = 1
    air: int | None = None

    def paint(self, mask: np.ndarray, parent: int | None = None) -> int:
        """Give ``mask`` to a new region and return its id."""
        self.labels[mask] = self.count
        if parent is not None:
            self.parents[self.count] = parent
        self.count += 1
        return self.count - 1


def scene(bank: FieldBank, rng: np.random.Generator) -> LabelMap:
    """A random label map of one of several kinds, warped as a whole."""
    size = bank.size
    result = LabelMap(np.zeros((size, size), np.int32))
    kind = rng.random()
    if kind < 0.22:
        _anatomy(result, bank, rng)
    else:
        if kind < 0.45:
            _level_sets(result, bank, rng)
        elif kind < 0.70:
            _cells(result, bank, rng)
        if rng.random() < 0.22:
            body = fill(star(rng.uniform(0.4, 0.6, 2) * size, tuple(rng.uniform(0.33, 0.6, 2) * size),
                             float(rng.choice([0, 0.03, 0.08])), rng), size)
            result.air = result.paint(~body)
        if rng.random() < 0.25:
            _repeated(result, bank, rng)
    for _ in range(int(rng.integers(0, 5)) if result.count > 12 else int(rng.integers(1, 10))):
        mask = blob(size, rng, bank.smooth(rng))
        if mask.sum() >= 0.001 * size * size:
            _nest(result, result.paint(mask), mask, bank, rng)
    if rng.random() < 0.75:
        _warp(result, bank, rng)
    return result


def _level_sets(result: LabelMap, bank: FieldBank, rng: np.random.Generator) -> None:
    field_ = bank.smooth(rng)
    levels = np.quantile(field_[::3, ::3], np.sort(rng.uniform(0.05, 0.95, int(rng.integers(1, 5)))))
    result.labels[:] = np.digitize(field_, levels)
    if rng.random() < 0.4:
        other = bank.smooth(rng)
        result.labels[:] = result.labels * 2 + (other > np.quantile(other[::3, ::3], rng.uniform(0.2, 0.8)))
    result.count = int(result.labels.max()) + 1


def _cells(result: LabelMap, bank: FieldBank, rng: np.random.Generator) -> None:
    """Warped Voronoi cells, merged in groups or separated by membranes."""
    size = bank.size
    count = int(10 ** rng.uniform(0.5, 1.9))
    seeds = rng.uniform(-0.08, 1.08, (count, 2)).astype(np.float32) * size
    grid = np.arange(size, dtype=np.float32)
    warp = rng.uniform(0, 0.04) * size
    y, x = grid[:, None] + bank.smooth(rng) * warp, grid[None] + bank.smooth(rng) * warp
    stretch = rng.uniform(0.4, 2.5)
    distance = (y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2 * stretch
    nearest = distance.argmin(-1)
    if rng.random() < 0.4:
        width = size * rng.uniform(0.006, 0.03)
        edge = ndimage.morphological_gradient(nearest, size=3) > 0
        membrane = ndimage.distance_transform_edt(~edge) < width
        result.labels[:] = nearest
        result.count = count
        result.paint(membrane)
        similar = rng.random() < 0.6
        result.alike.update({n: 0 for n in range(count)} if similar else {})
        return
    if rng.random() < 0.5:
        nearest = rng.integers(0, max(2, count // 3), count)[nearest]
    result.labels[:] = nearest
    result.count = int(nearest.max()) + 1


def _repeated(result: LabelMap, bank: FieldBank, rng: np.random.Generator) -> None:
    size = bank.size
    radius = size * 10 ** rng.uniform(-1.5, -0.8)
    wanted = int(np.clip(0.35 * size * size / (np.pi * radius ** 2) * rng.uniform(0.2, 1.3), 3, 60))
    group, similar = result.count, rng.random() < 0.8
    for _ in range(wanted):
        aspect, own = np.exp(rng.normal(0, 0.2)), radius * np.exp(rng.normal(0, 0.15))
        mask = fill(star(rng.uniform(0, size, 2), (own * aspect, own / aspect), float(rng.choice([0, 0.05, 0.1])), rng),
                    size)
        if mask.sum() < 12 or (result.labels[mask] >= group).mean() > rng.choice([0.05, 0.3]):
            continue
        name = result.paint(mask)
        if similar:
            result.alike[name] = group


def _anatomy(result: LabelMap, bank: FieldBank, rng: np.random.Generator) -> None:
    """A body in air: layers like skin, fat and muscle, packed organs that touch, bright bones, paired parts."""
    size = bank.size
    centre, radii = rng.uniform(0.42, 0.58, 2) * size, rng.uniform(0.36, 0.62, 2) * size
    outline = star(centre, (radii[0], radii[1]), float(rng.choice([0, 0.03, 0.06])), rng)
    result.air = result.paint(np.ones((size, size), bool))
    shrink = 1.0
    for _ in range(int(rng.integers(1, 4))):
        result.paint(fill(centre + (outline - centre) * shrink, size))
        shrink *= rng.uniform(0.8, 0.95)
    cavity = fill(centre + (outline - centre) * shrink, size)
    inside = result.paint(cavity)
    for _ in range(int(rng.integers(2, 8))):
        mask = blob(size, rng, bank.smooth(rng), size * 10 ** rng.uniform(-1.1, -0.5)) & cavity
        if rng.random() < 0.3 and mask.any():  # keep borders touching: grow into the neighbour
            mask = ndimage.binary_dilation(mask, iterations=2) & cavity
        if mask.sum() < 0.002 * size * size:
            continue
        name = result.paint(mask, inside if rng.random() < 0.3 else None)
        if rng.random() < 0.25:
            twin = mask[:, ::-1] & cavity
            result.alike[result.paint(twin)] = result.alike.setdefault(name, name)
        _nest(result, name, mask, bank, rng)
    for _ in range(int(rng.integers(0, 4))):
        centre_of_bone, radii_of_bone = rng.uniform(0.2, 0.8, 2) * size, size * 10 ** rng.uniform(-1.7, -1.0, 2)
        bone = fill(star(centre_of_bone, tuple(radii_of_bone), 0.15, rng), size)
        result.paint(bone & cavity)
    if rng.random() < 0.3:
        result.paint(band(size, rng) & cavity)


def _nest(result: LabelMap, name: int, mask: np.ndarray, bank: FieldBank, rng: np.random.Generator) -> None:
    """Children inside a region: rims and cores, level sets, lesions."""
    if rng.random() > 0.35:
        return
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.4:
            depth = ndimage.distance_transform_edt(mask)
            child = mask & (depth > depth.max() * rng.uniform(0.15, 0.6))
        elif kind < 0.7:
            field_ = bank.smooth(rng)
            child = mask & (field_ > np.quantile(field_[mask], rng.uniform(0.4, 0.8)))
        else:
            at = np.argwhere(mask)[int(rng.integers(mask.sum()))]
            radius = max(2.5, np.sqrt(mask.sum() / np.pi) * rng.uniform(0.2, 0.6))
            child = mask & fill(star(at, (radius * rng.uniform(0.7, 1.4), radius), 0.1, rng), mask.shape[0])
        if child.sum() < 10:
            continue
        new = result.paint(child, name)
        if rng.random() < 0.3:
            name, mask = new, child


def _warp(result: LabelMap, bank: FieldBank, rng: np.random.Generator) -> None:
    size, turn, zoom = bank.size, rng.normal(0, 0.5), np.exp(rng.normal(-0.1, 0.35))
    c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
    grid = np.arange(size, dtype=np.float32) - size / 2
    y0, x0 = size / 2 + rng.normal(0, 0.06 * size, 2)
    bend = float(rng.choice([0, rng.uniform(0, 0.024), rng.uniform(0.016, 0.055)])) * size
    y = grid[:, None] * c + grid[None] * s + y0
    x = -grid[:, None] * s + grid[None] * c + x0
    if bend:
        y, x = y + bank.smooth(rng) * bend, x + bank.smooth(rng) * bend
    last, mirror = size - 1, rng.random() < 0.5
    y, x = (np.rint(v).astype(int) for v in (y, x))
    if mirror:
        y, x = (np.abs(v) % (2 * last) for v in (y, x))
        y, x = (np.where(v > last, 2 * last - v, v) for v in (y, x))
    result.labels = result.labels[np.clip(y, 0, last), np.clip(x, 0, last)]
