"""Bones of the torso, the cord inside and the muscles beside them."""
from __future__ import annotations

import numpy as np

from promptzoo.data.anatomy.sculpture import KEEP, Sculpture
from promptzoo.data.phantom_shapes import capsule, ellipsoid, smooth_max, smooth_min, tube

SIDES = ((1, "right"), (-1, "left"))
PITCH_MM, DISC_MM, RIB_PITCH_MM, SPINE_END_MM = 33.0, 8.5, 25.0, -146.0
_INF = float("inf")


def paint_skeleton(s: Sculpture) -> None:
    """Muscles first, then bones."""
    for paint in (_muscles, _spine, _ribs, _shoulders, _pelvis):
        paint(s)


def _muscles(s: Sculpture) -> None:
    for sign, side in SIDES:
        region = s.region((sign * 60 - 120, -130, -1e4), (sign * 60 + 120, 90, 1e4))
        x, y, z, free = s.x[region], s.y[region], s.z[region], s.pleura[region]
        own = sign * x > 0
        erector = s.distance(ellipsoid((sign * 30, -78, 0), (25, 17, _INF)), region)
        erector = np.maximum(np.maximum(erector + s.organic[region], 3 - free), -(z + 190))
        s.put(np.where(own, erector, 9.0), "muscle", f"erector_spinae_muscle_{side}", region)
        middle = 26 + 0.13 * np.clip(-z, 0, 150) + 0.5 * np.clip(-z - 170, 0, 80)
        depth = -44 + 0.62 * np.clip(-z - 130, 0, 120)
        psoas = np.hypot((x - sign * middle) / 0.92, (y - depth) * 0.95) - np.clip((30 - z) * 0.15, -3, 20)
        psoas = np.maximum(np.maximum(psoas, 3 - free), -(z + 262))
        s.put(np.where(own, psoas, 9.0), "muscle", f"iliopsoas_muscle_{side}", region)
        buttock = s.distance(ellipsoid((sign * 78, -78, -215), (58, 34, 62)), region)
        s.put(np.maximum(buttock, s.wall[region] + 1), "muscle", f"gluteus_maximus_muscle_{side}", region)
        medius = s.distance(ellipsoid((sign * 122, -28, -172), (20, 42, 46)), region)
        s.put(np.maximum(medius, s.wall[region] + 1), "muscle", f"gluteus_medius_muscle_{side}", region)


def _spine(s: Sculpture) -> None:
    region = s.region((-60, -125, -1e4), (60, -5, 1e4))
    x, y, z = s.x[region], s.y[region], s.z[region]
    phase = np.mod(z - SPINE_END_MM, PITCH_MM) - PITCH_MM / 2
    half, above = (PITCH_MM - DISC_MM) / 2, SPINE_END_MM - z
    grow = s.rng.normal(1, 0.05) + np.clip(-z, -150, 120) * 0.0009
    line = -48.0 + 5 * np.cos((z + 70) / 95) - 10 * np.clip((z - 60) / 100, 0, 1)
    outline = (np.hypot(x / (23 * grow), (y - line) / (17 * grow)) - 1) * 18
    s.put(np.maximum(outline + 0.5, above), "disc", "", region)
    body = smooth_max(outline, np.abs(phase) - half, 2.5)
    arch_y = line - 26
    canal = np.hypot(x / 10.5, (y - arch_y) / 8.5)
    arch = np.maximum((np.hypot(x / 15.5, (y - arch_y) / 13) - 1) * 13, np.abs(phase) - 12.5)
    back, aside = arch_y - y, np.abs(x)
    spinous = smooth_max(np.hypot(x / 3.6, (phase + 3 + 0.25 * (back - 12)) / 8.5) * 3.2 - 3.2,
                         np.abs(back - 18) - 12, 3.0)
    wings = smooth_max(np.hypot((back + 1 - 0.16 * (aside - 14)) / 4.2, (phase - 3) / 6.0) * 4 - 4,
                       np.abs(aside - 23) - 14, 3.0)
    bone = np.maximum(smooth_min(body, smooth_min(smooth_min(arch, spinous, 4.0), wings, 4.0), 3.0), above)
    s.put(bone, "cortical", "spine", region)
    s.put(bone + 2.4, "trabecular", KEEP, region)
    s.put(np.maximum((canal - 1) * 9, above + 20), "fat", "", region)
    s.put(np.maximum((np.hypot(x / 7, (y - arch_y) / 6) - 1) * 6, above - 60), "cord", "spinal_cord", region)


