"""One answered window of an object, and what is asked of it: how it overlaps another, whether it cuts the object."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np

from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.prompts.encoders import WindowPrompts


@dataclass(eq=False)
class Look:
    """One answered window: probability ``[*S]`` and estimated Dice; the box that took the place of the given one, as
    faces in indices of the image, or None."""

    window: Window
    probability: np.ndarray
    quality: float
    history: tuple[str, ...] = field(default=())
    box: tuple[np.ndarray, np.ndarray] | None = None


def in_window(prompts: ObjectPrompts, window: Window, last: Look | None) -> WindowPrompts:
    """Prompts in pixels of a window, with the mask of the look before, or else that of the session, fed back."""
    if last is not None:
        return prompts.in_window(window, last.probability if window == last.window else resample_look(last, window))
    return prompts.in_window(window, None if prompts.prior is None else window.sample(prompts.prior))


def resample_look(look: Look, window: Window) -> np.ndarray:
    """Probability of a look on the pixels of another window; 0 where the look did not reach."""
    relative = Window(tuple(look.window.to_window(np.asarray(window.origin))),
                      tuple(np.asarray(window.step) / look.window.step), window.shape)
    value = relative.sample(look.probability)
    for axis, size in enumerate(look.probability.shape):
        at = relative.origin[axis] + relative.step[axis] * np.arange(window.shape[axis])
        value[tuple([slice(None)] * axis + [(at < -0.5) | (at > size - 0.5)])] = 0.0
    return value


def overlap(first: Look, second: Look) -> float:
    """Intersection over union of the masks of two looks at the same image, on the finer window's pixels."""
    fine, coarse = sorted((first, second), key=lambda look: float(np.prod(look.window.step)))
    own, pixel = fine.probability >= 0.5, float(np.prod(fine.window.step))
    other = coarse.probability if fine.window == coarse.window else resample_look(coarse, fine.window)
    common = float((own & (other >= 0.5)).sum()) * pixel
    total = float(own.sum()) * pixel + float((coarse.probability >= 0.5).sum()) * float(np.prod(coarse.window.step))
    return common / max(total - common, pixel)


def cut_share(look: Look, shape: Sequence[int]) -> float:
    """Share of the mask's pixels on window faces that are not image faces, relative to its face-sized cross-section."""
    mask = look.probability >= 0.5
    total = 0.0
    for axis, size in enumerate(shape):
        inner = (look.window.low[axis] > -0.4, look.window.high[axis] < size - 0.6)
        for end, matters in zip((0, -1), inner):
            if matters:
                total += float(np.take(mask, end, axis).mean())
    return min(1.0, 4 * total)


def bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Lower and upper faces (continuous indices) of the smallest box around a boolean array; None if it is empty."""
    low, high = [], []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(hit):
            return None
        low.append(hit[0] - 0.5)
        high.append(hit[-1] + 0.5)
    return np.asarray(low), np.asarray(high)


def keep_promises(probability: np.ndarray, prompts: ObjectPrompts, window: Window) -> np.ndarray:
    """Clicks are obeyed: the pixels around a negative click leave the mask, around a positive click they join it."""
    grids = np.indices(probability.shape, sparse=True)
    for points, inside in ((prompts.positive, True), (prompts.negative, False)):
        for point in window.to_window(points):
            if (point < -0.5).any() or (point > np.asarray(probability.shape) - 0.5).any():
                continue
            near = sum((g - p) ** 2 for g, p in zip(grids, point)) <= 2.0
            if inside:
                probability[near] = np.maximum(probability[near], 0.51)
            else:
                probability[near] = np.minimum(probability[near], 0.49)
    return probability


def as_chance(logits: np.ndarray) -> np.ndarray:
    """Logits to probabilities, float32."""
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))).astype(np.float32)
