"""Procedural abdominal slices: livers with lesions in several segments, and loops that only their slice tells apart."""
from __future__ import annotations

import numpy as np

from promptzoo.data.synthesis.clinical import PLACES, STUDIES, Canvas, ClinicalScene, organ_at, soft

UPPER, LOWER = (2, 4, 8, 7), (3, 4, 5, 6)
"""Couinaud's segments from the patient's left to the right, above and below the portal vein."""
SEEN = 0.6
"""Probability with which each hint at a slice's position is drawn."""


def _trunk(c: Canvas, fat: float) -> np.ndarray:
    """An image of a trunk with fat under the skin, wall, spine."""
    body = c.ellipse((0, 0), (0.95, 0.72))
    image = fat * soft(body, 0.02) + (0.42 - fat) * soft(body / c.rng.uniform(0.84, 0.92), 0.03)
    spine = c.ellipse((0, -0.42), (0.13, 0.13))
    image += 0.25 * soft(spine, 0.08) - 0.15 * soft(c.ellipse((0, -0.55), (0.05, 0.04)), 0.2)
    for side in (-1, 1):
        image += 0.06 * soft(c.ellipse((side * 0.25, -0.5), (0.16, 0.11)), 0.1)
    return image + 0.02 * c.noise(0.1)


def liver(rng: np.random.Generator, size: int) -> ClinicalScene:
    """An axial CT slice of a liver, above or below the portal vein, with up to four lesions in different segments.

    Segments are sectors between the hepatic veins around the inferior vena cava, after Couinaud; segment 1 lies around
    the vein. Above the portal vein the veins are drawn and the stomach is; below it the right kidney and the
    gallbladder are, by which the level is seen.
    """
    c = Canvas(rng, size)
    upper = rng.random() < 0.5
    image = _trunk(c, 0.15)
    right = c.ellipse((0.42, 0.0), (0.44, 0.55), 0.1)
    left = c.ellipse((-0.05, 0.28), (rng.uniform(0.4, 0.55), 0.24), 0.15)
    shape = c.ragged(np.minimum(right, left), 0.05, 0.3)
    inside = (shape < 1) & (c.ellipse((0, 0), (0.95, 0.72)) < 0.86)
    inside &= c.ellipse((0, -0.42), (0.17, 0.17)) > 1
    level = rng.uniform(0.1, 0.22)
    image += level * inside * (1 + 0.1 * c.noise(0.08))
    cava = np.array([rng.uniform(0.1, 0.16), rng.uniform(-0.2, -0.12)])
    angle = np.arctan2(c.y - cava[1], c.x - cava[0])  # 0 to the patient's right, pi/2 to the front
    borders = np.array([2.35, 1.6, 0.75]) + rng.normal(0, 0.1, 3)
    turned = np.where(angle < -2.2, angle + 2 * np.pi, angle)
    sector = (turned < borders[0]).astype(int) + (turned < borders[1]) + (turned < borders[2])
    segments = np.array(UPPER if upper else LOWER)[sector] * inside
    caudate = c.ellipse(tuple(cava + (-0.06, 0.1)), (0.15, 0.13)) < 1
    segments[caudate & inside] = 1
    vein = rng.choice((-1, 1)) * rng.uniform(0.05, 0.14)
    image += 1.2 * abs(vein) * soft(c.ellipse(tuple(cava), (0.08, 0.07)), 0.12)
    away = np.hypot(c.x - cava[0], c.y - cava[1])
    for border in borders:
        across = np.abs(np.sin(turned - border)) * away / (0.028 if upper else 0.016)
        image += vein * soft(across, 0.3) * inside * ((away < 0.5) & (np.cos(turned - border) > 0))
    spleen = c.ellipse((-0.68, -0.12), (0.17, 0.3), -0.2)
    image += 0.15 * soft(spleen, 0.08)
    if upper:
        image -= 0.3 * soft(c.ellipse((-0.45, 0.15), (0.18, 0.2)), 0.1) * ~inside
    else:
        image += 0.22 * soft(c.ellipse((0.42, -0.42), (0.14, 0.12)), 0.1) * ~inside
        image -= 0.2 * soft(c.ellipse((0.2, 0.32), (0.07, 0.1)), 0.15)
        segments[c.ellipse((0.2, 0.32), (0.07, 0.1)) < 1] = 0
    lesions, sizes = np.zeros((size, size), bool), {}
    sign = rng.choice((-1, 1), p=(0.75, 0.25))
    there = [n for n in np.unique(segments) if n and (segments == n).sum() > 0.008 * size * size]
    for n in rng.permutation(there)[:int(rng.integers(1, 5))]:
        room = np.argwhere((segments == n) & inside)
        at = room[int(rng.integers(len(room)))]
        radius = rng.uniform(0.06, 0.14)
        lesion = c.ragged(c.ellipse((c.x[tuple(at)], c.y[tuple(at)]), (radius, radius * rng.uniform(0.7, 1.3)),
                                    rng.uniform(0, 3)), 0.08, radius)
        mask = (lesion < 1) & (segments == n)
        if mask.sum() > 0.001 * size * size:
            image += sign * rng.uniform(0.1, 0.2) * mask
            lesions |= mask
            sizes[str(n)] = int(mask.sum())
    if not sizes:
        return liver(rng, size)
    layers = {"segments": segments, "lesions": lesions}
    return ClinicalScene(c.finished(image), STUDIES[1], {"segment": max(sizes, key=lambda n: sizes[n])}, layers)


