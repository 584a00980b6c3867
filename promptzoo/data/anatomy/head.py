"""A head: skull, brain with its deep nuclei, eyes. Positions are RAS millimetres, origin in the middle of the brain."""
from __future__ import annotations

import numpy as np

from promptzoo.data.anatomy.sculpture import KEEP, Sculpture
from promptzoo.data.head_shapes import cerebellum, cerebrum, cortical_depth, cranial_cavity, skin

SIDES = ((1, "right"), (-1, "left"))


def paint_head(s: Sculpture) -> None:
    """Everything, outside in."""
    _outside(s)
    _face(s)
    _cerebrum(s)
    _hindbrain(s)
    _deep(s)


def _outside(s: Sculpture) -> None:
    x, y, z = s.x, s.y, s.z
    s.floor, s.inner = cranial_cavity(x, y, z)
    inner, surface = s.inner, skin(s.inner, x, y, z)
    if s.rng.random() < 0.2:  # brain extracted
        s.bare = True
        return
    s.bare = False
    s.put(surface, "skin")
    s.put(surface + 2.2, "fat")
    s.put(np.maximum(surface + 6.0 + s.rng.uniform(-2, 2) * s.organic, 8.0 - inner), "muscle")
    base = np.where(z < -22, 3.0, 0.0)
    s.put(inner - 7.5 - base, "cortical", "skull")
    s.put(np.abs(inner - 4.6) - 1.7 - 0.5 * s.organic, "trabecular", KEEP if "skull" not in s.absent else "skull")
    s.put(inner, "csf")


def _face(s: Sculpture) -> None:
    if s.bare:
        return
    s.blob_at((0, 72, -48), (13, 34, 24), "soft")
    s.blob_at((0, 68, -56), (8, 32, 20), "gas")
    for sign, side in SIDES:
        s.blob_at((sign * 30, 70, -34), (18, 25, 15), "fat")
        s.blob_at((sign * 28, 60, -34), (4, 26, 4), "muscle")
        place = s.blob_at(s.near((sign * 33, 79, -34), 1.0), s.sized((12.4, 12.4, 12.4), 0.05), "vitreous",
                          f"eye_{side}", rough=0.2)
        s.blob_at(place + (0, 7.5, 0), (5, 3, 5), "lens", KEEP)
        s.blob_at((sign * 30, 66, -66), (15, 16, 15), "gas")
        s.blob_at((sign * 52, 44, -66), (9, 20, 34), "muscle")
        s.blob_at((sign * 58, -26, -52), (12, 14, 16), "gas")
        s.pipe([(sign * 55, 10, -78), (sign * 44, 50, -104), (0, 84, -112)], 7.0, "cortical", "mandible")
        s.pipe([(sign * 58, 8, -48), (sign * 55, 10, -78)], 6.0, "cortical", "mandible")
    s.blob_at((0, 22, -84), (16, 13, 24), "gas")
    s.blob_at((0, 4, -96), (16, 14, 26), "trabecular")


def _cerebrum(s: Sculpture) -> None:
    x, y, z = s.x, s.y, s.z
    brain = cerebrum(s.rng.uniform(1, 5) + 1.2 * s.organic, s.floor, x, y, z)
    folds = s.noise(11.0, s.rng) + 0.3 * s.noise(6.0, s.rng)
    level = cortical_depth(brain, folds, 0.4, x, x, y, z)
    thick = s.rng.uniform(3.6, 4.8)
    for sign, side in SIDES:
        own = sign * x > 0
        s.put(np.where(own, -level, 9.0), "gray", f"cerebral_cortex_{side}")
        s.put(np.where(own, thick - level, 9.0), "white", f"cerebral_white_matter_{side}")


def _hindbrain(s: Sculpture) -> None:
    region = s.region((-72, -105, -85), (72, 5, 0))
    x, y, z = s.x[region], s.y[region], s.z[region]
    lobe = cerebellum(s.inner[region], x, y, z)
    radius = np.hypot(y + 24, z + 34)
    leaves = np.sin(1.0 * radius + 2.6 * s.organic[region] + 1.5 * np.sin(6 * np.arctan2(z + 34, y + 24)))
    for sign, side in SIDES:
        half = np.where(sign * x > 0, lobe, 9.0)
        s.put(half, "hind", f"cerebellum_{side}", region)
        if f"cerebellum_{side}" not in s.absent:
            s.put(np.maximum(half + 4.5, -2.2 * leaves - 0.05 * np.clip(-half - 4, 0, 30) ** 2), "white", KEEP, region)
    stem = s.near((0, 0, 0), 1.5) + np.array([(0, -6, 0), (0, -12, -18), (0, -10, -36), (0, -20, -58), (0, -24, -66)])
    s.pipe(stem, (14, 14, 16, 11, 8), "stem", "brainstem")
    s.pipe([(0, -24, -68), (0, -26, -130)], 6.5, "cord", "spinal_cord")
    s.blob_at((0, -30, -36), (6, 5, 11), "csf", "fourth_ventricle", rough=0.1)


def _deep(s: Sculpture) -> None:
    wide = s.rng.uniform(0.75, 1.7)
    for sign, side in SIDES:
        def at(x: float, y: float, z: float, sign: int = sign) -> np.ndarray:
            return s.near((sign * x, y, z), 1.0)
        s.blob_at(at(26, 8, 6), s.sized((5.5, 16, 10), 0.08), "deep", f"putamen_{side}", -0.2 * sign, 0.15 * sign, 0.3)
        s.blob_at(at(19, 2, 3), s.sized((3.5, 9, 7), 0.08), "deep", f"globus_pallidus_{side}", -0.2 * sign,
                  0.25 * sign, 0.3)
        s.blob_at(at(11, -10, 9), s.sized((9, 14, 9), 0.08), "deep", f"thalamus_{side}", 0.0, -0.3 * sign, 0.3)
        horn = [(sign * 8, 34, 12), (sign * 9, 18, 20), (sign * 12, -8, 25), (sign * 20, -34, 20),
                (sign * 26, -48, 12)]
        s.pipe(horn, np.array((3.5, 4.5, 4.2, 5.5, 3.2)) * wide, "csf", f"lateral_ventricle_{side}")
        s.pipe([(sign * 23, -36, 14), (sign * 32, -24, -4), (sign * 33, -4, -16)], np.array((4, 2.4, 2)) * wide, "csf",
               f"lateral_ventricle_{side}")
        s.pipe([(sign * 12, 28, 6), (sign * 13, 18, 15), (sign * 17, -2, 21), (sign * 21, -16, 20)], (7, 5.5, 4, 2.5),
               "deep", f"caudate_nucleus_{side}")
        s.pipe([(sign * 22, -30, 4), (sign * 30, -24, -10), (sign * 27, -8, -20)], (3.8, 5, 6), "gray",
               f"hippocampus_{side}")
        s.blob_at(at(24, 4, -20), s.sized((7, 7, 7), 0.1), "gray", f"amygdala_{side}", rough=0.3)
    s.blob_at((0, -2, 4), (1.8 * wide, 13, 9), "csf", "third_ventricle", rough=0.1)
    if s.rng.random() < 0.25:
        place = s.rng.uniform((15, -40, 10), (45, 40, 45)) * (s.rng.choice([-1, 1]), 1, 1)
        s.blob_at(place, s.sized((13, 13, 13), 0.3), "lesion", KEEP)
