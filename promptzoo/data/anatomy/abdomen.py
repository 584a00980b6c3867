"""Organs of abdomen and pelvis, painted back to front."""
from __future__ import annotations

import numpy as np

from promptzoo.data.anatomy.sculpture import KEEP, Sculpture
from promptzoo.data.phantom_shapes import ellipsoid, smooth_max, smooth_min, tilted, tube

SIDES = ((1, "right"), (-1, "left"))


def paint_abdomen(s: Sculpture) -> None:
    """All organs below the diaphragm."""
    for paint in (_bowel, _pelvis, _kidneys, _pancreas, _stomach, _spleen, _liver):
        paint(s)


def _loop(s: Sculpture, points: np.ndarray, radius: float, name: str, filling: str) -> None:
    """A bowel loop with a wall, contents, and gas in its front part."""
    radii = radius * (1 + 0.15 * np.sin(np.arange(len(points)) * 1.9) + 0.1 * s.rng.standard_normal(len(points)))
    region = s.region(points.min(0) - 2.2 * radius, points.max(0) + 2.2 * radius)
    if any(c.stop <= c.start for c in region):
        return
    outer = np.maximum(s.distance(tube(points, radii), region), s.cavity[region] + 2)
    s.put(outer, "bowel", name, region)
    s.put(outer + 3.0, filling, KEEP if name not in s.absent else name, region)
    if s.rng.random() < 0.5:
        level = s.y[region] - (points[:, 1].mean() + radius * s.rng.uniform(-0.2, 0.8))
        s.put(np.maximum(outer + 3.0, -level), "gas", KEEP if name not in s.absent else name, region)


def _bowel(s: Sculpture) -> None:
    rng = s.rng
    for _ in range(30):
        middle = rng.uniform((-78, -2, -205), (76, 66, -58))
        steps = np.cumsum(rng.standard_normal((6, 3)) * (13, 7, 8), axis=0)
        _loop(s, middle + steps, rng.uniform(8.5, 13), "small_bowel", "content")
    wave = rng.uniform(0, 6.28)
    rising = np.array([(104 + 5 * np.sin(t * 2.1 + wave), -12 + 9 * np.sin(t * 1.3), z)
                       for t, z in enumerate(np.linspace(-175, -62, 9))])
    falling = np.array([(-118 + 5 * np.sin(t * 1.7 + wave), -22 + 6 * np.cos(t * 1.1), z)
                        for t, z in enumerate(np.linspace(-165, -18, 13))])
    across = np.array([(x, 62 - 0.0021 * x * x + 6 * np.sin(t), -52 - 16 * np.cos(x / 70) + 5 * np.sin(1.7 * t + wave))
                       for t, x in enumerate(np.linspace(100, -108, 17))])
    sigmoid = np.array([(-112, -10, -165), (-92, 12, -192), (-50, 26, -206), (-12, 6, -208), (2, -42, -206),
                        (0, -58, -232), (0, -52, -258)], float)
    size, filling = rng.uniform(0.8, 1.25), str(rng.choice(["feces", "content", "gas"]))
    for path, radius in ((rising, 20.0), (falling, 13.5), (across, 15.5), (sigmoid, 14.0)):
        _loop(s, path + rng.normal(0, 3, path.shape), radius * size, "colon", filling)


def _pelvis(s: Sculpture) -> None:
    center = s.near((0, 28, -228), 4)
    s.blob_at(center, s.sized((38, 32, 28), 0.22), "urine", "urinary_bladder")
    if "prostate" in s.absent:
        s.blob_at(s.near((0, -8, -212), 5), s.sized((28, 26, 24), 0.15), "gland", "uterus")
    else:
        s.blob_at(s.near((0, 4, -258), 2), s.sized((23, 18, 18), 0.12), "prostate", "prostate")


def _kidneys(s: Sculpture) -> None:
    for sign, side in SIDES:
        x, y, z = s.near((62.0 if sign > 0 else -63.0, -40.0, -46.0 if sign > 0 else -30.0), 6)
        x += sign * 2
        grown = s.sized((27, 25, 53), 0.09)
        inward, name = -float(sign), f"kidney_{side}"
        region = s.region((x - 62, y - 55, z - 85), (x + 62, y + 55, z + 85))
        if any(c.stop <= c.start for c in region):
            continue
        bean = s.distance(tilted((x, y, z), grown, 0.16 * inward, 0.35 * inward), region)
        hilum = s.distance(ellipsoid((x + 25 * inward, y + 9, z), (17, 13, 20)), region)
        s.put(bean - 10, "fat", "", region)
        kidney = smooth_max(bean + 1.2 * s.organic[region], -hilum, 9.0)
        s.put(kidney, "kidney", name, region)
        if name not in s.absent:
            sinus = s.distance(ellipsoid((x + 8 * inward, y + 4, z), (11, 9, 26)), region)
            s.put(np.maximum(sinus + 2 * s.organic[region], kidney + 5), "sinus", KEEP, region)
            s.pipe([(x + 16 * inward, y + 8, z), (sign * 8, -16, -34)], 5.0, "vessel")
        top = np.array([x * 0.72, y + 8, z + 62])
        s.pipe([top, top + (0, -10, -10)], 4.0, "gland", f"adrenal_gland_{side}")
        s.pipe([top, top + (-sign * 10, -14, -12)], 3.5, "gland", f"adrenal_gland_{side}")


