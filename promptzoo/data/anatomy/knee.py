"""A knee: bones, cartilage, menisci, ligaments. Positions are RAS millimetres, origin in the middle of the joint."""
from __future__ import annotations

import numpy as np

from promptzoo.data.anatomy.sculpture import KEEP, Sculpture
from promptzoo.data.phantom_shapes import ellipsoid, smooth_max, smooth_min, tube


def paint_knee(s: Sculpture, outer: int = 1) -> None:
    """Everything, outside in.

    Args:
        s: the canvas.
        outer: 1 if the outer side of the knee lies at high x (a right knee), -1 for a left one.
    """
    x, y, z = s.x, s.y, s.z
    leg = np.hypot(x / (62 + 0.08 * z), (y + 8) / (66 + 0.08 * z)) * 62 - 62
    s.put(leg, "skin")
    s.put(leg + 2.5, "fat")
    deep = np.hypot(x / 48, (y + 22) / 40) * 44 - 44
    s.put(np.maximum(leg + 6, np.maximum(deep, 22 - np.abs(z - 5)) + 3 * s.organic), "muscle")
    shift = s.rng.normal(0, 1.5, 3)

    def condyle(sign: int, grow: float) -> np.ndarray:
        return ellipsoid(np.array((sign * 22, -8, 20)) + shift, np.array((20, 30, 22)) + grow)(x, y, z)

    shaft = tube(((0, 6, 22), (0, 8, 50), (0, 6, 160)), (26, 21, 14))(x, y, z)
    femur = smooth_min(np.minimum(condyle(1, 0), condyle(-1, 0)), shaft, 12.0)
    plateau = smooth_max(np.hypot(x / 37, (y + 8) / 26) * 30 - 30, np.maximum(z + 7, -z - 34), 6.0)
    tibia = smooth_min(plateau, tube(((0, -4, -24), (-4 * outer, -2, -60), (-4 * outer, -2, -160)),
                                     (28, 19, 14))(x, y, z), 14.0)
    coat = s.rng.uniform(2.2, 3.6)
    cartilage = np.minimum(np.minimum(condyle(1, coat), condyle(-1, coat)), 50.0)
    cartilage = np.maximum(cartilage, np.minimum(z - 26, 40 - y))
    above = smooth_max(np.hypot(x / 35, (y + 8) / 24) * 28 - 28, np.maximum(z + 7 - coat, -z - 10), 2.0)
    s.put(np.maximum(np.hypot(x / 44, (y - 4) / 40) * 42 - 42, np.abs(z - 4) - 22), "fluid")
    s.put(smooth_max(np.hypot(x / 20, (y - 30) / 16) * 16 - 16, np.abs(z + 2) - 18, 4.0), "fat")
    s.put(np.minimum(cartilage, above), "cartilage", "knee_cartilage")
    for sign in (1, -1):
        ring = np.hypot(np.hypot((x - sign * 20) / 17, (y + 8) / 22) * 19 - 18, 0 * z)
        wedge = np.maximum(np.abs(ring) - 5.5, np.abs(z + 2.5) - 3.2)
        wedge = np.where(sign * x > 5, wedge, 50.0)
        s.put(wedge, "meniscus", "meniscus")
    for tissue, name, inset in (("cortical", "", 0.0), ("marrow", KEEP, 2.6)):
        s.put(femur + inset, tissue, name or "femur")
        s.put(tibia + inset, tissue, name or "tibia")
    path = [(outer * 36, -24, -26), (outer * 38, -22, -60), (outer * 36, -20, -160)]
    s.pipe(path, (10, 6.5, 6.5), "cortical", "fibula")
    s.pipe(path, (7.5, 4, 4), "marrow", KEEP)
    cap = np.array((0, 44, 30)) + s.rng.normal(0, 2, 3)
    grown = s.sized((22, 11, 22), 0.08)
    s.blob_at(cap + (0, -3, 0), grown, "cartilage", "knee_cartilage", rough=0.2)
    s.blob_at(cap, grown, "cortical", "patella", rough=0.2)
    s.blob_at(cap, grown - 2.5, "marrow", KEEP, rough=0.2)
    s.pipe([cap + (0, 6, 18), (0, 36, 80), (0, 32, 150)], (6, 5, 5), "tendon")
    s.pipe([cap + (0, 4, -18), (0, 34, -36)], 4.5, "tendon")
    s.pipe([(outer * 8, -14, 12), (-outer * 4, 10, -8)], 4.0, "tendon")
    s.pipe([(-outer * 8, 4, 10), (0, -28, -12)], 5.0, "tendon")
    s.pipe([(0, -44, 120), (0, -46, -10), (0, -42, -120)], 4.5, "vessel")
