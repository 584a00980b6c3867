"""Organs of the abdomen of the torso phantom, painted back to front."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from promptzoo.data.phantom_shapes import capsule, ellipsoid, inside_organ, smooth_max, smooth_min, tilted, tree, tube

if TYPE_CHECKING:
    from promptzoo.data.phantom_torso import Torso


def mesentery(torso: "Torso") -> None:
    """Small vessels in the abdominal fat."""
    for _ in range(26):
        start = torso.rng.uniform((-60, -15, -120), (60, 55, -10))
        for a, b, ra, rb in tree(start, torso.rng.standard_normal(3), 22, 1.9, 2, torso.rng):
            torso.canvas.vessel(a, b, ra, rb, 120.0)


def _loop(torso: "Torso", points: np.ndarray, radius: float, wall: float, content: float, gas: float,
          label: int | None) -> None:
    """A bowel loop along ``points`` with gas in its upper (front) part, haustra by changing radius."""
    radii = radius * (1 + 0.16 * np.sin(np.arange(len(points)) * 1.9) + 0.08 * torso.rng.standard_normal(len(points)))
    low, high = points.min(0) - 2 * radius, points.max(0) + 2 * radius
    region = torso.canvas.region(low, high)
    if any(s.stop <= s.start for s in region):
        return
    outer = torso.canvas.distance(tube(points, radii), region)
    outer = np.maximum(outer, torso.cavity[region] + 2)
    torso.canvas.fill(outer, wall, label, region)
    inner = outer + 2.4
    torso.canvas.fill(inner, content + 14 * torso.fine[region] + 10 * torso.organic[region], None, region)
    along = int(np.ptp(points[:, [0, 2]], axis=0).argmax()) * 2  # the axis on which the loop runs farthest: x or z
    order = np.argsort(points[:, along])
    middle = np.interp((torso.x, torso.y, torso.z)[along][region], points[order, along], points[order, 1])
    level = middle + radius * (1 - 2 * gas)
    bubbles = torso.organic[region] * 5
    torso.canvas.fill(smooth_max(inner, level + bubbles - torso.y[region], 2.0), -930.0, None, region)


def bowel(torso: "Torso") -> None:
    """Small bowel loops, then the colon around them."""
    for n in range(34):
        middle = torso.rng.uniform((-78, -2, -140), (76, 66, -58))
        steps = np.cumsum(torso.rng.standard_normal((6, 3)) * (13, 7, 8), axis=0)
        _loop(torso, middle + steps, torso.rng.uniform(8.5, 12), 82.0, 30.0, 0.25 if n % 6 == 0 else 0.0, None)
    rising = np.array([(104 + 5 * np.sin(t * 2.1), -12 + 9 * np.sin(t * 1.3), z)
                       for t, z in enumerate(np.linspace(-140, -62, 9))])
    falling = np.array([(-118 + 5 * np.sin(t * 1.7), -22 + 6 * np.cos(t * 1.1), z)
                        for t, z in enumerate(np.linspace(-140, -18, 13))])
    across = np.array([(x, 62 - 0.0021 * x * x + 6 * np.sin(t), -52 - 16 * np.cos(x / 70) + 4 * np.sin(1.7 * t))
                       for t, x in enumerate(np.linspace(100, -108, 17))])
    _loop(torso, rising, 20.0, 52.0, 34.0, 0.3, 15)
    _loop(torso, falling, 13.5, 52.0, 30.0, 0.2, 15)
    _loop(torso, across, 15.5, 52.0, 22.0, 0.5, 15)


def kidneys(torso: "Torso") -> None:
    """Perirenal fat, cortex, medulla, sinus; the adrenal glands above."""
    canvas = torso.canvas
    for label, x, z in ((3, 62.0, -46.0), (4, -63.0, -30.0)):
        inward, y = (-1.0 if x > 0 else 1.0), -40.0
        low, high = (x - 60, y - 50, z - 80), (x + 60, y + 50, z + 80)
        region = canvas.region(low, high)
        bean = canvas.distance(tilted((x, y, z), (27, 24, 54), 0.16 * inward, 0.35 * inward), region)
        hilum = canvas.distance(ellipsoid((x + 25 * inward, y + 9, z), (17, 13, 20)), region)
        canvas.fill(bean - 11, -102.0, 0, region, opacity=0.9)
        kidney = smooth_max(bean + 1.2 * torso.organic[region], -hilum, 9.0)
        canvas.fill(kidney, 196 + 4 * torso.fine[region], label, region)
        pyramids = np.sin(0.24 * (torso.z[region] - z)) + 0.4 * torso.organic[region]
        medulla = np.maximum(kidney + 6.5, -6 * (pyramids + 0.75))
        canvas.fill(medulla, 138.0, None, region, soft_mm=5.0)
        sinus = canvas.distance(ellipsoid((x + 8 * inward, y + 4, z), (11, 9, 26)), region)
        canvas.fill(np.maximum(sinus + 2 * torso.organic[region], kidney + 5), -60.0, None, region)
        pelvis = canvas.distance(ellipsoid((x + 13 * inward, y + 5, z - 2), (8, 6, 13)), region)
        canvas.fill(pelvis, 12.0, 0, region)
        for tip in ((x * 0.62, -30.0, z + 58), (x * 0.80, -44.0, z + 56)):
            canvas.paint(capsule((x * 0.60, -28, z + 70), tip, 3.0, 2.2), 78.0)


def pancreas(torso: "Torso") -> None:
    """A lobulated band in front of the large vessels, with the splenic vein behind; the duodenum beside its head."""
    path = [(42, 8, -22), (30, 12, -12), (8, 16, -2), (-22, 12, 6), (-52, -2, 12), (-78, -18, 16)]
    region = torso.canvas.region((-110, -50, -60), (80, 50, 50))
    band = torso.canvas.distance(tube(path, (14, 14, 11, 10.5, 10, 8)), region)
    band = band + 1.8 * torso.fine[region] + 1.5 * torso.organic[region]
    torso.canvas.fill(band, 96 + 9 * torso.fine[region], 9, region)
    for a, b in zip(path[2:-1], path[3:]):
        torso.canvas.vessel(np.add(a, (0, -8, 0)), np.add(b, (0, -8, 0)), 4.0, 3.6, 156.0)
    duodenum = [(58, 24, 2), (62, 8, -18), (56, -4, -48), (30, -2, -64), (0, -4, -62)]
    _loop(torso, np.array(duodenum, dtype=float), 11.0, 74.0, 20.0, 0.15, None)


def stomach(torso: "Torso") -> None:
    """Wall, contents, and a gas bubble with a level, as in a patient who lies on the back."""
    path = [(-62, -22, 34), (-70, 6, 22), (-62, 34, 2), (-36, 52, -16), (-2, 52, -20), (24, 42, -10)]
    region = torso.canvas.region((-130, -80, -80), (70, 110, 60))
    outer = torso.canvas.distance(tube(path, (30, 34, 31, 25, 19, 13)), region)
    room = np.maximum(torso.cavity[region] + 3, torso.above[region] + 5)
    outer = smooth_max(outer + 1.5 * torso.organic[region], room, 5)
    torso.canvas.fill(outer, 88.0, 7, region)
    rugae = 1.3 * np.abs(torso.fine[region])
    inner = outer + 4.0 + rugae
    torso.canvas.fill(inner, 22 + 15 * torso.fine[region] * (torso.organic[region] > 0), None, region)
    torso.canvas.fill(np.maximum(inner, 46.0 - torso.y[region]), -960.0, None, region)


def spleen(torso: "Torso") -> None:
    """A bean that follows the ribs."""
    region = torso.canvas.region((-180, -120, -80), (-30, 50, 70))
    blob = torso.canvas.distance(tilted((-106, -44, 2), (36, 46, 58), -0.22, -0.25), region)
    dent = torso.canvas.distance(ellipsoid((-64, -4, 4), (27, 36, 46)), region)
    kidney = torso.canvas.distance(tilted((-63, -40, -30), (32, 29, 60), 0.16, 0.35), region)
    spleen = smooth_max(smooth_max(blob, -dent, 8.0), -kidney, 6.0)
    edge = np.maximum(torso.wall[region] + 19.0, torso.above[region] + 4.0)
    spleen = smooth_max(spleen + 1.4 * torso.organic[region], edge, 7.0)
    torso.canvas.fill(spleen, 121 + 5 * torso.fine[region], 2, region)


def liver(torso: "Torso") -> None:
    """Right and left lobe under the dome, portal and hepatic veins, gallbladder."""
    canvas = torso.canvas
    region = canvas.region((-90, -110, -110), (170, 110, 60))
    right = canvas.distance(tilted((78, 0, -2), (82, 90, 74), 0.28, 0.0), region)
    left = canvas.distance(tilted((-4, 46, 14), (70, 36, 34), 0.18, 0.0), region)
    blob = smooth_min(right, left, 26.0)
    edge = np.maximum(torso.wall[region] + 19.5, torso.above[region] + 4.0)
    blob = smooth_max(blob + 2.2 * torso.organic[region], edge, 6.0)
    kidney = canvas.distance(tilted((62, -40, -46), (36, 34, 62), -0.16, -0.35), region)
    blob = smooth_max(blob, -kidney, 10.0)
    middle = canvas.distance(ellipsoid((2, -20, -10), (42, 34, 60)), region)
    blob = smooth_max(blob, -middle, 12.0)
    bed = canvas.distance(tilted((50, 46, -34), (13, 17, 30), 0.25, 0.0), region)
    blob = smooth_max(blob, 2.0 - bed, 4.0)
    fissure = np.maximum(np.abs(torso.x[region] - 18 + 0.22 * torso.z[region]) - 1.3, 30 - torso.y[region])
    blob = smooth_max(blob, -fissure, 3.0)
    canvas.fill(blob, 108 + 3 * torso.organic[region] + 4 * torso.fine[region], 1, region)
    labels = canvas.labels.copy()
    portal = np.array((30.0, 6.0, -8.0))
    canvas.vessel((16, 10, -14), portal, 6.5, 6.0, 162.0)
    for aim in ((1.0, -0.2, 0.1), (0.7, 0.4, -0.6), (0.8, -0.6, 0.5), (-0.6, 0.7, 0.4)):
        for a, b, ra, rb in tree(portal, aim, 36, 5.4, 4, torso.rng, spread=0.6):
            inside_organ(canvas, a, b, ra, rb, 166.0, labels, 1)
    for aim in ((1.0, -0.3, -0.5), (0.8, 0.6, -0.6), (-0.2, 1.0, -0.2)):
        for a, b, ra, rb in tree((26, 2, 36), aim, 44, 5.6, 4, torso.rng, spread=0.45):
            inside_organ(canvas, a, b, ra, rb, 168.0, labels, 1)
    canvas.fill(bed - 1.2, 62.0, 8, region)
    canvas.fill(bed + 1.0, 9.0, 8, region)
