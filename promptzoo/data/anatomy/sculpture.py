"""A phantom under construction: tissues and structures in RAS order, painted back to front."""
from __future__ import annotations

from typing import Sequence

import numpy as np

from promptzoo.data.anatomy.tissues import NUMBER
from promptzoo.data.phantom_shapes import Canvas, Shape, Vector, tilted, tube

KEEP = "keep"
"""As a name: the structure that was there before stays."""

EVERYWHERE = ((-1e6,) * 3, (1e6,) * 3)


class Sculpture(Canvas):
    """A canvas of tissues and structures; organs differ in place and size from seed to seed.

    Args:
        shape: voxels along x (to the right), y (to the front), z (to the head).
        spacing_mm: voxel size.
        center_mm: world position of the middle of the volume.
        rng: source of all variation.
        absent: names that are not painted.
        wobble_mm: strength of the smooth displacement that makes simple shapes organic.
    """

    skin: np.ndarray
    wall: np.ndarray
    cavity: np.ndarray
    above: np.ndarray
    pleura: np.ndarray
    heart: np.ndarray
    inner: np.ndarray
    floor: np.ndarray
    bare: bool
    """What one painter leaves for the next: distances to skin, muscle wall, abdominal cavity, diaphragm, lungs, skull
    and its base; the centre of the heart; whether a head is shown without what is around the brain."""

    def __init__(self, shape: tuple[int, int, int], spacing_mm: Vector, center_mm: Vector, rng: np.random.Generator,
                 absent: Sequence[str] = (), wobble_mm: float = 4.0) -> None:
        super().__init__(shape, spacing_mm, 0.0, center_mm)
        self.rng, self.absent = rng, frozenset(absent)
        self.tissue = np.zeros(shape, np.uint8)
        self.structure = np.zeros(shape, np.uint8)
        self.names: list[str] = [""]
        self.organic, self.fine = self.noise(26.0, rng), self.noise(9.0, rng)
        self.warp = [wobble_mm * self.noise(70.0, rng) + 0.3 * wobble_mm * self.noise(28.0, rng) for _ in range(3)]
        self.x, self.y, self.z = (np.broadcast_to(c, shape) for c in self.coordinates(self.region(*EVERYWHERE)))

    def near(self, center: Vector, spread_mm: float = 5.0) -> np.ndarray:
        """A place near ``center``."""
        return np.asarray(center, float) + self.rng.normal(0, spread_mm, 3)

    def sized(self, radii: Vector, spread: float = 0.1) -> np.ndarray:
        """Radii near ``radii``: one factor for all, and one for each."""
        one, each = self.rng.normal(0, spread), self.rng.normal(0, 0.4 * spread, 3)
        return np.asarray(radii, float) * np.exp(np.clip(one + each, -0.4, 0.4))

    def number(self, name: str) -> int:
        """The value of a structure, given out on first use."""
        if name and name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def put(self, distance: np.ndarray, tissue: str, name: str = "",
            region: tuple[slice, slice, slice] | None = None) -> None:
        """Paint where ``distance`` is negative, unless the structure is absent.

        Args:
            distance: signed distance in mm over ``region``.
            tissue: of :data:`promptzoo.data.anatomy.tissues.TISSUES`.
            name: the structure; ``""`` for none, :data:`KEEP` to leave it as it was.
            region: part of the canvas; default all.
        """
        if name in self.absent:
            return
        region = region or (slice(None),) * 3
        inside = distance < 0
        self.tissue[region][inside] = NUMBER[tissue]
        if name != KEEP:
            self.structure[region][inside] = self.number(name)

    def shape_of(self, shape: Shape, center: Vector, reach_mm: float | Vector
                 ) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        """A shape's distance in the neighbourhood of a place, and that region."""
        region = self.region(np.subtract(center, reach_mm), np.add(center, reach_mm))
        return self.distance(shape, region), region

    def blob_at(self, center: Vector, radii: Vector, tissue: str, name: str = "", roll: float = 0.0,
                turn: float = 0.0, rough: float = 0.6) -> np.ndarray:
        """Paint a tilted ellipsoid exactly there; returns its centre."""
        distance, region = self.shape_of(tilted(center, radii, roll, turn), center, float(np.max(radii)) + 14)
        self.put(distance + rough * self.fine[region], tissue, name, region)
        return np.asarray(center, float)

    def pipe(self, points: Sequence[Vector] | np.ndarray, radii: Sequence[float] | np.ndarray | float, tissue: str,
             name: str = "", thicker_mm: float = 0.0) -> None:
        """Paint a tube through points."""
        path = np.asarray(points, float)
        widths = np.full(len(path), radii, float) if np.isscalar(radii) else np.asarray(radii, float)
        margin = float(widths.max()) + thicker_mm + 14
        region = self.region(path.min(0) - margin, path.max(0) + margin)
        if all(s.stop > s.start for s in region):
            self.put(self.distance(tube(path, widths + thicker_mm), region), tissue, name, region)
