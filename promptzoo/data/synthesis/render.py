"""Intensities of a label map, in 2D and 3D: contrast, texture, partial volume, bias, noise, display window."""
from __future__ import annotations

from typing import Callable

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.scenes2d import LabelMap

Field = Callable[[np.random.Generator], np.ndarray]


def render(scene: LabelMap, texture: Field, smooth: Field, rng: np.random.Generator,
           difficulty: float = 1.0) -> np.ndarray:
    """Draw an image of a label map.

    Args:
        scene: the label map ``[*S]``.
        texture, smooth: random fields of the same shape.
        rng: generator of all draws.
        difficulty: 0 draws flat, well separated regions, 1 the full variety; training begins with easy images, because
            a network that sees hard ones first learns the prompts' shapes and ignores the image.

    Returns:
        ``[*S]`` float32 in [-1, 1].
    """
    image = _regions(scene, texture, smooth, rng, difficulty)
    if rng.random() < difficulty:
        image = _structures(image, scene, rng)
    image = _acquisition(image, smooth, rng, difficulty)
    return display(image, rng)


def _regions(scene: LabelMap, texture: Field, smooth: Field, rng: np.random.Generator,
             difficulty: float) -> np.ndarray:
    count, labels = scene.count, scene.labels
    mean = rng.random(count)
    easy = rng.random() >= difficulty
    if easy:
        mean = rng.permutation(count) / max(1, count - 1)
    elif rng.random() < 0.6:  # few grey values, so that neighbours look alike
        palette = rng.random(int(rng.integers(2, 7)))
        mean = palette[rng.integers(0, len(palette), count)] + rng.normal(0, rng.uniform(0.01, 0.09), count)
    if not easy and rng.random() < 0.5:
        mean = 0.5 + (mean - 0.5) * rng.uniform(0.25, 1)
    for child, parent in scene.parents.items():
        if not easy and rng.random() < 0.6:
            mean[child] = mean[parent] + rng.normal(0, 0.18)
    amplitude = float(rng.choice([0, 0.02, 0.05, 0.1, 0.2])) * np.exp(rng.normal(0, 0.7, count)) * (
        rng.random(count) < 0.8) * difficulty
    which = rng.integers(0, 3, count)
    for name, group in scene.alike.items():
        mean[name], amplitude[name], which[name] = mean[group] + rng.normal(0, 0.03), amplitude[group], which[group]
    if scene.air is not None and rng.random() < 0.85:
        mean[scene.air] = float(rng.choice([0, 0, 0, 1]))
        amplitude[scene.air] *= float(rng.choice([0, 0.1]))
    image, strength = mean.astype(np.float32)[labels], amplitude.astype(np.float32)[labels]
    if amplitude.any():
        kinds = which[labels]
        for kind in range(3):
            chosen = texture(rng)
            image = image + np.where(kinds == kind, strength * chosen, 0)
    if rng.random() < 0.35 * difficulty:  # shading inside each region
        for axis in range(labels.ndim):
            ramp = np.linspace(-0.5, 0.5, labels.shape[axis], dtype=np.float32)
            slope = rng.normal(0, 0.15, count).astype(np.float32)[labels]
            image = image + slope * ramp.reshape([-1 if a == axis else 1 for a in range(labels.ndim)])
    return image.astype(np.float32)


def _structures(image: np.ndarray, scene: LabelMap, rng: np.random.Generator) -> np.ndarray:
    """Things that are in the picture but in no label: rims, ribs, hairs, streaks, vessels."""
    if rng.random() < 0.3:
        width = 3 if rng.random() < 0.7 else 5
        edge = ndimage.maximum_filter(scene.labels, width) != ndimage.minimum_filter(scene.labels, width)
        chosen = (rng.random(scene.count) < rng.choice([0.3, 1.0]))[scene.labels] & edge
        weight = rng.uniform(0.3, 1)
        image = np.where(chosen, image * (1 - weight) + weight * rng.uniform(-0.2, 1.2), image)
    if rng.random() < 0.25:
        grids = np.indices(image.shape, sparse=True)
        extra = np.zeros_like(image)
        for _ in range(int(rng.integers(1, 8))):
            normal = rng.standard_normal(image.ndim)
            normal /= np.linalg.norm(normal)
            where = sum(n * (g - rng.uniform(0, s)) for n, g, s in zip(normal, grids, image.shape))
            if rng.random() < 0.5:  # curved, like ribs
                where = where + 0.5 * rng.uniform(-1, 1) / max(image.shape) * (grids[-1] - image.shape[-1] / 2) ** 2
            extra += np.exp(-(where / rng.uniform(0.6, 0.03 * max(image.shape))) ** 2) * rng.uniform(0.3, 1)
        image = image + extra * rng.choice([-1, 1]) * rng.uniform(0.05, 0.5)
    return image.astype(np.float32)


