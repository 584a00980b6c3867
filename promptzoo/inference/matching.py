"""Matching of a slice with a finished one on the features of a frozen encoder; nothing is trained.

Evidence: EviPrompt (Xu et al., 2023, abstract: evidence of similarities, committee voting, points for SAM) and GBMSeg
(Liu et al., 2024, title and public description: forward and backward matching of patches, filtered point prompts).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain

CELLS = 32
"""Cells per side at which slices are compared."""
MATCHERS = ("forward-backward", "evidence")
NEIGHBOURS = 5


@dataclass(frozen=True, eq=False)
class Match:
    """What a finished slice says of another one, per cell ``[CELLS, CELLS]``.

    Args:
        score: above 0 where the structure is.
        trusted: bool, cells from which points may be taken.
        similarity: mean similarity of the slice's cells to their best matches, about 0.3 for images of other things.
    """

    score: np.ndarray
    trusted: np.ndarray
    similarity: float

    @property
    def found(self) -> np.ndarray:
        """Cells of the structure, bool; without parts smaller than a tenth of the largest."""
        labels, count = ndimage.label(self.score > 0)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        return np.isin(labels, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max(initial=0))) & (labels > 0)


def layers_of(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Features ``[CELLS ** 2, C]`` of each of an encoder's first three outputs ``[C, h, w]``, of norm 1 per cell."""
    found = []
    for part in parts[:3]:
        value = np.asarray(part, np.float32)
        value = value - value.mean((1, 2), keepdims=True)
        value = value / np.maximum(np.linalg.norm(value, axis=0, keepdims=True), 1e-6)
        side = value.shape[1]
        if side > CELLS:
            step = side // CELLS
            value = value.reshape(len(value), CELLS, step, CELLS, step).mean((2, 4))
        elif side < CELLS:
            at = np.clip((np.arange(CELLS) + 0.5) * side / CELLS - 0.5, 0, side - 1)
            value = ndimage.map_coordinates(value, np.meshgrid(np.arange(len(value)), at, at, indexing="ij"), order=1)
        found.append(value.reshape(len(value), -1).T)
    return found


def match(reference: Sequence[np.ndarray], mask: np.ndarray, target: Sequence[np.ndarray],
          matcher: str = "forward-backward", nearness: float = 2.0) -> Match:
    """Find on one slice what is masked on another.

    Args:
        reference, target: features by layer, see :func:`layers_of`.
        mask: share ``[CELLS ** 2]`` of the structure per cell of the reference.
        matcher: ``forward-backward`` trusts cells whose best match has them as its best match, or a neighbour;
            ``evidence`` those that every layer votes for and whose belief is above their uncertainty.
        nearness: how much a match loses per squared distance, in halves of the slice.

    Raises:
        BundleError: for an unknown matcher.
    """
    if matcher not in MATCHERS:
        raise BundleError(complain("matcher", matcher, ", ".join(MATCHERS)))
    inside, outside = mask > 0.5, mask < 0.5
    if not inside.any():  # smaller than a cell
        inside = mask >= max(float(mask.max()), 1e-6)
        outside = ~inside
    whole = _similar(np.concatenate(reference, 1), np.concatenate(target, 1), nearness)
    near = _best(whole[:, inside]), _best(whole[:, outside])
    score = near[0] - near[1]
    if matcher == "forward-backward":
        forward = whole.argmax(1)
        back = np.stack(np.unravel_index(whole.argmax(0)[forward], (CELLS, CELLS)))
        own = np.stack(np.unravel_index(np.arange(CELLS ** 2), (CELLS, CELLS)))
        trusted = (np.abs(back - own).max(0) <= 3) & (inside[forward] == (score > 0))
    else:
        votes = [np.sign(score)]
        for count in range(1, len(reference)):
            some = _similar(np.concatenate(reference[:count], 1), np.concatenate(target[:count], 1), nearness)
            votes.append(np.sign(_best(some[:, inside]) - _best(some[:, outside])))
        agreed = np.abs(np.sum(votes, 0)) == len(votes)
        evidence = [np.log1p(np.exp(8 * one)) for one in near]  # Dirichlet: belief e / S, uncertainty 2 / S
        total = evidence[0] + evidence[1] + 2
        trusted = agreed & (np.maximum(*evidence) / total > 2 / total)
    return Match(ndimage.gaussian_filter(score.reshape(CELLS, CELLS), 0.7), trusted.reshape(CELLS, CELLS),
                 float(whole.max(1).mean()))


def spread(score: np.ndarray, allowed: np.ndarray, count: int, apart: float = 4.0) -> np.ndarray:
    """Up to ``count`` cells ``[n, 2]`` of highest positive score among the allowed ones, apart from each other."""
    left, found = np.where(allowed, score, 0.0), []
    rows, columns = np.indices(score.shape)
    while len(found) < count and left.max(initial=0.0) > 0:
        at = np.unravel_index(int(left.argmax()), left.shape)
        found.append(at)
        left[(rows - at[0]) ** 2 + (columns - at[1]) ** 2 < apart ** 2] = 0
    return np.array(found, float).reshape(-1, 2)


def _similar(reference: np.ndarray, target: np.ndarray, nearness: float) -> np.ndarray:
    """Cosine of features whitened by the reference, less for distant cells: ``[target cells, reference cells]``."""
    middle = reference.mean(0)
    spread_ = np.cov((reference - middle).T)
    spread_ = spread_ + 0.1 * np.trace(spread_) / len(spread_) * np.eye(len(spread_))
    values, vectors = np.linalg.eigh(spread_)
    white = (vectors / np.sqrt(values)).astype(np.float32)
    one, two = ((features - middle) @ white for features in (reference, target))
    one, two = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6) for v in (one, two))
    axis = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1
    gap = (axis[:, None] - axis[None]) ** 2
    far = (gap[:, None, :, None] + gap[None, :, None, :]).reshape(CELLS ** 2, CELLS ** 2)
    return two @ one.T - nearness * far.astype(np.float32)


def _best(similar: np.ndarray) -> np.ndarray:
    """Mean of the highest similarities per row."""
    count = min(NEIGHBOURS, similar.shape[1])
    return -np.partition(-similar, count - 1, axis=1)[:, :count].mean(1) if count else np.full(len(similar), -1.0)
