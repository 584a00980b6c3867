"""A torso from the neck to the thighs: chest and the body's outline. Positions are RAS millimetres."""
from __future__ import annotations

import numpy as np

from promptzoo.data.anatomy.abdomen import paint_abdomen
from promptzoo.data.anatomy.sculpture import KEEP, Sculpture
from promptzoo.data.anatomy.skeleton import paint_skeleton
from promptzoo.data.phantom_shapes import ellipsoid, smooth_max, smooth_min, tilted

SIDES = ((1, "right"), (-1, "left"))
HIPS_MM = -205.0


def paint_torso(s: Sculpture) -> None:
    """Everything, back to front."""
    _body(s)
    _lungs(s)
    _heart(s)
    _great_vessels(s)
    paint_abdomen(s)
    paint_skeleton(s)


def _body(s: Sculpture) -> None:
    x, y, z, rng = s.x, s.y, s.z, s.rng
    if rng.random() < 0.7:
        bed = np.abs(np.hypot(x, y - 330.0) - 462.0 + rng.uniform(-8, 8)) - 4.0
        s.put(np.where((y < -95) & (np.abs(x) < 190), bed, 9.0), "table")
    waist = np.exp(-((z + 30) / 70) ** 2)
    side = 166 - 9 * waist + 10 * np.exp(-((z - HIPS_MM) / 60) ** 2) - 70 * np.clip((z - 215) / 60, 0, 1.2)
    depth = 106 - 3 * waist - 22 * np.clip((z - 190) / 60, 0, 1.3)
    power = (np.abs(x / side) ** 2.35 + np.abs((y + 2) / depth) ** 2.35) ** (1 / 2.35)
    trunk = (power - 1) * depth
    right, left = (np.hypot((x - sign * 82) / 84, (y + 8) / 88) * 84 - 84 for sign, _ in SIDES)
    legs = smooth_min(right, left, 10.0)
    legs = np.maximum(legs, z + 225)
    trunk = np.maximum(trunk, -(z + 255))
    s.skin = smooth_min(trunk, legs, 12.0)
    layer = rng.uniform(5, 20)
    fat = layer + 5 * np.exp(-((z + 75) / 60) ** 2) * (y > -20) + 2.0 * s.organic - 0.2 * layer * (y < -60)
    s.put(s.skin, "skin")
    s.put(s.skin + 2.5, "fat")
    s.wall = s.skin + np.maximum(fat, 5.0)
    s.put(s.wall, "muscle")
    if rng.random() < 0.3:  # arms beside the body
        for sign, _ in SIDES:
            s.pipe([(sign * 205, -10, -200), (sign * 200, -20, 40), (sign * 180, -20, 210)], (28, 36, 44), "muscle")
            s.pipe([(sign * 205, -10, -200), (sign * 200, -20, 40), (sign * 180, -20, 210)], (8, 9, 11), "cortical")
    s.cavity = np.maximum(np.maximum(s.wall + 13, -(y + 62 + 0.0012 * x * x)), -(z + 262))
    s.cavity = np.maximum(s.cavity, z - 190)
    s.put(s.cavity, "fat")
    right = 50 - 0.0046 * (x - 72) ** 2 - 0.0048 * (y - 22) ** 2 - 12 * np.exp(-((x - 4) / 30) ** 2)
    left = 40 - 0.0044 * (x + 74) ** 2 - 0.0046 * (y - 18) ** 2 - 4 * np.exp(-((x + 4) / 30) ** 2)
    shift = rng.normal(0, 9)
    s.above = z - (np.maximum(np.where(x > 2, right, left), -58.0) + 2.0 * s.organic + shift)


