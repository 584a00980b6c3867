"""Peers that need no training, behind the same ``Predictor`` protocol as the bundles.

- ``rectangle``: the box, filled.
- ``ellipse``: the ellipse (ellipsoid) inscribed in the box.
- ``random-walker``: L. Grady, "Random Walks for Image Segmentation", TPAMI 2006, scikit-image's implementation
  (BSD-3-Clause), ``beta`` 300, at most 112 pixels a side on a slice and 48 in a volume.
- ``graph-cut``: Y. Boykov and M.-P. Jolly, "Interactive Graph Cuts", ICCV 2001, through numpymaxflow (BSD-3-Clause),
  with intensity histograms of object and background as unary terms.
"""
from __future__ import annotations

from typing import Callable

import numpy as np
from scipy.ndimage import gaussian_filter1d, label

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.optional import require
from promptzoo.core.volume import Volume
from promptzoo.evaluation.peers import Peer, Seeds, Window

CLICK_ONLY_FRAC = 0.12
"""Shapes without a box: half-width around a click, as a fraction of the image's shorter in-plane side."""


class Rectangle(Peer):
    """The box, filled. Without a box: the hull of the positive clicks, widened by ``CLICK_ONLY_FRAC``.

    Clicks do not change a box's answer: a filled shape has nothing to correct it with.
    """

    name = "rectangle"

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
        """Offset and probability of the box."""
        low, high = _extent(volume, seeds)
        return low, np.ones(high - low, dtype=np.float32)


class Ellipse(Peer):
    """The ellipse or ellipsoid inscribed in the box; clicks as for :class:`Rectangle`.

    It is the floor of every method that takes a box. For clicks alone it is no serious peer, and is only there so that
    the table has no hole.
    """

    name = "ellipse"

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
        """Offset and probability of the inscribed ellipsoid."""
        low, high = _extent(volume, seeds)
        axes = [((np.arange(b - a) + 0.5) / (b - a) * 2 - 1) ** 2 for a, b in zip(low, high)]
        distance = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
        return low, (distance <= 1.0).astype(np.float32)


