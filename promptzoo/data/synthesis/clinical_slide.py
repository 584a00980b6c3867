"""Procedural slides of the kidney: nested structures of which a request says which is meant."""
from __future__ import annotations

import numpy as np

from promptzoo.data.synthesis.clinical import STUDIES, Canvas, ClinicalScene, soft


def slide(rng: np.random.Generator, size: int) -> ClinicalScene:
    """One to three glomeruli, each a capsule with a tuft and nuclei in it, among tubules."""
    c = Canvas(rng, size)
    image = rng.uniform(0.55, 0.75) + 0.05 * c.noise(0.1)
    stain = rng.uniform(0.12, 0.24)
    units = np.zeros((size, size), int)
    tuft, nuclei, tubules = (np.zeros((size, size), bool) for _ in range(3))
    centres: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(1, 4))):
        for _ in range(20):
            x, y = rng.uniform(-0.62, 0.62, 2)
            radius = rng.uniform(0.26, 0.38)
            if all(np.hypot(x - a, y - b) > radius + r + 0.06 for a, b, r in centres):
                break
        else:
            continue
        outer = c.ragged(c.ellipse((x, y), (radius, radius * rng.uniform(0.85, 1.15))), 0.03, radius)
        inner = c.ragged(outer / rng.uniform(0.76, 0.88), 0.08, radius / 2)
        units[outer < 1] = len(centres) + 1
        centres.append((x, y, radius))
        image = np.where(outer < 1, 0.95, image) - stain * soft(np.abs(outer - 1) / 0.05, 0.3)
        image = image - (0.2 + stain * 0.5 + 0.05 * c.noise(0.05)) * soft(inner, 0.06)
        tuft |= (inner < 1) & (outer < 1)
        for _ in range(int(rng.integers(5, 10))):
            angle, away = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform(0, 0.42))
            dot = c.ellipse((x + away * np.cos(angle), y + away * np.sin(angle)), (0.055, 0.045), angle)
            nuclei |= (dot < 1) & tuft
    image = image - 1.3 * stain * nuclei
    part = len(centres) + 1
    for _ in range(60):
        x, y = rng.uniform(-1, 1, 2)
        radius = rng.uniform(0.1, 0.17)
        if any(np.hypot(x - a, y - b) < radius + r + 0.03 for a, b, r in centres):
            continue
        ring = c.ellipse((x, y), (radius, radius * rng.uniform(0.8, 1.25)), rng.uniform(0, 3))
        mask = (ring < 1) & (units == 0)
        image = np.where(mask, image - stain * 0.8, image)
        image = np.where(mask & (ring < 0.45), 0.92, image)
        for _ in range(2):
            angle = rng.uniform(0, 2 * np.pi)
            dot = c.ellipse((x + 0.72 * radius * np.cos(angle), y + 0.72 * radius * np.sin(angle)), (0.035, 0.03))
            image = np.where((dot < 1) & mask, image - stain, image)
        centres.append((x, y, radius))
        units[mask] = part
        part += 1
        tubules |= mask
        if part > 22:
            break
    glomeruli = (units > 0) & ~tubules
    layers = {"glomerulus": glomeruli, "glomerular tuft": tuft, "nuclei": nuclei, "tubules": tubules}
    return ClinicalScene(c.finished(image), STUDIES[3], {}, layers, units)
