"""Channels in which a network is told what is meant on an image, be it a finished one or the one to segment."""
from __future__ import annotations

import numpy as np

from promptzoo.prompts.encoders.maps import PROMPT_CHANNELS, WindowPrompts, prompt_maps

CONTEXT_CHANNELS = ("previous", "point+", "point-", "box", "box_shape", "scribble+", "scribble-", "lasso", "dense")
"""Order of the channels; ``dense`` is 1 everywhere where ``previous`` is a whole mask, so that 0 means background."""

_TAKEN = [PROMPT_CHANNELS.index(name) for name in CONTEXT_CHANNELS[:-1]]


def context_maps(prompts: WindowPrompts, shape: tuple[int, int]) -> np.ndarray:
    """Draw what is meant in a window.

    Args:
        prompts: in window pixels; ``previous`` is a whole mask.
        shape: of the window.

    Returns:
        ``[9, *shape]`` float32 in the order of :data:`CONTEXT_CHANNELS`.

    Raises:
        PromptError: if a dense prompt does not fit the window.
    """
    drawn = prompt_maps(prompts, np.zeros(shape, np.float32))[_TAKEN]
    dense = np.full((1, *shape), float(prompts.previous is not None), np.float32)
    return np.concatenate([drawn, dense])