def _lungs(s: Sculpture) -> None:
    x, y, z = s.x, s.y, s.z
    s.heart = s.near((-20.0, 27.0, 77.0), 6)
    middle = 9 + 0.0035 * np.clip(-y, 0, 60) ** 2 + 12 * np.exp(-((y - 8) / 26) ** 2) * (z > 70)
    apex = 0.9 * np.clip(z - 190, 0, None)
    pleura = smooth_max(s.wall + 15.5 + 0.35 * apex, -s.above - 1.0, 4.0)
    pleura = smooth_max(pleura, middle - np.abs(x + 6), 7.0)
    pleura = smooth_max(pleura, z - 232, 8.0)
    sac = np.broadcast_to(ellipsoid(s.heart, (66, 55, 60))(x, y, z), s.shape)
    pleura = smooth_max(pleura, -sac, 6.0)
    pleura = smooth_max(pleura, -(np.hypot(x, (y + 52) * 0.9) - 31), 6.0)
    s.pleura = pleura
    for chosen, name in ((x > -4, "lung_right"), (x <= -4, "lung_left")):
        lung = np.where(chosen, pleura, 50.0)
        s.put(lung, "lung", name)
        if name not in s.absent:
            s.put(np.maximum(lung + 4, 1.05 - np.abs(s.fine) * 0.55), "vessel", KEEP)
    s.put(np.maximum(np.maximum(s.skin + 40, np.abs(x) - 22), np.maximum(150 - z, np.abs(y + 5) - 28)), "fat")
    trachea = [(0, -14, 260), (0, -14, 150), (-2, -18, 118)]
    s.pipe(trachea, 10.5, "soft")
    s.pipe(trachea, 8.5, "gas", "trachea")
    for sign, _ in SIDES:
        s.pipe([(0, -18, 118), (sign * 34, -22, 92)], 6.0, "gas")
    s.pipe([(-2, -34, 260), (-4, -34, 140), (-8, -26, 40), (-24, -8, 30)], 8.0, "soft", "esophagus")


def _heart(s: Sculpture) -> None:
    distance, region = s.shape_of(ellipsoid(s.heart, (64, 54, 58)), s.heart, 78)
    free = -s.above[region] + 3.0
    s.put(smooth_max(distance, free, 8.0), "fat", "", region)
    muscle = s.distance(tilted(s.heart, s.sized((58, 47, 52), 0.06), 0.35, 0.45), region)
    muscle = smooth_max(muscle + 1.5 * s.organic[region], free + 4, 8.0)
    s.put(muscle, "myocardium", "heart", region)
    if "heart" in s.absent:
        return
    for shift, radii in (((-24, -8, -6), (21, 20, 34)), ((26, 8, -2), (22, 26, 36)), ((6, -28, 24), (30, 15, 20)),
                         ((2, 20, 26), (17, 13, 30))):
        pool = s.distance(ellipsoid(s.heart + shift, radii), region)
        s.put(np.maximum(pool, muscle + 4), "blood", KEEP, region)


def _great_vessels(s: Sculpture) -> None:
    heart = s.heart
    s.pipe([heart + (8, 4, 40), (10, 6, 150), (-6, -10, 172), (-16, -34, 156)], (14, 14, 13, 12.5), "vessel", "aorta")
    bend = s.near((-7, -22, 20), 3)
    s.pipe([(-16, -34, 156), (-14, -31, 60), bend, (-5, -19, -40), (-4, -16, -112)], (12.5, 12, 11, 10, 9), "vessel",
           "aorta")
    s.pipe([heart + (30, -4, 10), (22, -6, 40), (22, -10, 0), (20, -16, -50), (17, -17, -116)],
           (12, 12, 11.5, 10.5, 9.5), "vessel", "inferior_vena_cava")
    s.pipe([heart + (30, 0, 30), (28, 2, 150), (26, 4, 200)], 10.0, "vessel", "superior_vena_cava")
    for sign, side in SIDES:
        s.pipe([(-4, -16, -112), (sign * 34 - 3, -26, -170), (sign * 58, 12, -222), (sign * 70, 40, -250)],
               (7.5, 6.5, 5.5, 5), "vessel", f"common_iliac_artery_{side}")
        s.pipe([(17, -17, -116), (sign * 30 + 8, -34, -172), (sign * 52, 2, -222), (sign * 62, 34, -250)],
               (8, 7.5, 6.5, 6), "vessel", f"common_iliac_vein_{side}")
    s.pipe([(-14, -26, 160), (-20, -20, 260)], 6.0, "vessel")
    s.pipe([(12, -4, 160), (22, -12, 260)], 6.5, "vessel")
