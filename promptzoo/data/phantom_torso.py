"""A torso in the manner of a contrast-enhanced CT (portal venous phase), in Hounsfield units.

Everything is made from implicit shapes and smooth noise; no patient's data is in it. Positions are millimetres in RAS,
with the origin in the middle of the abdomen.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.data import phantom_abdomen as abdomen
from promptzoo.data.phantom_bones import paint_bones
from promptzoo.data.phantom_shapes import (
    Canvas,
    blurred_noise,
    capsule,
    ellipsoid,
    inside_organ,
    smooth_max,
    tilted,
    tree,
    tube,
)

TORSO_LABELS = {
    1: "liver", 2: "spleen", 3: "kidney right", 4: "kidney left", 5: "aorta", 6: "inferior vena cava", 7: "stomach",
    8: "gallbladder", 9: "pancreas", 10: "lung right", 11: "lung left", 12: "heart", 13: "spine", 14: "ribs",
    15: "colon"}
"""Names by label value."""

HEART_CENTER = (-20.0, 27.0, 77.0)


class Torso:
    """Builds the torso, organ by organ, back to front.

    Args:
        shape: voxels along x, y, z.
        spacing_mm: voxel size.
        seed: anatomy, texture and noise follow from it.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], seed: int) -> None:
        self.rng = generator(seed, 0x70450)
        self.canvas = canvas = Canvas(shape, spacing_mm, -1000.0)
        self.organic = canvas.noise(26.0, self.rng)
        self.fine = canvas.noise(7.0, self.rng)
        canvas.warp = [3.2 * canvas.noise(55.0, self.rng), 3.2 * canvas.noise(55.0, self.rng),
                       3.2 * canvas.noise(55.0, self.rng)]
        everywhere = canvas.region((-1e6,) * 3, (1e6,) * 3)
        self.x, self.y, self.z = (np.broadcast_to(c, shape) for c in canvas.coordinates(everywhere))

    def build(self) -> Canvas:
        """Paint everything; returns the canvas with noise and blur applied."""
        self.body()
        self.diaphragm()
        abdomen.mesentery(self)
        abdomen.bowel(self)
        self.lungs()
        self.heart()
        self.vessels()
        for organ in (abdomen.kidneys, abdomen.pancreas, abdomen.stomach, abdomen.spleen, abdomen.liver):
            organ(self)
        paint_bones(self)
        self.finish()
        return self.canvas

    def body(self) -> None:
        """Table, skin, fat, muscle wall and the cavity that the organs lie in."""
        canvas, x, y, z = self.canvas, self.x, self.y, self.z
        canvas.warp, kept = [], canvas.warp
        canvas.paint(lambda a, b, c: np.abs(np.hypot(a, b - 330.0) - 462.0) - 2.0 + 0 * c, -560.0,
                     bounds=((-190, -140, -1e4), (190, -95, 1e4)))
        canvas.warp = kept
        waist = np.exp(-((z + 30) / 70) ** 2)
        side, depth = 168 - 9 * waist + 6 * np.clip((-z - 60) / 60, 0, 1), 106 - 3 * waist
        u, v = x / side, (y + 2) / depth
        v = np.where(v < 0, v * 1.06, v)
        power = (np.abs(u) ** 2.35 + np.abs(v) ** 2.35) ** (1 / 2.35)
        skin = (power - 1) * depth * 0.97 + 2.5 * np.exp(-(x / 13) ** 2) * (y < 0)  # a groove over the spine
        thickness = 15 + 7 * np.exp(-((z + 75) / 60) ** 2) * (y > -20) + 2.5 * self.organic - 4 * (y < -60)
        strands = np.abs(self.fine) < 0.12
        fat = -104 + 4 * self.organic + 26 * strands * (self.organic > 0.2)
        canvas.fill(skin, 18.0)
        canvas.fill(skin + 2.4, fat)
        self.wall = wall = skin + np.maximum(thickness, 7.0)
        muscle = 58 + 4 * self.fine
        canvas.fill(wall, muscle)
        wall_mm = 13 + 3 * np.clip((z - 5) / 30, 0, 1)
        for layer in (4.2, 8.4):  # fat planes between the oblique muscles
            canvas.fill(np.abs(wall + layer) - 0.35, -20.0, opacity=0.75, soft_mm=2.2)
        self.cavity = np.maximum(wall + wall_mm, -(y + 62 + 0.0012 * x * x))
        canvas.fill(self.cavity, -98 + 5 * self.organic + 3 * self.fine)
        line = np.maximum(np.maximum(np.abs(x) - 1.6, wall), 60 - y)  # between the straight muscles
        canvas.fill(line, -40.0, opacity=0.7)

    def diaphragm(self) -> None:
        """Shape of the two domes: chest above, abdomen below."""
        x, y = self.x, self.y
        right = 50 - 0.0046 * (x - 72) ** 2 - 0.0048 * (y - 22) ** 2 - 12 * np.exp(-((x - 4) / 30) ** 2)
        left = 40 - 0.0044 * (x + 74) ** 2 - 0.0046 * (y - 18) ** 2 - 4 * np.exp(-((x + 4) / 30) ** 2)
        self.dome = np.maximum(np.where(x > 2, right, left), -58.0) + 2.0 * self.organic
        self.above = self.z - self.dome  # mm above the dome, roughly

    def lungs(self) -> None:
        """Both lungs with vessels and airways; denser towards the back."""
        canvas, x, y, z = self.canvas, self.x, self.y, self.z
        middle = 9 + 0.0035 * np.clip(-y, 0, 60) ** 2 + 12 * np.exp(-((y - 8) / 26) ** 2) * (z > 70)
        pleura = smooth_max(self.wall + 15.5, -self.above - 1.0, 4.0)
        pleura = smooth_max(pleura, middle - np.abs(x + 6 + 2 * self.organic), 7.0)
        sac = np.broadcast_to(ellipsoid(HEART_CENTER, (66, 55, 60))(x, y, z), canvas.shape)
        pleura = smooth_max(pleura, -sac, 6.0)
        cava = np.hypot(x - 21, y + 2) - 15 - 0.15 * np.clip(z - 60, 0, 60)
        pleura = smooth_max(pleura, -cava, 8.0)
        spine = np.hypot(x, (y + 52) * 0.9) - 31
        pleura = smooth_max(pleura, -spine, 6.0)
        self.pleura = pleura
        canvas.fill(pleura - 2.0, 45.0)
        air = -848 - 0.35 * (y + 10) + 16 * self.organic + 14 * self.fine
        for label, chosen in ((10, x > -4), (11, x <= -4)):
            canvas.fill(np.where(chosen, pleura, 50.0).astype(np.float32), air, label)
        inside = canvas.labels.copy()
        for sign in (1, -1):
            hilum = np.array([sign * 36.0 - 4, -18.0, 82.0])
            for aim in ((1.0, 0.2, -0.9), (0.9, 0.8, -0.3), (0.8, -0.7, -0.8), (1.0, 0.0, 0.5), (0.7, -0.5, -0.2),
                        (0.9, 0.6, 0.7), (0.9, -0.8, 0.4)):
                heading = (aim[0] * sign, aim[1], aim[2])
                for a, b, ra, rb in tree(hilum, heading, 36, 4.1, 5, self.rng, spread=0.7):
                    inside_organ(canvas, a, b, ra, rb, 120.0, inside, 10 if sign > 0 else 11)
            for aim in ((1.0, 0.0, -1.0), (1.0, 0.4, 0.1), (0.9, -0.6, -0.4)):
                for a, b, ra, rb in tree(hilum, (aim[0] * sign, aim[1], aim[2]), 30, 4.2, 1, self.rng):
                    canvas.vessel(a, b, ra + 1.2, rb + 1.2, -80.0, None)
                    canvas.vessel(a, b, ra * 0.8, rb * 0.8, -980.0, None)

    def heart(self) -> None:
        """Pericardial fat, myocardium and two blood pools; the oesophagus behind."""
        canvas = self.canvas
        region = canvas.region((-120, -60, 10), (90, 110, 200))
        if all(s.stop > s.start for s in region):
            free = -self.above[region] + 3.0
            sac = smooth_max(canvas.distance(ellipsoid(HEART_CENTER, (63, 53, 58)), region), free, 8.0)
            canvas.fill(sac + 2 * self.organic[region], -88 + 4 * self.fine[region], 0, region)
            muscle = canvas.distance(tilted(HEART_CENTER, (56, 44, 50), 0.35, 0.45), region)
            muscle = smooth_max(muscle + 1.5 * self.organic[region], free + 4, 8.0)
            canvas.fill(muscle, 106 + 6 * self.fine[region], 12, region)
            edge = np.maximum(free + 8, muscle + 4)
            for shift, radii in (((-24, -8, -6), (21, 20, 34)), ((26, 8, -2), (22, 26, 36)),
                                 ((6, -28, 24), (30, 15, 20)), ((2, 20, 26), (17, 13, 30))):
                pool = canvas.distance(ellipsoid(np.add(HEART_CENTER, shift), radii), region)
                pool = smooth_max(pool, edge, 4.0)
                canvas.fill(pool + 1.5 * self.organic[region], 172.0, None, region)
        canvas.paint(capsule((-4, -26, 200), (-10, -12, 30), 7.5), 48.0)
        canvas.paint(capsule((-5, -26, 200), (-11, -12, 36), 2.2), -300.0, opacity=0.5)

    def vessels(self) -> None:
        """Aorta, caval vein, their large branches."""
        canvas = self.canvas
        aorta = [(-16, -34, 200), (-14, -30, 60), (-7, -22, 20), (-5, -19, -40), (-4, -16, -112)]
        cava = [(20, 2, 70), (22, -6, 40), (22, -10, 0), (20, -16, -50), (17, -17, -116)]
        canvas.paint(tube(aorta, (12.5, 12, 11, 10, 9)), 54.0, None, ((-50, -70, -130), (40, 30, 200)), soft_mm=3.0)
        canvas.paint(tube(aorta, (11.5, 11, 10, 9, 8.2)), 172.0, 5, ((-50, -70, -130), (40, 30, 200)))
        for sign in (-1, 1):
            canvas.paint(capsule((-4, -16, -110), (sign * 34 - 3, -26, -170), 7, 6), 170.0, 5,
                         ((-60, -60, -150), (60, 20, -95)))
            canvas.paint(capsule((17, -17, -114), (sign * 30 + 14, -32, -170), 7.5, 7), 142.0, 6,
                         ((-60, -60, -150), (70, 20, -95)))
        canvas.paint(tube(cava, (11, 11, 11.5, 10.5, 9)), 140 + 4 * self.fine, 6, ((-10, -45, -130), (55, 35, 75)))
        for a, b, r in (((-4, -14, 2), (-3, 8, -4), 3.6), ((-3, -12, -14), (2, 12, -70), 3.6),
                        ((12, 14, -8), (10, 20, -70), 4.6), ((-6, -18, -26), (-48, -32, -30), 3.0),
                        ((-4, -18, -32), (46, -36, -44), 3.0), ((20, -12, -30), (-46, -30, -27), 3.8),
                        ((22, -14, -38), (48, -34, -45), 3.8)):
            canvas.vessel(a, b, r, r * 0.85, 158.0)

    def finish(self) -> None:
        """The scanner: blur of the reconstruction, grain, and a little beam-hardening shade."""
        canvas = self.canvas
        blurred = ndimage.gaussian_filter(canvas.values, [0.85 / s for s in canvas.spacing_mm[:2]]
                                          + [1.3 / canvas.spacing_mm[2]])
        radius = np.hypot(self.x / 170, self.y / 110)
        grain = blurred_noise(canvas.shape, (0.62, 0.62, 0.45), self.rng)
        depth = 1.35 - 0.65 * np.clip(radius, 0, 1) ** 2
        canvas.values = np.clip(np.round(blurred + 11.0 * depth * grain), -1024, 3071).astype(np.float32)
