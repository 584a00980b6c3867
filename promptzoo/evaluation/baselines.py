"""Peers that need no training, behind the same ``Predictor`` protocol as the bundles.

- ``rectangle``: the box, filled.
- ``ellipse``: the ellipse (ellipsoid) inscribed in the box.
- ``random-walker``: L. Grady, "Random Walks for Image Segmentation", TPAMI 2006, scikit-image's implementation
  (BSD-3-Clause), at most 112 pixels a side on a slice and 48 in a volume. ``beta`` 100 beat 300 and 1000 on real
  slices at every number of clicks, with intensities scaled to [0, 1].
- ``graph-cut``: Y. Boykov and M.-P. Jolly, "Interactive Graph Cuts", ICCV 2001, through numpymaxflow (BSD-3-Clause),
  with intensity histograms and closeness to the seeds as unary terms.
"""
from __future__ import annotations

from typing import Callable

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, label

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.optional import require
from promptzoo.core.volume import Volume
from promptzoo.evaluation.peers import Peer, Seeds, Window

CLICK_ONLY_FRAC = 0.12
"""Shapes without a box: half-width around a click, as a fraction of the image's shorter in-plane side."""
CORE_FRAC = 0.7
"""Seeded methods take the ellipse with this fraction of the box's sides as a seed of the object."""


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
    touches it). The middle of a box (``CORE_FRAC``) is a seed of the object.
    """

    name = "random-walker"

    def __init__(self, beta: float = 100.0, radius: int = 2) -> None:
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
    """The middle of a box: the ellipse with ``CORE_FRAC`` of its sides; at least one voxel."""
    distance = np.zeros(inside.shape)
    for axis in range(inside.ndim):
        there = np.flatnonzero(inside.any(axis=tuple(a for a in range(inside.ndim) if a != axis)))
        along = (np.arange(inside.shape[axis]) - (there[0] + there[-1]) / 2) / (CORE_FRAC * len(there) / 2)
        distance += (along ** 2).reshape([-1 if a == axis else 1 for a in range(inside.ndim)])
    return distance <= max(1.0, distance.min())


class GraphCut(Peer):
    """Minimum cut with hard seeds; object and background are told apart by intensity histograms and by closeness.

    Args:
        bins: histogram bins over the window's intensity range.
        weight, sigma: strength of the boundary term and the intensity step at which it fades, as in numpymaxflow.
        radius: of the disk around each click whose intensities make the histograms, in window voxels.
        closeness: weight of the spatial term, the log-ratio of the squared distances to the nearest background and
            object seed.

    Everything outside the box, and the frame of the window, is background. Parts that hold no positive seed are
    dropped.
    """

    name = "graph-cut"
    needs = ("numpymaxflow", "label")

    def __init__(self, bins: int = 24, weight: float = 4.0, sigma: float = 0.08, radius: int = 4,
                 closeness: float = 1.0) -> None:
        self.bins, self.weight, self.sigma = bins, weight, sigma
        self.radius, self.closeness = radius, closeness

    def solve(self, volume: Volume, seeds: Seeds) -> tuple[np.ndarray, np.ndarray]:
        """Offset of the window and the cut's mask in it."""
        cut = require("numpymaxflow", "the graph-cut baseline", "label")
        window = Window.around(volume, seeds, side_2d=160)
        marks, settled = _marks(window, 2)
        if settled is not None:
            return window.low, window.enlarge(settled)
        seed, back = marks == 1, marks == 2
        index = np.minimum((window.image * self.bins).astype(int), self.bins - 1)
        near = window.disks(seed, self.radius) & ~back
        ratio = self._histogram(index[near]) / self._histogram(index[~near])
        to_back, to_seed = (np.log(distance_transform_edt(~marked) + 1) for marked in (back, seed))
        logit = np.log(ratio)[index] + 2 * self.closeness * (to_back - to_seed)
        probability = 1 / (1 + np.exp(-np.clip(np.where(seed, 12, np.where(back, -12, logit)), -12, 12)))
        answer = cut.maxflow(window.image[None].astype(np.float32),
                             np.stack([1 - probability, probability]).astype(np.float32), self.weight, self.sigma,
                             8 if window.image.ndim == 2 else 18)
        return window.low, window.enlarge(_holding(np.asarray(answer)[0] > 0.5, seed).astype(np.float32))

    def _histogram(self, index: np.ndarray) -> np.ndarray:
        counts = gaussian_filter1d(np.bincount(index, minlength=self.bins).astype(float), 1.0, mode="nearest")
        return (counts / max(counts.sum(), 1) + 1e-3) / (1 + 1e-3 * self.bins)


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
