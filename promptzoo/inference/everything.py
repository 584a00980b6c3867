"""Everything in an image: a grid of clicks, their candidates, and filters for good and different masks.

Kirillov et al., "Segment Anything", ICCV 2023, section 5 ("fully automatic stage") and appendix B: a regular grid of
points on the image and on overlapping crops, filters by predicted IoU and by stability of the mask under the threshold,
removal of masks that fill the image or touch the border of a crop, and non-maximum suppression by boxes, first within a
crop in the order of predicted IoU, then between crops, where the closer look wins. Their thresholds (0.88, 0.95, 0.7)
belong to SAM's weights; those here are the defaults for ours.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.geometry import box_iou
from promptzoo.inference.candidates import enlarged
from promptzoo.inference.looks import as_chance, bounds
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.sam import SamSegmenter
from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.encoders.tokens import sam_prompt


@dataclass(frozen=True)
class Everything:
    """Grid and filters.

    Args:
        points_per_side: points along each side of the image; half as many on each crop.
        crops: crops along each side, each overlapping its neighbours by a third; 1 looks at the whole image only.
        iou: least predicted IoU.
        stability: least IoU between the masks cut at logits ``+offset`` and ``-offset``.
        offset: see ``stability``.
        overlap: a mask whose box overlaps that of a better one by more than this IoU is a duplicate.
        most: a mask that covers more than this fraction of the image is none.
        least_px: a mask of fewer window pixels is none.
        batch: points decoded together.

    Raises:
        BundleError: for numbers out of range.
    """

    points_per_side: int = 12
    crops: int = 1
    iou: float = 0.3
    stability: float = 0.4
    offset: float = 1.0
    overlap: float = 0.7
    most: float = 0.95
    least_px: int = 12
    batch: int = 16

    def __post_init__(self) -> None:
        shares = (self.iou, self.stability, self.overlap, self.most)
        if min(self.points_per_side, self.crops, self.batch) < 1 or not all(0 <= v <= 1 for v in shares):
            raise BundleError(complain("settings of everything", repr(self), "counts from 1 and fractions in 0 … 1"))


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask found.

    Args:
        window: where it lies.
        chance: probability ``[*S]`` on the window.
        iou: predicted.
        stability: IoU between its stricter and its laxer cut.
        point: the click that found it, in image indices.
        box: lower and upper faces ``[2, d]`` in image indices.
    """

    window: Window
    chance: np.ndarray
    iou: float
    stability: float
    point: tuple[float, ...]
    box: np.ndarray


def find_everything(segmenter: SamSegmenter, image: np.ndarray, spacing: Sequence[float],
                    settings: Everything = Everything()) -> list[Proposal]:
    """All masks that pass the filters.

    Args:
        segmenter: the network.
        image: ``[i, j]`` intensities.
        spacing: pixel size per axis, any unit.
        settings: grid and filters.

    Returns:
        In falling order of predicted IoU.
    """
    shape, gap = np.asarray(image.shape), np.asarray(spacing, dtype=float)
    kept: list[Proposal] = []
    for low, high, side in reversed(_looks(shape, settings)):  # closest looks first: they win
        window = segmenter.window_over(low, high, gap, image.shape)
        found = _on_window(segmenter, image, window, (low, high, side), settings)
        kept = suppressed(kept + suppressed(found, settings.overlap), settings.overlap)
    return sorted(kept, key=lambda p: -p.iou)


def suppressed(proposals: Sequence[Proposal], overlap: float) -> list[Proposal]:
    """Greedy non-maximum suppression in the given order: each is kept unless its box is too like that of one kept."""
    kept: list[Proposal] = []
    for proposal in proposals:
        if all(box_iou(proposal.box, other.box) <= overlap for other in kept):
            kept.append(proposal)
    return kept


def stability_of(logits: np.ndarray, offset: float) -> float:
    """IoU between the masks of logits cut at ``+offset`` and at ``-offset``; 0 if the laxer one is empty."""
    lax = int((logits > -offset).sum())
    return int((logits > offset).sum()) / lax if lax else 0.0


def _looks(shape: np.ndarray, settings: Everything) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Faces of the whole image and of its crops, with the points along a side of each."""
    looks = [(np.full(2, -0.5), shape - 0.5, settings.points_per_side)]
    if settings.crops > 1:
        side = shape / (1 + (settings.crops - 1) * 2 / 3)  # neighbours share a third
        for at in np.ndindex(settings.crops, settings.crops):
            low = np.asarray(at) * side * 2 / 3 - 0.5
            looks.append((low, low + side, max(1, settings.points_per_side // 2)))
    return looks


def _on_window(segmenter: SamSegmenter, image: np.ndarray, window: Window, look: tuple[np.ndarray, np.ndarray, int],
               settings: Everything) -> list[Proposal]:
    """The masks of one look that pass the filters, best predicted IoU first."""
    low, high, side = look
    steps = [a + (b - a) * (np.arange(side) + 0.5) / side for a, b in zip(low, high)]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), -1).reshape(-1, 2)
    view = normalise(window.sample(image))
    encoding, found = segmenter.encoded(view), []
    for start in range(0, len(points), settings.batch):
        part = points[start:start + settings.batch]
        told = [sam_prompt(WindowPrompts(2, positive=window.to_window(p[None])), view) for p in part]
        masks, ious = segmenter.decoded([encoding] * len(part), told)[2:]
        for n, point in enumerate(part):
            for logits, iou in zip(masks[n, 1:], ious[n, 1:]):
                stability = stability_of(logits, settings.offset)
                if iou < settings.iou or stability < settings.stability:
                    continue
                chance = as_chance(enlarged(logits, window.shape))
                place = _place(chance >= 0.5, window, image.shape, settings)
                if place is not None:
                    found.append(Proposal(window, chance, float(iou), stability, tuple(map(float, point)), place))
    return sorted(found, key=lambda p: -p.iou)


def _place(mask: np.ndarray, window: Window, shape: Sequence[int], settings: Everything) -> np.ndarray | None:
    """The box of a mask in the image; None for a mask too small, as large as the image, or cut by a crop."""
    found = bounds(mask)
    if found is None or mask.sum() < settings.least_px:
        return None
    if mask.sum() * np.prod(window.step) > settings.most * np.prod(shape):
        return None
    low, high = (np.asarray(window.origin) + face * np.asarray(window.step) for face in found)
    edge = np.asarray(window.step)
    inner_low, inner_high = window.low > -0.4, window.high < np.asarray(shape) - 0.6
    if (inner_low & (low <= window.low + edge)).any() or (inner_high & (high >= window.high - edge)).any():
        return None
    return np.stack([low, high])
