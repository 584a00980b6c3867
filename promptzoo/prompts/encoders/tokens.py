"""Prompts of SAM-like networks: point tokens and dense maps, in the pixels of a network window.

Kirillov et al., "Segment Anything", ICCV 2023, section 3: clicks are points with a sign, a box is its two corners, a
mask is a dense map. The dense maps here are all prompt channels of :mod:`promptzoo.prompts.encoders.maps` at half the
window's resolution, the likeness to prompted intensities among them, which a small network is slow to find by itself.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.prompts.encoders.maps import PROMPT_CHANNELS, WindowPrompts, prompt_maps

PADDING, NEGATIVE, POSITIVE, CORNER_LOW, CORNER_HIGH = -1, 0, 1, 2, 3
"""Labels of tokens as SAM numbers them."""

TOKENS = 16
"""Tokens of one object; fewer prompts are filled up with padding, so that compiled decoders have one shape."""

DENSE_CHANNELS = PROMPT_CHANNELS
"""Order of the dense maps."""

MASK_CHANNELS = tuple(DENSE_CHANNELS.index(name) for name in ("previous", "lasso"))
"""Dense maps that no token stands for."""

STROKE_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class SamPrompt:
    """Prompts of one object.

    Args:
        points: ``[TOKENS, 2]`` float32 continuous pixel positions ``(column, row)`` (axis 1 first, as SAM has it); of
            volumes ``[TOKENS, 3]``, ``(i, j, k)``.
        labels: ``[TOKENS]`` float32, see :data:`PADDING` and its neighbours.
        dense: ``[12, *S / 2]`` float32, see :data:`DENSE_CHANNELS`.
        ambiguous: whether one click is all that is known, so that several answers are right.
    """

    points: np.ndarray
    labels: np.ndarray
    dense: np.ndarray
    ambiguous: bool


def sam_prompt(prompts: WindowPrompts, image: np.ndarray) -> SamPrompt:
    """Tokens and dense maps of prompts in a window ``[S, S]`` or ``[S, S, S]`` of intensities in [-1, 1]; S is a
    multiple of 16."""
    size, order = image.shape[0], slice(None, None, -1 if image.ndim == 2 else 1)
    points, labels = [], []

    def add(rows: np.ndarray | None, label: int, most: int) -> None:
        if rows is None or not len(rows) or most <= 0:
            return
        chosen = rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
        points.extend(np.asarray(chosen, dtype=np.float32)[:, order])
        labels.extend([label] * len(chosen))

    if prompts.box is not None:
        low, high = (np.clip(np.asarray(edge, dtype=np.float32), -0.5, size - 0.5) for edge in prompts.box)
        add(low[None], CORNER_LOW, 1)
        add(high[None], CORNER_HIGH, 1)
    add(prompts.scribble_positive, POSITIVE, STROKE_SAMPLES)
    add(prompts.scribble_negative, NEGATIVE, STROKE_SAMPLES)
    clicks = [(row, label) for rows, label in ((prompts.positive, POSITIVE), (prompts.negative, NEGATIVE))
              for row in (rows if rows is not None else ())]
    room = TOKENS - len(points)
    for row, label in clicks[:room // 2] + clicks[max(room // 2, len(clicks) - (room - room // 2)):]:
        add(np.asarray(row)[None], label, 1)
    count = len(points)
    filled = np.zeros((TOKENS, image.ndim), np.float32)
    told = np.full(TOKENS, PADDING, np.float32)
    if count:
        filled[:count], told[:count] = np.stack(points), labels
    dense = prompt_maps(_halved(prompts), _shrunk(image))
    return SamPrompt(filled, told, dense, count == 1 and prompts.previous is None and prompts.lasso is None)


def _halved(prompts: WindowPrompts) -> WindowPrompts:
    """The same prompts in a window of half as many pixels per side."""
    def move(rows: np.ndarray | None) -> np.ndarray | None:
        return None if rows is None else (np.asarray(rows, np.float32) + 0.5) / 2 - 0.5

    box = None if prompts.box is None else tuple((np.asarray(edge) + 0.5) / 2 - 0.5 for edge in prompts.box)
    dense = [None if array is None else _shrunk(array) for array in (prompts.lasso, prompts.previous)]
    return WindowPrompts(prompts.dims, move(prompts.positive), move(prompts.negative), box,
                         move(prompts.scribble_positive), move(prompts.scribble_negative), *dense)


def _shrunk(array: np.ndarray) -> np.ndarray:
    """Means over squares of 2 x 2 pixels or cubes of 2 x 2 x 2, float32."""
    paired = array.reshape([n for side in array.shape for n in (side // 2, 2)])
    return paired.mean(tuple(range(1, 2 * array.ndim, 2)), dtype=np.float32)