def _acquisition(image: np.ndarray, smooth: Field, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    shape = image.shape
    if rng.random() < 0.2 * difficulty:  # speckle
        looks = 1 / rng.uniform(0.1, 1.0)
        image = np.abs(image) * (rng.gamma(looks, 1 / looks, shape)).astype(np.float32)
    if rng.random() < 0.85:  # partial volume
        sigma = rng.uniform(0.3, 1.0) if rng.random() < 0.7 else rng.uniform(1, 2.6 if image.ndim == 2 else 1.8)
        sigmas = [sigma * (1 if rng.random() < 0.7 else rng.uniform(0.5, 1.6)) for _ in shape]
        image = ndimage.gaussian_filter(image, sigmas, truncate=3, mode="nearest")
    if rng.random() < 0.45:
        image = image * np.exp(rng.uniform(0.05, 0.6) * difficulty * smooth(rng))
    if rng.random() < 0.2 * difficulty:
        image = image + rng.uniform(0.03, 0.25) * smooth(rng)
    kind, level = rng.random(), abs(rng.normal(0, 0.05)) if rng.random() < 0.8 else rng.uniform(0.05, 0.25)
    level *= difficulty
    if kind < 0.35:
        image = image + level * rng.standard_normal(shape, np.float32)
    elif kind < 0.5:  # Rician
        image = np.hypot(image + level * rng.standard_normal(shape, np.float32),
                         level * rng.standard_normal(shape, np.float32))
    elif kind < 0.65:  # correlated
        noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), rng.uniform(0.5, 1.5), truncate=3)
        image = image + level * 2.5 * noise
    elif kind < 0.75:
        photons = 10 ** rng.uniform(1, 3) / max(difficulty, 0.05)
        image = rng.poisson(np.clip(image, 0, 4) * photons) / photons
    if rng.random() < 0.18 * difficulty:
        image = _coarse(image, rng)
    if image.ndim == 2 and rng.random() < 0.06:  # acoustic shadow
        x = np.arange(shape[1])[None] - rng.uniform(0, shape[1]) - np.arange(shape[0])[:, None] * rng.uniform(-0.3, 0.3)
        image = image * (1 - rng.uniform(0.3, 1) * np.exp(-(x / rng.uniform(0.04, 0.3) / shape[1]) ** 4))
    return np.asarray(image, np.float32)


def _coarse(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sampled more coarsely than the window, along all axes or one (thick slices), and brought back."""
    axes = range(image.ndim) if image.ndim == 2 or rng.random() < 0.3 else [int(rng.integers(image.ndim))]
    factor = rng.uniform(1.3, 3.3) if image.ndim == 2 else rng.uniform(1.5, 6)
    linear = rng.random() < 0.7
    for axis in axes:
        size = image.shape[axis]
        few = max(4, int(round(size / factor)))
        edges = np.arange(few + 1) * size / few
        voxel = np.arange(size)
        share = np.clip(np.minimum(voxel + 1, edges[1:, None]) - np.maximum(voxel, edges[:-1, None]), 0, 1)
        share /= share.sum(1, keepdims=True)
        at = np.clip((voxel + 0.5) * few / size - 0.5, 0, few - 1)
        if linear:
            back = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(few)))
        else:
            back = (np.rint(at)[:, None] == np.arange(few)).astype(float)
        image = np.moveaxis(np.tensordot((back @ share).astype(np.float32), image, (1, axis)), 0, axis)
    return image


def display(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Window, gamma and inversion; the result is in [-1, 1]."""
    few = image[tuple(slice(None, None, 2) for _ in image.shape)]
    low, high = np.percentile(few, (0.5, 99.5))
    if rng.random() < 0.35:
        tight = np.quantile(few, [rng.uniform(0, 0.25), rng.uniform(0.75, 1)])
        if tight[1] - tight[0] > 0.05:
            low, high = tight
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    if rng.random() < 0.5:
        image = image ** np.exp(rng.normal(0, 0.35))
    if rng.random() < 0.3:
        image = 1 - image
    return (image * 2 - 1).astype(np.float32)
