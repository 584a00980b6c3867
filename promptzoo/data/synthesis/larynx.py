"""Procedural laryngoscopic frames in grey: a glottis between two vocal folds."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator

LABELS = ("glottis", "vocal fold", "other vocal fold")
"""Label ``n + 1`` of a frame."""


def larynx(seed: int, size: int = 192, open_glottis: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A frame as a rigid endoscope sees it: pale folds on darker mucosa in a round field of view.

    Args:
        seed: all else follows from it.
        size: side of the frame in pixels.
        open_glottis: False closes the folds, which leaves a faint line between them.

    Returns:
        Image ``[H, W]`` float32 in [0, 1] and labels ``[H, W]`` uint8, see :data:`LABELS`.
    """
    rng = generator(seed, 0x1A27)
    rows, columns = np.indices((size, size), dtype=np.float32)
    at = size / 2 + rng.uniform(-0.08, 0.08, 2) * size
    turn = rng.normal(0, 0.3)
    along = (rows - at[0]) * np.cos(turn) + (columns - at[1]) * np.sin(turn)
    across = (columns - at[1]) * np.cos(turn) - (rows - at[0]) * np.sin(turn)
    half, gape = rng.uniform(0.2, 0.28) * size, rng.uniform(0.045, 0.1) * size
    place = np.clip(along / half, -1, 1)
    back = rng.uniform(0.2, 0.8)  # a triangle open at one end, or a lens
    width = gape * np.sqrt(np.clip(1 - place ** 2, 0, 1)) * (1 - back + back * (1 + place) / 1.6)
    width = width if open_glottis else np.zeros_like(width)
    inside, thick = np.abs(along) < half, rng.uniform(0.07, 0.12, 2) * size
    glottis = inside & (np.abs(across) < width)
    labels = glottis.astype(np.uint8)
    ripple = 1 + 0.1 * np.cos(along / half * rng.uniform(2, 4) + rng.uniform(0, 6))
    for n, sign in enumerate((-1, 1)):
        outer = width + thick[n] * ripple * np.clip(1.25 * (1 - place ** 4), 0, 1)
        labels[inside & ~glottis & (sign * across >= 0) & (np.abs(across) < outer)] = 2 + n
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 24)
    mucosa, pale = rng.uniform(0.38, 0.5), rng.uniform(0.7, 0.85)
    image = mucosa + 0.05 * texture / texture.std()
    ridge = np.abs(np.abs(across) - (thick.mean() + gape) * rng.uniform(1.7, 2.1))
    image = image + 0.08 * np.exp(-(ridge / (0.03 * size)) ** 2)
    image = np.where(labels >= 2, pale + 0.02 * texture / texture.std(), image)
    image = np.where(labels == 1, rng.uniform(0.05, 0.14), image)
    if not open_glottis:
        image = image - 0.12 * np.exp(-(across / 1.5) ** 2) * inside
    radius = np.hypot(rows - size / 2, columns - size / 2) / (size / 2)
    image = image * (1 - 0.3 * radius ** 2)
    image = np.where(radius < rng.uniform(0.9, 1.0), image, 0.02)
    image = ndimage.gaussian_filter(image, rng.uniform(0.8, 1.6))
    for _ in range(int(rng.integers(0, 5))):  # reflections of the light
        spot = at + rng.normal(0, 0.15, 2) * size
        image = image + 0.5 * np.exp(-((rows - spot[0]) ** 2 + (columns - spot[1]) ** 2) / rng.uniform(2, 8))
    image = image + rng.uniform(0.01, 0.04) * rng.standard_normal(image.shape)
    return np.clip(image, 0, 1).astype(np.float32), labels
