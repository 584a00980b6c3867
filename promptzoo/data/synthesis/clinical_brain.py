"""Procedural MR slices of brain tumours of which the grade is only partly visible."""
from __future__ import annotations

import numpy as np

from promptzoo.data.synthesis.clinical import GRADES, STUDIES, Canvas, ClinicalScene, soft


def brain(rng: np.random.Generator, size: int) -> ClinicalScene:
    """An axial slice with one tumour: a halo, in it a solid part with a rim.

    How aggressive it looks (bright rim, dark middle, wide halo) is drawn first; the grade follows it in 83 % of the
    cases at best, so that who knows the grade knows more than the image says.
    """
    c = Canvas(rng, size)
    head = c.ellipse((0, 0), (0.78, 0.9))
    image = 0.75 * soft(head, 0.02) - 0.6 * soft(head / 0.94, 0.02) + 0.4 * soft(head / 0.88, 0.03)
    fold = c.noise(0.12)
    cortex = soft(head / 0.88, 0.03) * (1 - soft(head / 0.72, 0.08))
    image += 0.12 * cortex * np.tanh(2 * fold) + 0.02 * c.noise(0.06)
    for side in (-1, 1):
        ventricle = c.ellipse((side * rng.uniform(0.08, 0.13), rng.uniform(-0.05, 0.1)),
                              (rng.uniform(0.05, 0.09), rng.uniform(0.22, 0.32)), side * 0.2)
        image -= rng.uniform(0.15, 0.28) * soft(ventricle, 0.15)
    looks = rng.random()
    grade = GRADES[int(rng.random() < np.clip(0.5 + 1.6 * (looks - 0.5), 0.03, 0.97))]
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.48)
    centre = (away * 0.8 * np.cos(angle), away * np.sin(angle))
    radius = float(np.exp(rng.uniform(np.log(0.16), np.log(0.3))))
    wide = 1.35 + 0.55 * looks + rng.uniform(-0.15, 0.15)
    turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.3))
    solid = c.ragged(c.ellipse(centre, (radius * stretch, radius / stretch), turn), 0.08, radius)
    halo = c.ragged(c.ellipse(centre, (radius * wide * stretch, radius * wide / stretch), turn), 0.1, radius)
    halo = np.minimum(halo, solid / 1.1)
    thick = rng.uniform(0.25, 0.4)
    inner = solid / (1 - thick)
    brain_inside = soft(head / 0.88, 0.02)
    image += brain_inside * rng.uniform(0.14, 0.24) * soft(halo, 0.12) * (1 + 0.15 * c.noise(0.1))
    image += brain_inside * rng.uniform(0.04, 0.1) * soft(solid, 0.06)
    bright = 0.05 + 0.22 * looks + rng.uniform(-0.04, 0.04)
    image += brain_inside * bright * soft(solid, 0.05) * (1 - soft(inner, 0.1))
    image += brain_inside * (0.08 - 0.28 * looks + rng.uniform(-0.06, 0.06)) * soft(inner, 0.1)
    inside = head < 0.86
    layers = {"halo": (halo < 1) & inside, "solid": (solid < 1) & inside,
              "rim": (solid < 1) & (inner >= 1) & inside}
    return ClinicalScene(c.finished(image), STUDIES[0], {"grade": grade}, layers)
