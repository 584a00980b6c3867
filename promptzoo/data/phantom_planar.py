"""Two-dimensional phantoms: an ultrasound frame with a cyst and a nodule, and a field of fluorescent cell nuclei.

Arrays are ``[x, y]``: column from the left, row from the top.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.data.phantom_shapes import blurred_noise, smooth_noise

ULTRASOUND_LABELS = {1: "cyst", 2: "nodule"}
"""Names by label value."""


def _ellipse(x: np.ndarray, y: np.ndarray, center: tuple[float, float], radii: tuple[float, float],
             turn: float = 0.0) -> np.ndarray:
    """Signed distance in pixels, approximate, negative inside."""
    dx, dy = x - center[0], y - center[1]
    u, v = dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)
    k0 = np.hypot(u / radii[0], v / radii[1])
    k1 = np.hypot(u / radii[0] ** 2, v / radii[1] ** 2)
    return k0 * (k0 - 1) / np.maximum(k1, 1e-6)


def ultrasound(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear-probe frame of soft tissue: layers, speckle, a black cyst that brightens what lies behind it, and a
    darker nodule with a shadow.

    Args:
        shape: columns, rows.
        seed: anatomy and speckle follow from it.

    Returns:
        Grey values 0 to 255 ``[x, y]`` float32, labels ``[x, y]`` uint8.
    """
    rng = generator(seed, 0x05)
    w, h = shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32), indexing="ij")
    wave = smooth_noise(shape, (w / 4, h / 5), rng) * 0.012 * h
    depth = (y + wave) / h
    echo = np.interp(depth, [0, 0.03, 0.05, 0.16, 0.17, 0.20, 0.30, 0.315, 0.7, 1],
                     [1.9, 1.8, 0.55, 0.50, 1.5, 0.55, 0.6, 1.7, 1.0, 0.8]).astype(np.float32)
    fibres = np.sin(y * 0.55 + 5 * smooth_noise(shape, (w / 3, h / 14), rng))
    echo *= 1 + 0.30 * fibres * ((depth > 0.19) & (depth < 0.31)) + 0.22 * smooth_noise(shape, (14, 9), rng)
    ragged = smooth_noise(shape, (18, 18), rng)
    cyst = _ellipse(x, y, (w * rng.uniform(0.33, 0.40), h * rng.uniform(0.50, 0.55)), (0.15 * w, 0.13 * h), 0.15)
    cyst = cyst + 1.3 * ragged
    nodule = _ellipse(x, y, (w * rng.uniform(0.70, 0.76), h * rng.uniform(0.56, 0.64)), (0.10 * w, 0.085 * h), -0.3)
    nodule = nodule + 3.2 * ragged
    behind = ndimage.gaussian_filter1d(np.cumsum(cyst < 0, axis=1).astype(np.float32) * (cyst > 0), 3, axis=0)
    shade = ndimage.gaussian_filter1d(np.cumsum(nodule < 0, axis=1).astype(np.float32), 3, axis=0)
    echo = echo * np.exp(0.011 * behind - 0.006 * shade)
    echo = echo + (0.30 - echo) * np.clip(0.5 - nodule / 5, 0, 1) * 0.9
    echo = np.where(np.abs(cyst) < 2.2, 1.7 * (0.4 + 0.6 * np.abs(np.cos(0.02 * (x - w * 0.37)))), echo)
    echo = echo + (0.02 - echo) * np.clip(0.5 - (cyst + 1.5) / 3, 0, 1)
    grain = [blurred_noise(shape, (1.9, 0.9), rng) for _ in range(2)]
    speckle = np.hypot(grain[0], grain[1]) / 1.25
    signal = np.clip(echo, 0.01, None) * speckle * np.exp(-0.5 * depth) + 0.015 * np.abs(grain[1])
    image = np.clip(255 * (0.54 + 0.40 * np.log10(np.maximum(signal, 1e-3))), 0, 255)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[nodule < 0], labels[cyst < 0] = 2, 1
    return image.astype(np.float32), labels


def nuclei(shape: tuple[int, int], seed: int, count: int = 46) -> tuple[np.ndarray, np.ndarray]:
    """Stained nuclei of different size and brightness on a dim, uneven ground; they may touch, hardly overlap.

    Args:
        shape: columns, rows.
        seed: everything follows from it.
        count: how many nuclei to place at most.

    Returns:
        Grey values 0 to 255 ``[x, y]`` float32, labels ``[x, y]`` uint8 with one value per nucleus from 1.
    """
    rng = generator(seed, 0xCE11)
    w, h = shape
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32), indexing="ij")
    chromatin, outline = smooth_noise(shape, (3.2, 3.2), rng), smooth_noise(shape, (9, 9), rng)
    image = 10 + 4 * smooth_noise(shape, (w / 3, h / 3), rng)
    labels = np.zeros(shape, dtype=np.uint8)
    placed: list[tuple[float, float, float]] = []
    for _ in range(count * 12):
        if len(placed) >= min(count, 255):
            break
        radius = float(np.clip(rng.normal(13.5, 2.6), 7, 20))
        center = float(rng.uniform(0, w)), float(rng.uniform(0, h))
        if any(np.hypot(center[0] - px, center[1] - py) < 0.88 * (radius + pr) for px, py, pr in placed):
            continue
        placed.append((*center, radius))
        stretch = rng.uniform(1.0, 1.45)
        distance = _ellipse(x, y, center, (radius * stretch ** 0.5, radius / stretch ** 0.5), rng.uniform(0, np.pi))
        distance = distance + 0.9 * outline
        bright = rng.uniform(70, 190)
        body = bright * (0.86 + 0.13 * chromatin) * (1 - 0.25 * np.exp(np.minimum(distance, 0) / 4))
        cover = np.clip(0.5 - distance / 2.0, 0, 1)
        image = image + cover * (body - image * (labels == 0))
        labels[(distance < 0) & (labels == 0)] = len(placed)
    image = ndimage.gaussian_filter(image, 0.9) + 0.10 * ndimage.gaussian_filter(image, 9)
    image = rng.poisson(np.clip(image, 0, None) * 1.6) / 1.6 + rng.normal(0, 1.5, shape)
    return np.clip(image, 0, 255).astype(np.float32), labels
