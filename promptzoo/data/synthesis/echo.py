"""Procedural ultrasound frames of a sector probe: the heart in two views, a fetal head, a kidney."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator

VIEWS = {"apical echo": ("left ventricle", "left atrium"), "short-axis echo": ("left ventricle", "myocardium"),
         "fetal head ultrasound": ("fetal head",), "kidney ultrasound": ("kidney", "renal sinus")}
"""What label ``n + 1`` of a frame is, by view."""


def echo(seed: int, view: str, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A frame: bright walls around dark blood, speckle, shadows, falling gain, a black surround.

    Args:
        seed: all else follows from it.
        view: one of :data:`VIEWS`.
        size: side of the frame in pixels.

    Returns:
        Image ``[H, W]`` float32 in [0, 1] and labels ``[H, W]`` uint8.
    """
    rng = generator(seed, 0xEC40, list(VIEWS).index(view))
    row, column = (np.indices((size, size), dtype=np.float32) + 0.5) / size * 2 - 1
    row = row + 1  # depth from the probe at the top, 0 to 2
    depth, angle = np.hypot(row, column), np.arctan2(column, row)
    turn = rng.normal(0, 0.12)
    y, x = row - 1.0 - rng.uniform(-0.1, 0.1), column - rng.uniform(-0.12, 0.12)
    y, x = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    bend = 0.03 * ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 10) * size / 10
    tissue, labels = DRAWN[view](rng, y, x, bend)
    grain = ndimage.gaussian_filter(rng.standard_normal((2, size, size)), (0, rng.uniform(0.5, 0.8), 1.0))
    speckle = np.hypot(grain[0], grain[1]) / np.hypot(*grain).mean()
    image = tissue * speckle ** rng.uniform(0.6, 1.0) * np.exp(-rng.uniform(0.1, 0.45) * depth)
    for _ in range(int(rng.integers(0, 3))):  # shadows behind ribs and lung
        image = image * (1 - rng.uniform(0.4, 0.9) * np.exp(-((angle - rng.uniform(-0.6, 0.6)) / 0.06) ** 2))
    image = image + 0.02 * np.abs(grain[0]) / grain.std()
    fan = (np.abs(angle) < rng.uniform(0.62, 0.78)) & (depth > 0.08) & (depth < rng.uniform(1.85, 1.98))
    image = np.log1p(rng.uniform(4, 25) * np.clip(image, 0, None))
    image = image / np.percentile(image[fan], 99.5) * fan
    return np.clip(image, 0, 1).astype(np.float32), (labels * fan).astype(np.uint8)