def abdomen(rng: np.random.Generator, size: int) -> ClinicalScene:
    """An axial MR slice with loops that look alike: stomach above, small and large bowel below.

    Liver, kidneys and hip bones hint at the position; each of them may not be drawn.
    """
    c = Canvas(rng, size)
    position = float(np.round(rng.random(), 3))
    image = _trunk(c, rng.uniform(0.55, 0.8))
    body = c.ellipse((0, 0), (0.95, 0.72))
    image *= soft(body, 0.02)
    texture = 1 + 0.3 * c.noise(0.08)
    taken = np.zeros((size, size), bool)
    if rng.random() < SEEN:
        grown = np.clip(1.2 - 1.8 * position, 0, 1)
        if grown > 0.15:
            image += 0.16 * soft(c.ellipse((0.52, -0.02), (0.38 * grown, 0.5 * grown)), 0.06)
    if rng.random() < SEEN:
        for side in (-1, 1):
            grown = np.clip(1 - abs(position - 0.45) / 0.28, 0, 1)
            if grown > 0.1:
                image += 0.2 * soft(c.ellipse((side * 0.38, -0.34), (0.12 * grown, 0.14 * grown)), 0.1)
    if rng.random() < SEEN and position > 0.62:
        grown = np.clip((position - 0.55) / 0.3, 0.2, 1)
        for side in (-1, 1):
            bone = c.ellipse((side * 0.62, -0.18), (0.06, 0.32 * grown), side * 0.5)
            image -= 0.22 * soft(bone, 0.15)
    centres = {"left flank": (-0.6, 0.08), "right flank": (0.6, 0.05), "front": (0.0, 0.42), "centre": (0.0, 0.08)}
    wall, inner = rng.uniform(0.12, 0.25), rng.choice((-1, 1)) * rng.uniform(0.12, 0.25)
    layers = {place: np.zeros((size, size), bool) for place in PLACES}
    for place in PLACES:
        if rng.random() < 0.12:
            continue
        several = 3 if place in ("centre", "front") else 1
        for _ in range(int(rng.integers(1, several + 1))):
            spread = (0.24, 0.12) if several > 1 else (0.05, 0.12)
            x, y = (m + rng.uniform(-1, 1) * s for m, s in zip(centres[place], spread))
            radius = rng.uniform(0.11, 0.2)
            radii = radius, radius * rng.uniform(0.75, 1.4)
            loop = c.ragged(c.ellipse((x, y), radii, rng.uniform(0, 3)), 0.06, radius)
            mask = (loop < 1) & ~taken & (body < 0.88)
            if mask.sum() < 0.004 * size * size:
                continue
            image = np.where(mask, 0.42 + wall, image)
            image = np.where(mask & (loop < 0.78), 0.42 + inner * texture, image)
            layers[place] |= mask
            taken |= mask
    told = {"position": f"{position:.3f}"}
    if not any(mask.any() and organ_at(place, position) for place, mask in layers.items()):
        return abdomen(rng, size)
    return ClinicalScene(c.finished(image), STUDIES[2], told, layers)
