"""Single strokes in 2D: pieces of outlines and skeletons, lines across a region.

Coordinates are ``[n, 2]`` (row, column) pixels.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from promptzoo.prompts.simulators.clicks import depth


def along_level(distance: np.ndarray, level: float, length: float, rng: np.random.Generator) -> np.ndarray:
    """A piece of about ``length`` pixels of the iso-line ``distance = level``; empty if there is none."""
    lines = find_contours(np.pad(distance, 1), level)
    if not lines:
        return np.zeros((0, 2))
    sizes = np.array([len(line) for line in lines], float)
    line = lines[int(rng.choice(len(lines), p=sizes / sizes.sum()))] - 1
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    count = int(np.clip(length / max(float(steps.mean()) if len(steps) else 1.0, 1e-3), 1, len(line)))
    first = int(rng.integers(len(line)))
    closed = np.allclose(line[0], line[-1])
    last = min(len(line), first + count)
    index = (first + np.arange(count)) % len(line) if closed else np.arange(first, last)
    return line[index]


def along_skeleton(mask: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """The part of the skeleton of ``mask`` within ``length / 2`` of a random pixel of it, in the same branch system."""
    skeleton = skeletonize(mask)
    points = np.argwhere(skeleton)
    if not len(points):
        return np.argwhere(mask)[:1].astype(float)
    centre = points[int(rng.integers(len(points)))]
    near = skeleton & (((np.indices(mask.shape) - centre[:, None, None]) ** 2).sum(0) <= (length / 2) ** 2)
    parts, _ = ndimage.label(near, np.ones((3, 3)))
    return np.argwhere(parts == parts[tuple(centre)]).astype(float)


def across(mask: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A bent line between two pixels of ``mask``, cut to ``length`` and to the mask."""
    points = np.argwhere(mask)
    ends = points[rng.integers(len(points), size=2)].astype(float)
    span = float(np.linalg.norm(ends[1] - ends[0]))
    if span > length:
        ends[1] = ends[0] + (ends[1] - ends[0]) * length / span
    t = np.linspace(0, 1, max(2, int(2 * min(span, length))))[:, None]
    normal = np.array([ends[0, 1] - ends[1, 1], ends[1, 0] - ends[0, 0]]) * rng.normal(0, 0.15)
    line = ends[0] + (ends[1] - ends[0]) * t + normal * (4 * t * (1 - t))
    at = np.clip(np.rint(line), 0, np.array(mask.shape) - 1).astype(int)
    return line[mask[at[:, 0], at[:, 1]]]


def wobble(line: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """The stroke as a hand would draw it: smooth displacement of deviation ``sigma`` pixels."""
    if len(line) < 3 or sigma <= 0:
        return line
    noise = ndimage.gaussian_filter1d(rng.standard_normal(line.shape), max(2.0, len(line) / 8), axis=0, mode="nearest")
    return line + noise / (noise.std() + 1e-6) * sigma


def thick(line: np.ndarray, radius: float, shape: tuple[int, ...]) -> np.ndarray:
    """All pixels within ``radius`` of the samples of a stroke, inside ``shape``, as integer-valued floats."""
    if not len(line):
        return line
    reach = int(np.ceil(radius))
    offsets = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1))) - reach
    offsets = offsets[(offsets ** 2).sum(1) <= radius ** 2 + 1e-6]
    pixels = (np.rint(line).astype(int)[:, None] + offsets[None]).reshape(-1, 2)
    pixels = pixels[((pixels >= 0) & (pixels < np.array(shape))).all(1)]
    return np.unique(pixels, axis=0).astype(float)


def inside_stroke(mask: np.ndarray, length: float, rng: np.random.Generator) -> np.ndarray:
    """A stroke of about ``length`` pixels inside ``mask``: along its middle, along its border, or across it."""
    kind = rng.random()
    if kind < 0.4:
        line = along_skeleton(mask, length, rng)
    elif kind < 0.75:
        inner = depth(mask)
        line = along_level(inner, float(inner.max()) * rng.uniform(0.25, 0.7), length, rng)
    else:
        line = across(mask, length, rng)
    line = np.clip(wobble(line, 0.02 * length, rng), 0, np.array(mask.shape) - 1)
    at = np.rint(line).astype(int)
    line = line[mask[at[:, 0], at[:, 1]]] if len(line) else line
    return line if len(line) else np.argwhere(mask)[int(rng.integers(mask.sum()))][None].astype(float)