def _extent(volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
    if seeds.box is not None:
        return seeds.box
    shape = np.asarray(volume.grid.shape)
    if not len(seeds.positive):
        return np.zeros(3, dtype=int), np.zeros(3, dtype=int)
    sides_mm = shape * np.asarray(volume.grid.spacing_mm)
    half_mm = CLICK_ONLY_FRAC * float(np.sort(sides_mm[shape > 1])[:2].min() if (shape > 1).any() else 0)
    half = np.where(shape > 1, np.round(half_mm / np.asarray(volume.grid.spacing_mm)), 0).astype(int)
    return np.maximum(0, seeds.positive.min(0) - half), np.minimum(shape, seeds.positive.max(0) + half + 1)


class RandomWalker(Peer):
    """Random walker with the clicks as seeds.

    Background seeds: negative clicks, everything outside the box, and the frame of the window (unless a positive seed
    touches it). The middle of a box is a seed of the object. The last answer is not used: the method is solved anew
    from all seeds.
    """

    name = "random-walker"

    def __init__(self, beta: float = 300.0, radius: int = 2) -> None:
        self.beta, self.radius = beta, radius

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
        """Offset of the window and the walker's probability in it."""
        walk = require("skimage.segmentation", "the random-walker baseline").random_walker
        window = Window.around(volume, seeds)
        marks, settled = _marks(window, self.radius)
        if settled is not None:
            return window.low, window.enlarge(settled)
        probability = walk(window.image, marks, beta=self.beta, mode="cg_j", tol=1e-3, prob_tol=0.05,
                           return_full_prob=True)
        return window.low, window.enlarge(np.asarray(probability)[0])


def _marks(window: Window, radius: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Seed labels (1 object, 2 background, 0 open), and the answer where nothing is left to solve."""
    corrected = window.disks(window.negative, radius)
    positive = window.disks(window.positive, radius) & ~window.negative
    if window.inside is not None:
        positive |= _core(window.inside) & ~corrected
    negative = corrected | window.frame()
    if window.inside is not None:
        negative |= ~window.inside
    marks = np.zeros(window.image.shape, dtype=np.int32)
    marks[negative & ~positive] = 2
    marks[positive] = 1
    marks[window.negative] = 2
    if not (marks == 1).any() or not (marks == 2).any() or (marks != 0).all():
        return marks, (marks == 1).astype(np.float32)
    return marks, None


def _core(inside: np.ndarray) -> np.ndarray:
    """The middle of a box: a third of its width along each axis."""
    core = np.zeros_like(inside)
    spans = []
    for axis in range(inside.ndim):
        there = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        third = len(there) // 3
        spans.append(slice(there[0] + third, there[-1] + 1 - third))
    core[tuple(spans)] = True
    return core


class GraphCut(Peer):
    """Minimum cut with hard seeds and intensity histograms, re-estimated from its own result (as in GrabCut).

    Args:
        bins: histogram bins over the window's intensity range.
        weight, sigma: strength of the boundary term and the intensity step at which it fades, as in numpymaxflow.
        rounds: how often histograms and cut alternate.

    The first object histogram comes from disks around the positive clicks (or the middle of the box), then from the
    last answer. Parts that hold no positive seed are dropped.
    """

    name = "graph-cut"
    needs = ("numpymaxflow", "label")

    def __init__(self, bins: int = 24, weight: float = 4.0, sigma: float = 0.08, rounds: int = 3) -> None:
        self.bins, self.weight, self.sigma, self.rounds = bins, weight, sigma, rounds

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
        """Offset of the window and the cut's mask in it."""
        cut = require("numpymaxflow", "the graph-cut baseline", "label")
        window = Window.around(volume, seeds, side_2d=160)
        marks, settled = _marks(window, 2)
        if settled is not None:
            return window.low, window.enlarge(settled)
        seed, index = marks == 1, np.minimum((window.image * self.bins).astype(int), self.bins - 1)
        mask = window.disks(seed, 4) & (marks != 2)
        if window.previous is not None and window.previous.any():
            mask = (window.previous | seed) & (marks != 2)
        for _ in range(self.rounds):
            object_, back = self._histogram(index[mask]), self._histogram(index[~mask])
            probability = (object_ / (object_ + back))[index]
            probability = np.where(marks == 1, 1 - 1e-6, np.where(marks == 2, 1e-6, probability))
            probability = np.clip(probability, 1e-6, 1 - 1e-6).astype(np.float32)
            answer = cut.maxflow(window.image[None].astype(np.float32), np.stack([1 - probability, probability]),
                                 self.weight, self.sigma, 8 if window.image.ndim == 2 else 18)
            found = _holding(np.asarray(answer)[0] > 0.5, seed)
            if not found.any() or np.array_equal(found, mask):
                break
            mask = found
        return window.low, window.enlarge(mask.astype(np.float32))

    def _histogram(self, index: np.ndarray) -> np.ndarray:
        counts = np.bincount(index, minlength=self.bins).astype(float)
        smooth = gaussian_filter1d(counts, 1.0, mode="nearest")
        return (smooth + 1e-3 * max(smooth.sum(), 1)) / (smooth.sum() + 1e-3 * max(smooth.sum(), 1) * self.bins)


def _holding(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected parts of ``mask`` that hold a seed."""
    labels, _ = label(mask)
    keep = np.unique(labels[seed & mask])
    return np.isin(labels, keep[keep > 0])


BASELINES: dict[str, Callable[[], Peer]] = {peer.name: peer for peer in (Rectangle, Ellipse, RandomWalker, GraphCut)}
"""Peers by name, as ``promptzoo bench --baseline`` takes them."""


def make_baseline(name: str) -> Peer:
    """A new peer by name.

    Raises:
        NotFoundError: for an unknown name.
    """
    if name not in BASELINES:
        raise NotFoundError(complain("baseline", name, ", ".join(BASELINES)))
    return BASELINES[name]()