def _pancreas(s: Sculpture) -> None:
    path = np.array([(42, 8, -22), (30, 12, -12), (8, 16, -2), (-22, 12, 6), (-52, -2, 12), (-78, -18, 16)], float)
    path = path + s.rng.normal(0, 3, 3) + s.rng.normal(0, 2, path.shape)
    for a, b in zip(path[2:-1], path[3:]):
        s.pipe([a + (0, -9, 0), b + (0, -9, 0)], 4.5, "vessel", "portal_vein_and_splenic_vein")
    s.pipe(path, np.array((14, 14, 11, 10.5, 10, 8)) * s.rng.uniform(0.75, 1.15), "pancreas", "pancreas")
    s.pipe([path[2] + (0, -9, 0), (22, 8, -4), (36, 8, 2)], 6.0, "vessel", "portal_vein_and_splenic_vein")
    duodenum = np.array([(58, 24, 2), (62, 8, -18), (56, -4, -48), (30, -4, -64), (0, -6, -62)], float)
    _loop(s, duodenum + s.rng.normal(0, 3, duodenum.shape), 12.0, "duodenum", "content")


def _stomach(s: Sculpture) -> None:
    path = np.array([(-62, -22, 34), (-70, 6, 22), (-62, 34, 2), (-36, 52, -16), (-2, 52, -20), (24, 42, -10)], float)
    path = path + s.rng.normal(0, 4, 3) + s.rng.normal(0, 3, path.shape)
    radii = np.array((30, 34, 31, 25, 19, 13)) * np.exp(s.rng.normal(0, 0.18))
    region = s.region(path.min(0) - 70, path.max(0) + 70)
    if any(c.stop <= c.start for c in region):
        return
    outer = s.distance(tube(path, radii), region)
    outer = smooth_max(outer + 1.5 * s.organic[region], np.maximum(s.cavity[region] + 3, s.above[region] + 5), 5)
    s.put(outer, "stomach", "stomach", region)
    if "stomach" not in s.absent:
        s.put(outer + 5.0, "content", KEEP, region)
        level = s.rng.uniform(15, 75)
        s.put(np.maximum(outer + 5.0, level - s.y[region]), "gas", KEEP, region)


def _spleen(s: Sculpture) -> None:
    center = s.near((-112, -46, 4), 5)
    region = s.region(center - 85, center + 85)
    if any(c.stop <= c.start for c in region):
        return
    blob = s.distance(tilted(center, s.sized((42, 52, 62), 0.14), -0.22, -0.25), region)
    dent = s.distance(ellipsoid((-62, 0, 6), (25, 32, 44)), region)
    kidney = s.distance(tilted((-60, -38, -32), (27, 24, 52), 0.16, 0.35), region)
    spleen = smooth_max(smooth_max(blob, -dent, 8.0), -kidney, 6.0)
    edge = np.maximum(s.wall[region] + 15.0, s.above[region] + 4.0)
    s.put(smooth_max(spleen + 1.4 * s.organic[region], edge, 7.0), "spleen", "spleen", region)


def _liver(s: Sculpture) -> None:
    region = s.region((-105, -115, -130), (175, 115, 75))
    if any(c.stop <= c.start for c in region):
        return
    moved, grown = s.rng.normal(0, 5, 3), np.exp(s.rng.normal(0, 0.08))
    right = s.distance(tilted(np.add((78, 0, -2), moved), grown * np.array((90, 98, 84)), 0.28, 0.0), region)
    left = s.distance(tilted(np.add((-4 + s.rng.normal(0, 10), 46, 14), moved), grown * np.array((74, 42, 38)), 0.18,
                             0.0), region)
    blob = smooth_min(right, left, 26.0)
    edge = np.maximum(s.wall[region] + 15.5, s.above[region] + 4.0)
    blob = smooth_max(blob + 2.2 * s.organic[region], edge, 6.0)
    kidney = s.distance(tilted((62, -40, -46), (34, 32, 60), -0.16, -0.35), region)
    blob = smooth_max(blob, -kidney, 10.0)
    blob = smooth_max(blob, -s.distance(ellipsoid((0, -22, -12), (36, 32, 60)), region), 12.0)
    bed = s.distance(tilted(s.near((50, 46, -34), 4), s.sized((14, 17, 30), 0.2), 0.25, 0.0), region)
    if "gallbladder" not in s.absent:
        blob = smooth_max(blob, 2.0 - bed, 4.0)
    s.put(blob, "liver", "liver", region)
    if "liver" not in s.absent:
        s.put(np.maximum(blob + 8, 1.3 - np.abs(s.fine[region]) * 0.7), "vessel", KEEP, region)
        if s.rng.random() < 0.25:
            at = s.near((85, 0, 0), 25)
            lesion, place = s.shape_of(ellipsoid(at, s.sized((14, 14, 14), 0.3)), at, 40)
            inside = s.structure[place] == s.number("liver")
            s.put(np.where(inside, lesion, 9.0), "lesion", KEEP, place)
    s.put(bed, "gallbladder", "gallbladder", region)
