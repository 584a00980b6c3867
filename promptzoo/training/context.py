"""Simulated prior masks: what is already known of a case when its object is contoured.

In radiotherapy the gross tumour lies inside the clinical target volume and organs at risk border on it. On procedural
windows there is neither, so both are made from the object itself: a part of it, and a region beside it.
"""
from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.prompts.simulators import masks
from promptzoo.prompts.simulators.clicks import depth


def inner_part(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A deep part of ``truth`` ``[*S]`` bool, half of the time also cut by a plane; empty only if ``truth`` is."""
    if not truth.any():
        return truth.copy()
    inner = depth(truth)
    part = inner > inner.max() * rng.uniform(0.1, 0.5)
    if rng.random() < 0.5:
        direction = rng.standard_normal(truth.ndim)
        cut = masks.changed(part, "cut", float(rng.uniform(-0.3, 0.7)), direction / np.linalg.norm(direction))
        part = cut if cut.any() else part
    return part


def region_beside(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An ellipsoid near ``truth`` ``[*S]`` bool without the voxels of it (and of a gap); may be empty."""
    extent = float(truth.sum()) ** (1 / truth.ndim)
    if extent == 0:
        return np.zeros_like(truth)
    outside = ndimage.distance_transform_edt(~truth)
    places = np.flatnonzero((outside > 1) & (outside < max(3.0, 0.6 * extent)))
    if not len(places):
        return np.zeros_like(truth)
    centre = np.unravel_index(int(rng.choice(places)), truth.shape)
    radii = max(3.0, extent * rng.uniform(0.25, 0.7)) * rng.uniform(0.7, 1.4, truth.ndim)
    inside = sum(((g - c) / r) ** 2 for g, c, r in zip(np.indices(truth.shape, sparse=True), centre, radii)) < 1
    return inside & (outside > rng.uniform(0.5, 2.5))


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "target": inner_part, "avoid": region_beside}
"""What each prior is made from: ``target`` lies inside the object (gross tumour), ``avoid`` outside (organ at risk)."""


class SimulatedContext:
    """Prior channels of one window, each left out now and then, so that the network works without.

    Args:
        priors: names out of :data:`KINDS`, in the order of the network's prior channels.
        dropout: probability that a prior is left out, independently of the others.

    Raises:
        PromptZooError: for an unknown prior or a dropout outside 0 … 1.
    """

    def __init__(self, priors: Sequence[str] = ("target", "avoid"), dropout: float = 0.5) -> None:
        unknown = [name for name in priors if name not in KINDS]
        if unknown or not 0 <= dropout <= 1:
            raise PromptZooError(complain("simulated priors", [*unknown, dropout],
                                          f"{', '.join(KINDS)}; dropout from 0 to 1"))
        self.priors, self.dropout = tuple(priors), dropout

    def __call__(self, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Prior channels ``[P, *S]`` float32 for an object ``truth`` ``[*S]`` bool; a prior left out is all zeros."""
        channels = np.zeros((len(self.priors), *truth.shape), dtype=np.float32)
        for channel, name in zip(channels, self.priors):
            if rng.random() >= self.dropout:
                channel[...] = KINDS[name](truth, rng)
        return channels
