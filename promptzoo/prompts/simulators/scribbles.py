"""Simulated scribbles, matched in length, number and place to human ones.

On the 99 scribbles of MedScribble (Wong et al., ScribblePrompt, ECCV 2024) a person draws 1 to 4 positive strokes of
together about 2.9 times the square root of the object's area, at about half the object's depth, and 2 to 6 negative
strokes of together about 6.3 times that root, at about 0.2 of it outside the border.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import PromptError, complain
from promptzoo.prompts.simulators import strokes
from promptzoo.prompts.simulators.clicks import largest_component

POSITIVE_LENGTH, NEGATIVE_LENGTH = 2.9, 6.3
"""Median total stroke length of people, in square roots of the object's area."""


def human_like(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative strokes as a person would start with.

    Args:
        mask: ``[H, W]`` or ``[D, H, W]`` bool, not empty; in 3D one slice along a random axis is drawn on.
        rng: generator of the draw.

    Returns:
        Painted pixels ``[n, d]`` of the positive and of the negative strokes (the latter may be empty).

    Raises:
        PromptError: if the mask is empty.
    """
    if not mask.any():
        raise PromptError(complain("scribble on an empty mask", "no voxel", "at least one voxel"))
    if mask.ndim == 3:
        axis = int(rng.integers(3))
        area = mask.sum(tuple(a for a in range(3) if a != axis)).astype(float)
        index = int(rng.choice(len(area), p=area ** 2 / (area ** 2).sum()))
        positive, negative = human_like(np.take(mask, index, axis), rng)
        return np.insert(positive, axis, index, 1), np.insert(negative, axis, index, 1)
    root, radius = float(np.sqrt(mask.sum())), float(rng.choice([0, 1, 1, 1.5]))
    drawn = [strokes.inside_stroke(mask, length, rng)
             for length in _lengths(root * POSITIVE_LENGTH, int(rng.integers(1, 5)), rng)]
    positive = strokes.thick(np.concatenate(drawn), radius, mask.shape)
    outside = ndimage.distance_transform_edt(~mask)
    drawn = []
    for length in _lengths(root * NEGATIVE_LENGTH, int(rng.integers(1, 7)), rng):
        distance = root * 10 ** rng.normal(-0.75, 0.3)
        if rng.random() < 0.65:
            line = strokes.along_level(outside, distance, length, rng)
        else:
            zone = (outside > 0.04 * root) & (outside < 4 * distance)
            line = strokes.across(zone, length, rng) if zone.any() else np.zeros((0, 2))
        drawn.append(strokes.wobble(line, 0.015 * length, rng))
    line = np.concatenate(drawn)
    at = np.rint(line).astype(int)
    keep = ((at >= 0) & (at < np.array(mask.shape))).all(1)
    line, at = line[keep], at[keep]
    negative = strokes.thick(line[outside[at[:, 0], at[:, 1]] > 1.5], radius, mask.shape)
    return positive, negative


def corrective(truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool] | None:
    """A stroke through the largest error of ``mask``.

    Args:
        truth, mask: ``[*S]`` bool, two or three axes; in 3D the slice with most error along a random axis is drawn on.
        rng: generator of the draw.

    Returns:
        Painted pixels ``[n, d]`` and whether the stroke is positive; None without an error.
    """
    missed, wrong = truth & ~mask, mask & ~truth
    positive = int(missed.sum()) >= int(wrong.sum())
    error = missed if positive else wrong
    if not error.any():
        return None
    if error.ndim == 3:
        axis = int(rng.integers(3))
        index = int(error.sum(tuple(a for a in range(3) if a != axis)).argmax())
        flat = largest_component(np.take(error, index, axis))
        return np.insert(_through(flat, rng), axis, index, 1), positive
    return _through(largest_component(error), rng), positive


def _through(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    length = float(np.sqrt(region.sum())) * rng.uniform(0.6, 2.5)
    return strokes.thick(strokes.inside_stroke(region, length, rng), float(rng.choice([0, 1, 1])), region.shape)


def _lengths(total: float, count: int, rng: np.random.Generator) -> np.ndarray:
    total *= float(np.exp(rng.normal(0, 0.4)))
    return np.maximum(2.0, total * rng.dirichlet(np.full(count, 3.0)))
