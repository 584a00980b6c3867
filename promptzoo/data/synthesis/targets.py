"""Choice of target masks on a label map."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.scenes2d import LabelMap

AREA_2D, AREA_3D, AREA_MOST = 0.0025, 400 / 64 ** 3, 0.65


def choose(scene: LabelMap, rng: np.random.Generator, tries: int = 6) -> np.ndarray | None:
    """A target mask ``[*S]`` bool: a region, with its children, with a neighbour, one component, holes filled."""
    labels, dims = scene.labels, scene.labels.ndim
    counts = np.bincount(labels.ravel(), minlength=scene.count).astype(float)
    least = (AREA_2D if dims == 2 else AREA_3D) * labels.size
    chance = np.where((counts > least) & (counts < AREA_MOST * labels.size),
                      np.clip(counts / labels.size, 0.003, 0.08) ** 0.35, 0.0)
    if not chance.any():
        return None
    for _ in range(tries):
        name = int(rng.choice(scene.count, p=chance / chance.sum()))
        mask = labels == name
        if rng.random() < 0.6:
            for child in _descendants(scene, name):
                mask |= labels == child
        if rng.random() < 0.06:
            rim = ndimage.binary_dilation(mask) & ~mask
            if rim.any():
                mask |= labels == rng.choice(labels[rim])
        if rng.random() < 0.85:
            mask = _component(mask, rng)
        if mask.sum() > least and rng.random() < 0.3:
            filled = ndimage.binary_fill_holes(mask)
            mask = filled if filled.mean() < AREA_MOST else mask
        if least <= mask.sum() <= AREA_MOST * labels.size:
            return mask
    return None


def _descendants(scene: LabelMap, name: int) -> list[int]:
    found, queue = [], [name]
    while queue:
        current = queue.pop()
        children = [c for c, p in scene.parents.items() if p == current]
        found += children
        queue += children
    return found


def _component(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    part = int(sizes.argmax()) if rng.random() < 0.6 else int(rng.choice(count, p=sizes / sizes.sum()))
    return parts == part + 1


def visible(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> bool:
    """Whether the border can be seen: mean contrast of the bands along it against their spread; few others pass."""
    width = 4 if mask.ndim == 2 else 2
    bounds = ndimage.find_objects(mask.astype(np.int8))[0]
    box = tuple(slice(max(0, s.start - width - 1), s.stop + width + 1) for s in bounds)
    image, mask = image[box], mask[box]
    inner = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1)
    outer = ndimage.binary_dilation(mask, iterations=width) & ~mask
    if inner.sum() < 5 or outer.sum() < 5:
        return False
    a, b = image[inner], image[outer]
    contrast = abs(float(a.mean()) - float(b.mean())) / (0.5 * (float(a.std()) + float(b.std())) + 0.03)
    return contrast >= 0.35 or rng.random() < 0.15