def _ribs(s: Sculpture) -> None:
    x, y, z = s.x, s.y, s.z
    angle = np.arctan2(np.abs(x) / 150, -(y + 10) / 100)  # 0 at the spine, pi at the breastbone
    drop = 62 * np.clip(angle - 0.35, 0, 2.0) ** 1.15 - 18 * np.clip(angle - 2.05, 0, 1.2)
    height = z + drop + s.rng.uniform(-8, 8)
    phase = np.mod(height + 6, RIB_PITCH_MM) - RIB_PITCH_MM / 2
    number = np.floor((height + 6) / RIB_PITCH_MM)
    middle = s.wall + 8.0 + 2.5 * np.clip(angle - 0.3, 0, 1)
    reach = np.clip((number + 3.0) * 0.62, 0.0, 2.75)  # lower ribs end earlier
    rib = (np.hypot(middle / 3.9, phase / 6.6) - 1) * 4.0
    rib = smooth_max(smooth_max(rib, (angle - reach) * 90, 3.0), (0.18 - angle) * 90, 3.0)
    rib = np.where((z > -75) & (height > -85) & (z < 215), rib, 50.0)
    gristle = angle > 2.2
    s.put(np.where(gristle, rib, 50.0), "cartilage", "costal_cartilage")
    s.put(np.where(gristle, 50.0, rib), "cortical", "rib")
    if "rib" not in s.absent:
        s.put(np.where(gristle, 50.0, rib + 2.2), "trabecular", KEEP)
    front = s.skin + 16
    chest = smooth_max(np.abs(x) - 17, np.maximum(np.abs(front) - 6, np.abs(z - 140) - 68), 4.0)
    chest = np.where(y > 0, chest, 50.0)
    s.put(chest, "cortical", "sternum")
    s.put(chest + 2.4, "trabecular", KEEP if "sternum" not in s.absent else "sternum")


def _shoulders(s: Sculpture) -> None:
    for sign, side in SIDES:
        s.pipe([(sign * 18, 62, 212), (sign * 70, 40, 222), (sign * 128, -20, 226)], 6.0, "cortical",
               f"clavicle_{side}")
        s.pipe([(sign * 92, -92, 120), (sign * 100, -90, 190), (sign * 138, -50, 215)], (5, 7, 9), "cortical",
               f"scapula_{side}")
        s.pipe([(sign * 60, -88, 195), (sign * 92, -92, 120)], 4.5, "cortical", f"scapula_{side}")


def _pelvis(s: Sculpture) -> None:
    region = s.region((-70, -130, -280), (70, 20, -120))
    x, y, z = s.x[region], s.y[region], s.z[region]
    down = np.clip(SPINE_END_MM - z, 0, 110)
    wedge = smooth_max(np.abs(x) - (50 - 0.42 * down), np.abs(y + 58 + 0.42 * down - 0.0022 * down ** 2) - 17
                       + 0.08 * down, 5.0)
    wedge = smooth_max(wedge, np.maximum(z - SPINE_END_MM, SPINE_END_MM - 98 - z), 4.0)
    s.put(wedge, "cortical", "sacrum", region)
    s.put(wedge + 2.6, "trabecular", KEEP, region)
    for sign, side in SIDES:
        _hip(s, sign, f"hip_bone_{side}")
        head = s.near((sign * 88, 2, -226), 2.5)
        shaft = head + (sign * 40, -10, -18)
        path = [head, head + (sign * 22, -6, -14), shaft + (0, 0, -22), shaft + (-sign * 6, 4, -160)]
        for inner, tissue in ((0.0, "cortical"), (-3.0, "marrow")):
            s.pipe(path, np.array((23.5, 15, 19, 14.5)) + inner * (1 if tissue == "cortical" else 1.3), tissue,
                   f"femur_{side}")
            s.pipe([shaft + (sign * 2, 0, 6), shaft + (0, 0, -26)], 16.0 + inner, tissue, f"femur_{side}")


def _hip(s: Sculpture, sign: int, name: str) -> None:
    region = s.region((sign * 90 - 75, -125, -300), (sign * 90 + 75, 90, -100))
    if any(c.stop <= c.start for c in region):
        return
    crest = np.array([(sign * 48, -84, -160), (sign * 88, -66, -132), (sign * 118, -26, -124), (sign * 126, 20, -142)])
    socket = np.array([sign * 82.0, 0, -222])
    wing = np.full(s.structure[region].shape, 60.0, np.float32)
    for t in np.linspace(0, 0.85, 6):
        line = crest + t * (socket + (0, -8, 24) - crest) * (1.0, 1.0, 1.0)
        wing = smooth_min(wing, s.distance(tube(line, (9, 6.5, 6.5, 7.5)), region), 5.0)
    cup = np.abs(s.distance(ellipsoid(socket + (sign * 6, 2, -4), (29, 29, 29)), region)) - 4.5
    cup = np.maximum(cup, sign * (s.x[region] - socket[0]) - 14)
    pubis = s.distance(tube([socket + (-sign * 14, 26, 0), (sign * 34, 46, -236), (sign * 9, 42, -250)], (9, 8, 9)),
                       region)
    sitting = s.distance(tube([socket + (-sign * 8, -26, -12), (sign * 66, -34, -278), (sign * 40, 8, -284),
                               (sign * 12, 36, -258)], (12, 14, 8, 7)), region)
    bone = smooth_min(smooth_min(wing, cup, 4.0), smooth_min(pubis, sitting, 4.0), 4.0)
    post = s.distance(capsule(socket + (-sign * 6, -22, 30), socket + (-sign * 8, -28, -14), 12.0), region)
    bone = smooth_min(bone, post, 5.0)
    s.put(bone, "cortical", name, region)
    s.put(bone + 3.0, "trabecular", KEEP if name not in s.absent else name, region)