def _apical(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ventricle above, atrium below, the right heart beside; echo strength and labels."""
    long, wide, wall = rng.uniform(0.36, 0.46), rng.uniform(0.17, 0.25), rng.uniform(0.07, 0.11)
    low = 0.12 + rng.uniform(-0.05, 0.08)
    taper = np.clip(1.0 + 0.35 * (y - low) / long, 0.3, 1.1)
    ventricle = np.hypot((y - low + long) / long, x / (wide * taper)) + bend
    ventricle = np.where(y > low, 9.0, ventricle)
    outer = np.hypot((y - low + long) / (long + wall), x / ((wide + wall) * taper)) + bend
    outer = np.where(y > low + 0.02, 9.0, outer)
    deep, broad = rng.uniform(0.16, 0.24), rng.uniform(0.15, 0.22)
    atrium = np.hypot((y - low - deep - 0.03) / deep, (x - 0.02) / broad) + bend
    left = rng.uniform(0.1, 0.18)
    other = np.hypot((y - low + 0.55 * long) / (0.8 * long), (x + wide + wall + left) / left) + bend
    tissue = np.full(y.shape, rng.uniform(0.25, 0.4))
    tissue = np.where(outer < 1, rng.uniform(0.55, 0.8), tissue)
    tissue = np.where((atrium < 1.25) & (y > low), rng.uniform(0.5, 0.7), tissue)
    blood = rng.uniform(0.03, 0.1)
    tissue = np.where((ventricle < 1) | (atrium < 1) | ((other < 1) & (outer >= 1)), blood, tissue)
    valve = (np.abs(y - low - 0.015 + 0.3 * np.abs(x) * rng.uniform(0, 1)) < 0.022) & (np.abs(x) < wide)
    tissue = np.where(valve, 0.8, tissue)
    return ndimage.gaussian_filter(tissue, 0.8), np.where(ventricle < 1, 1, np.where(atrium < 1, 2, 0))


def _short_axis(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, bend: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
    """A ring of muscle with papillary muscles, the right ventricle around one side; echo strength and labels."""
    inner, wall, squash = rng.uniform(0.2, 0.34), rng.uniform(0.1, 0.17), rng.uniform(0.88, 1.12)
    away = np.hypot(y * squash, x / squash)
    cavity, ring = away / inner + bend, away / (inner + wall) + bend
    side = rng.uniform(-0.6, 0.6) + 0.6
    shift = 0.7 * (inner + wall)
    other = np.hypot(y + shift * np.sin(side), x + shift * np.cos(side)) / (inner + wall) / 1.05 + bend
    tissue = np.full(y.shape, rng.uniform(0.2, 0.35))
    blood = rng.uniform(0.03, 0.12)
    tissue = np.where(other < 1, blood, tissue)
    tissue = np.where(ring < 1, rng.uniform(0.5, 0.85), tissue)
    tissue = np.where(cavity < 1, blood, tissue)
    for place in rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.2]):
        muscle = np.hypot(y - 0.65 * inner * np.sin(place), x - 0.65 * inner * np.cos(place)) < 0.17 * inner
        tissue = np.where(muscle, 0.6, tissue)
    return ndimage.gaussian_filter(tissue, 0.8), np.where(cavity < 1, 1, np.where(ring < 1, 2, 0))


def _head(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An oval skull that is bright where the beam meets it, midline and plexus within; echo strength and labels."""
    long, short, turn = rng.uniform(0.42, 0.58), rng.uniform(0.32, 0.42), rng.uniform(0, np.pi)
    a, b = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    away, angle = np.hypot(a / long, b / short), np.arctan2(x, y)
    skull = np.exp(-((away - 1) / 0.05) ** 2) * (0.35 + 0.65 * np.cos(angle) ** 2)
    tissue = np.where(away < 1, rng.uniform(0.1, 0.25), rng.uniform(0.2, 0.5)) + skull + 0.1 * bend
    tissue = tissue + 0.4 * np.exp(-(b / 0.012) ** 2) * (np.abs(a) < 0.8 * long)
    side = float(rng.choice([-1, 1]))
    tissue = tissue + 0.3 * (np.hypot((a - 0.1) / 0.12, (b - side * 0.45 * short) / 0.05) < 1)
    return ndimage.gaussian_filter(tissue, 0.6), np.where(away < 1.03, 1, 0)


def _kidney(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A bean of dark cortex around a bright sinus, beside liver; echo strength and labels."""
    long, short, turn = rng.uniform(0.42, 0.56), rng.uniform(0.2, 0.28), np.pi / 2 + rng.normal(0, 0.3)
    a, b = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    b = b + rng.uniform(0.1, 0.3) * a ** 2 / long
    away = np.hypot(a / long, b / short) + bend
    sinus = np.hypot(a / (0.62 * long), (b - 0.1 * short) / (0.4 * short)) + 1.5 * bend
    liver = rng.uniform(0.3, 0.5)
    tissue = np.where(away < 1, liver * rng.uniform(0.5, 0.8), liver)
    tissue = tissue + 0.35 * np.exp(-((away - 1.03) / 0.03) ** 2)
    tissue = np.where(sinus < 1, rng.uniform(0.65, 0.95), tissue)
    return ndimage.gaussian_filter(tissue, 0.8), np.where(sinus < 1, 2, np.where(away < 1, 1, 0))


DRAWN = {"apical echo": _apical, "short-axis echo": _short_axis, "fetal head ultrasound": _head,
         "kidney ultrasound": _kidney}
"""How each view is drawn: from draws, places along depth and across (-1 to 1) and a bend of borders."""
