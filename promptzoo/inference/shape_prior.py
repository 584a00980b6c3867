"""What a box says without the image: most objects fill it like an ellipse."""
from __future__ import annotations

import numpy as np

from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window

POWER = 2.5
"""Exponent of the superellipse; 2 is an ellipse, objects fill their boxes a little more."""


def box_logits(prompts: ObjectPrompts, window: Window, strength: float) -> np.ndarray | float:
    """Logits ``[*S]`` of the superellipse in an object's box on the pixels of a window.

    A box leaves open whether the object is the dark or the bright thing in it; that the object fills it is known.
    Strokes and lassos tell the shape better; from the second click on the prior counts half as much with each.

    Args:
        prompts: prompts of one object.
        window: where.
        strength: logit at the centre of the box; 0 at the ellipse, negative beyond, not below ``-strength``.

    Returns:
        0 if there is no prior: no strength, no box, or strokes or lassos beside it.
    """
    drawn = (prompts.scribble_positive, prompts.scribble_negative, prompts.lassos)
    if not strength or prompts.box is None or any(len(group) for group in drawn):
        return 0.0
    strength *= 0.5 ** max(0, len(prompts.positive) + len(prompts.negative) - 1)
    low, high = (window.to_window(face) for face in prompts.box)
    centre, half = (low + high) / 2, np.maximum(high - low, 1e-3) / 2
    grids = np.indices(window.shape, sparse=True)
    radius = sum(np.abs((grid - c) / h) ** POWER for grid, c, h in zip(grids, centre, half)) ** (1 / POWER)
    return (strength * np.maximum(1 - radius, -1.0)).astype(np.float32)
