"""Procedural cine magnetic resonance of the heart: a short-axis slice over one cycle."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator

STRUCTURES = ("left ventricle", "myocardium", "right ventricle")
"""Label ``n + 1`` of a frame; papillary muscles belong to the ventricle's cavity, as most protocols draw them."""

FRAMES, SIZE = 12, 96


def cine(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A heart cycle.

    Blood is bright and the muscle dark; the wall thickens as the cavity shrinks. Noise, and the dark jets of fast
    flow, differ from frame to frame, so that neighbouring frames tell more than one alone.

    Args:
        seed: all else follows from it.

    Returns:
        Intensities ``[i, j, t]`` float32 and labels ``[i, j, t]`` uint8, see :data:`STRUCTURES`.
    """
    rng = generator(seed, 0xC14E)
    rows, columns = np.indices((SIZE, SIZE), dtype=np.float32)
    centre = SIZE / 2 + rng.uniform(-10, 10, 2)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.88, 1.0)
    rest = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), rng.uniform(4, 9))
    rest = 0.42 + 0.16 * rest / rest.std()
    lung = np.hypot(rows - centre[0] - 46, columns - centre[1] + rng.uniform(-15, 15)) < rng.uniform(24, 32)
    rest[lung] = 0.08
    relaxed, wall = rng.uniform(11, 17), rng.uniform(4, 7)
    squeeze, peak = rng.uniform(0.2, 0.45), rng.uniform(0.3, 0.5)
    waves = [(wave, rng.normal(0, 0.03), rng.uniform(0, 2 * np.pi)) for wave in (2, 3, 4)]
    side = rng.uniform(-0.5, 0.5) + np.pi
    muscles = side + np.array([2.0, 3.9]) + rng.normal(0, 0.2, 2)
    blood, muscle, noise = rng.uniform(0.7, 0.9), rng.uniform(0.15, 0.35), rng.uniform(0.08, 0.35)
    shade = 1 + 0.25 * (rows - SIZE / 2) / SIZE * rng.uniform(-1, 1) + 0.25 * (columns - SIZE / 2) / SIZE
    frames, labels = [], []
    for frame in range(FRAMES):
        phase = frame / FRAMES
        much = np.sin(np.pi * phase / (2 * peak) if phase < peak else np.pi / 2 * (1 + (phase - peak) / (1 - peak)))
        inner = relaxed * (1 - squeeze * much ** 2)
        outer = np.sqrt(inner ** 2 + (relaxed + wall) ** 2 - relaxed ** 2) * (1 - 0.04 * much)
        at = centre + 1.5 * much * np.array([np.cos(turn), np.sin(turn)])
        y, x = rows - at[0], columns - at[1]
        along, across = y * np.cos(turn) + x * np.sin(turn), (x * np.cos(turn) - y * np.sin(turn)) / stretch
        distance, angle = np.hypot(along, across), np.arctan2(x, y)
        distance = distance / (1 + sum(a * np.cos(wave * angle + b) for wave, a, b in waves))
        cavity, whole = distance < inner, distance < outer
        reach = outer * rng.uniform(0.98, 1.0)
        other = np.hypot(y - 0.75 * reach * np.cos(side), x - 0.75 * reach * np.sin(side)) < reach * (1.15 - 0.2 * much)
        other &= ~whole
        papillary = np.zeros_like(cavity)
        for place in muscles:
            papillary |= np.hypot(y - 0.62 * inner * np.cos(place), x - 0.62 * inner * np.sin(place)) < 0.16 * relaxed
        label = np.where(cavity, 1, np.where(whole, 2, np.where(other, 3, 0))).astype(np.uint8)
        image = np.where(label == 0, rest, np.where(label == 2, muscle, blood))
        image = np.where(papillary & cavity, muscle, image)
        if rng.random() < 0.35:  # a jet of fast flow loses its signal
            jet = at + rng.uniform(-0.6, 0.6, 2) * inner
            image = image - 0.4 * np.exp(-((rows - jet[0]) ** 2 + (columns - jet[1]) ** 2) / (0.3 * relaxed) ** 2)
        image = ndimage.gaussian_filter(image * shade, 0.8)
        image = np.hypot(image + noise * rng.standard_normal(image.shape), noise * rng.standard_normal(image.shape))
        frames.append(image.astype(np.float32))
        labels.append(label)
    return np.stack(frames, -1), np.stack(labels, -1)
