"""What a prompt head says of a window, and the prompts of one object made from it, both in window pixels."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from promptzoo.inference.looks import as_chance
from promptzoo.networks.auto_prompt import HEAD_STRIDE

NO_POINTS = np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """The maps of a window, as probabilities and pixels.

    Args:
        foreground, centre: ``[h, w]`` probabilities.
        size: ``[2, h, w]`` sides of the box around a centre in pixels.
        view: ``[h, w]`` intensities of the window, for sources that look at the image itself.
    """

    foreground: np.ndarray
    centre: np.ndarray
    size: np.ndarray
    view: np.ndarray

    @classmethod
    def of(cls, raw: np.ndarray, view: np.ndarray) -> "HeadMaps":
        """From the head's output ``[4, h, w]`` and the window ``[S, S]``."""
        height, width = raw.shape[1:]
        small = view.reshape(height, HEAD_STRIDE, width, HEAD_STRIDE).mean((1, 3))
        return cls(as_chance(raw[0]), as_chance(raw[1]), np.exp(np.clip(raw[2:], 0.0, 6.0)), small)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Prompts of one object in a window.

    Args:
        score: how sure the head is, in [0, 1].
        at: where the object is ``[2]``.
        positive, negative: points ``[n, 2]``.
        box: lower and upper faces ``[2]`` each, or None.
        mask: coarse mask ``[h, w]`` bool on the maps' cells, or None.
        whole: whether it speaks of all objects of the window together.
    """

    score: float
    at: np.ndarray
    positive: np.ndarray = field(default_factory=NO_POINTS.copy)
    negative: np.ndarray = field(default_factory=NO_POINTS.copy)
    box: tuple[np.ndarray, np.ndarray] | None = None
    mask: np.ndarray | None = None
    whole: bool = False


def to_pixels(cells: np.ndarray) -> np.ndarray:
    """Positions ``[..., 2]`` in cells as window pixels."""
    return (np.asarray(cells, dtype=float) + 0.5) * HEAD_STRIDE - 0.5


def peaks(chance: np.ndarray, least: float) -> np.ndarray:
    """Cells ``[n, 2]`` that are the largest of their 3 x 3 neighbours (CenterNet's suppression), largest first."""
    top = (chance >= least) & (chance >= ndimage.maximum_filter(chance, 3))
    labels, count = ndimage.label(top, np.ones((3, 3)))  # plateaus are one peak
    found = np.array(ndimage.center_of_mass(top, labels, range(1, count + 1))).reshape(-1, 2).round().astype(int)
    return found[np.argsort(-chance[tuple(found.T)], kind="stable")]


def centre_cells(maps: HeadMaps, least: float, apart: float = 0.0) -> np.ndarray:
    """Cells ``[n, 2]`` of centres, surest first.

    Args:
        maps: where.
        least: probability of a centre.
        apart: of two centres nearer than this fraction of the side predicted at the surer one, the other is dropped;
            0 keeps all :func:`peaks`.
    """
    kept: list[np.ndarray] = []
    for cell in peaks(maps.centre, least):
        reach = [apart * maps.size[(slice(None), *other)].mean() / HEAD_STRIDE for other in kept]
        if all(np.hypot(*(cell - other)) >= r for other, r in zip(kept, reach)):
            kept.append(cell)
    return np.array(kept, dtype=int).reshape(-1, 2)
