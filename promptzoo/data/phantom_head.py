"""A head in the manner of a T1-weighted MR after contrast, with a ring-enhancing tumour; arbitrary units.

Made from implicit shapes and smooth noise; no patient's data is in it. Positions are millimetres in RAS with the origin
in the middle of the brain. The cortex is folded by the zero sheets of a smooth noise: distance from a sheet, or from
the surface of the brain, decides between fluid, grey and white matter.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.data.head_shapes import cerebellum, cerebrum, cortical_depth, cranial_cavity, skin
from promptzoo.data.phantom_shapes import Canvas, blurred_noise, ellipsoid, smooth_min, tube

HEAD_LABELS = {1: "white matter", 2: "gray matter", 3: "ventricles", 4: "cerebellum", 5: "brainstem", 6: "tumor",
               7: "eye right", 8: "eye left"}
"""Names by label value."""

CSF, GRAY, WHITE, DEEP, FAT, MARROW, CORTICAL, MUSCLE = 95.0, 300.0, 425.0, 345.0, 590.0, 350.0, 45.0, 215.0


class Head:
    """Builds the head, outside in.

    Args:
        shape: voxels along x, y, z.
        spacing_mm: voxel size.
        seed: anatomy, texture and noise follow from it.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], seed: int) -> None:
        self.rng = generator(seed, 0x4EAD)
        self.canvas = canvas = Canvas(shape, spacing_mm, 0.0, center_mm=(0.0, 2.0, 2.0))
        self.organic = canvas.noise(22.0, self.rng)
        self.fine = canvas.noise(5.0, self.rng)
        canvas.warp = [2.0 * canvas.noise(50.0, self.rng) for _ in range(3)]
        self.everywhere = canvas.region((-1e6,) * 3, (1e6,) * 3)
        self.x, self.y, self.z = (np.broadcast_to(c, shape) for c in canvas.coordinates(self.everywhere))

    def build(self) -> Canvas:
        """Paint everything; returns the canvas with bias, blur and noise applied."""
        self.outside()
        self.face()
        self.cerebrum()
        self.hindbrain()
        self.deep()
        self.tumor()
        self.finish()
        return self.canvas

    def outside(self) -> None:
        """Skin, fat, skull with marrow, and the fluid around the brain."""
        canvas, x, y, z = self.canvas, self.x, self.y, self.z
        self.floor, self.inner = cranial_cavity(x, y, z)
        inner = self.inner
        ears = np.minimum(*(ellipsoid((s * 78, -8, -30), (6, 13, 22))(x, y, z) for s in (1, -1)))
        surface = smooth_min(skin(inner, x, y, z), ears, 5.0)
        canvas.fill(surface, 250.0)
        canvas.fill(surface + 2.2, FAT + 30 * self.organic)
        deep = np.maximum(surface + 6.5 + 1.5 * self.organic, 8.0 - inner)
        canvas.fill(deep, MUSCLE + 20 * self.fine + 160 * (self.fine > 1.3))
        canvas.fill(inner - 8.2 - np.where(z < -22, 3.0, 0.0), CORTICAL)
        canvas.fill(np.abs(inner - 4.6) - 1.7 - 0.5 * self.organic, MARROW + 40 * self.fine)
        canvas.fill(inner, CSF)
        canvas.fill(np.abs(inner - 0.4) - 0.5, 260.0, opacity=0.6)  # dura, enhanced

    def face(self) -> None:
        """Eyes, air spaces, jaw muscles, cervical spine."""
        blob = self.canvas.blob
        blob((0, 72, -48), (13, 34, 24), 130.0)
        blob((0, 68, -56), (8, 32, 20), 8.0)
        for sign in (1, -1):
            blob((sign * 30, 70, -34), (18, 25, 15), FAT - 110)
            blob((sign * 28, 60, -34), (3.5, 26, 3.5), MUSCLE)
            blob((sign * 33, 79, -34), (12.8, 12.8, 12.8), 300.0)
            blob((sign * 33, 79, -34), (11.8, 11.8, 11.8), 92.0, 7 if sign > 0 else 8)
            blob((sign * 33, 87.5, -34), (5, 2.6, 5), 260.0)
            blob((sign * 30, 66, -66), (15, 16, 15), 6.0)
            blob((sign * 52, 44, -66), (9, 20, 34), MUSCLE)
            blob((sign * 55, -26, -52), (13, 14, 16), 70 + 90 * (self.fine > 0.8))
        blob((0, 22, -84), (16, 13, 24), 5.0)
        blob((0, 4, -92), (15, 14, 24), MARROW)

    def cerebrum(self) -> None:
        """Two folded hemispheres that fill the skull above the cerebellum."""
        canvas, x, y, z = self.canvas, self.x, self.y, self.z
        self.brain = cerebrum(3.6 + 1.2 * self.organic, self.floor, x, y, z)
        folds = canvas.noise(9.5, self.rng) + 0.3 * canvas.noise(5.5, self.rng)
        level = cortical_depth(self.brain, folds, 0.55, x + 1.5 * self.organic, x, y, z)
        core = ellipsoid((0, -2, 12), (46, 60, 30))(x, y, z)
        canvas.fill(-level, GRAY + 12 * self.fine, 2)
        canvas.fill(3.9 + 0.5 * self.organic - level, WHITE + 8 * self.fine + 8 * self.organic, 1)
        canvas.fill(np.maximum(np.abs(x) - 0.7, np.maximum(self.inner + 1, 26 - core)), 300.0, opacity=0.6)

    def hindbrain(self) -> None:
        """Cerebellum with its leaves, brainstem, spinal cord."""
        canvas = self.canvas
        region = canvas.region((-70, -100, -80), (70, 0, -2))
        x, y, z = self.x[region], self.y[region], self.z[region]
        lobe = cerebellum(self.inner[region], x, y, z)
        canvas.fill(lobe, GRAY + 10, 4, region)
        radius = np.hypot(y + 24, z + 34)
        leaves = np.sin(1.25 * radius + 2.6 * self.organic[region] + 1.5 * np.sin(6 * np.arctan2(z + 34, y + 24)))
        white = np.maximum(lobe + 4.0, -2.2 * leaves - 0.05 * np.clip(-lobe - 4, 0, 30) ** 2)
        canvas.fill(white, WHITE - 25, None, region)
        canvas.fill(np.maximum(lobe + 0.6, 0.9 * (leaves + 0.9)), CSF + 70, None, region, opacity=0.7)
        stem = [(0, -6, 0), (0, -12, -18), (0, -10, -36), (0, -20, -58), (0, -24, -130)]
        canvas.paint(tube(stem, (15, 14, 16, 10, 6.5)), WHITE - 30 + 6 * self.fine, 5, ((-40, -60, -1e4), (40, 30, 0)))
        canvas.blob((0, -30, -36), (6, 5, 11), CSF, 0)
        canvas.blob((0, -22, -16), (9, 7, 6), WHITE - 20, 5)

    def deep(self) -> None:
        """Ventricles and the nuclei beside them."""
        canvas = self.canvas
        for s in (1, -1):
            canvas.blob((s * 28, 6, 6), (6, 18, 11), DEEP - 10, 2, roll=-0.2 * s, turn=0.15 * s, soft_mm=3.0)
            canvas.blob((s * 11, -7, 9), (9, 14, 9), DEEP, 2, turn=-0.3 * s, soft_mm=3.0)
            near = ((-50, -70, -40), (50, 60, 50))
            horn = [(s * 9, 34, 12), (s * 9, 18, 22), (s * 13, -8, 26), (s * 20, -30, 20), (s * 27, -46, 12)]
            canvas.paint(tube(horn, (4.5, 6, 5.5, 7, 4)), CSF - 12, 3, near)
            canvas.paint(tube([(s * 22, -32, 14), (s * 32, -20, -4), (s * 34, 0, -14)], (5, 3, 2.2)), CSF - 10, 3, near)
            canvas.blob((s * 14, 22, 16), (5, 11, 8), DEEP - 20, 2, roll=0.3 * s, turn=0.1 * s, soft_mm=2.0)
            canvas.blob((s * 17, -30, 17), (3, 5, 3), 480.0, opacity=0.8)  # choroid plexus, enhanced
        canvas.blob((0, 0, 4), (2.2, 13, 10), CSF, 3)
        canvas.blob((0, 14, -24), (15, 13, 9), CSF, 0)
        canvas.blob((0, 16, -32), (7, 6, 5), 470.0)

    def tumor(self) -> None:
        """A mass with dead core, bright rim and surrounding oedema, in the white matter of the left hemisphere."""
        center = np.array((-34.0, 24.0, 34.0)) + self.rng.uniform(-4, 4, 3)
        region = self.canvas.region(center - 45, center + 45)
        mass = self.canvas.distance(ellipsoid(center, (14, 17, 13)), region)
        mass = mass + 2.6 * self.organic[region] + 0.9 * self.fine[region]
        oedema = np.maximum(mass - 9 - 3 * self.organic[region], self.brain[region] + 5)
        self.canvas.fill(oedema, 265.0, None, region, soft_mm=7.0, opacity=0.85)
        self.canvas.fill(mass, 640 + 40 * self.fine[region], 6, region)
        self.canvas.fill(mass + 3.6 + 1.2 * self.fine[region], 190 + 25 * self.fine[region], None, region)

    def finish(self) -> None:
        """The scanner: blur, coil sensitivity, Rician noise, the vein along the top of the brain."""
        canvas = self.canvas
        arc = np.linspace(1.1, -1.9, 11)
        sinus = np.stack([0 * arc, 2 + 86 * np.sin(arc), 14 + 66 * np.cos(arc)], axis=1)
        canvas.paint(tube(sinus, np.linspace(2.0, 4.0, 11)), 540.0, None, ((-14, -1e4, -30), (14, 1e4, 1e4)))
        blurred = ndimage.gaussian_filter(canvas.values, [0.7 / s for s in canvas.spacing_mm])
        field = 1 + 0.10 * canvas.noise(110.0, self.rng) - 0.0011 * (self.z + 20) + 0.0007 * (self.y - 10)
        real = blurred * np.clip(field, 0.5, 1.5) + 11 * blurred_noise(canvas.shape, (0.4, 0.4, 0.4), self.rng)
        imaginary = 11 * blurred_noise(canvas.shape, (0.4, 0.4, 0.4), self.rng)
        canvas.values = np.round(np.hypot(real, imaginary)).astype(np.float32)
