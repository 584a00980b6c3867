"""Mask overlap, surface agreement, interaction effort and calibration.

The surface Dice is that of google-deepmind/surface-distance (Nikolov et al., https://arxiv.org/abs/1809.04430; code
Apache-2.0), which the CVPR 2025 interactive 3D challenge uses: surface elements live on the dual grid (between voxel
centres), each weighted by its area, and distances are measured in millimetres. The neighbour tables come from MONAI.
Distances are found with a k-d tree that stops at the tolerance, so that no distance map of the volume is needed.
"""
from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Sequence

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from promptzoo.core.errors import PromptZooError, complain

NSD_TOLERANCE_MM = 2.0
"""Tolerance of the normalised surface Dice, CVPR 2025 protocol."""
NSD_DICE_GATE = 0.2
"""CVPR 2025: at or below this Dice the surface Dice counts as 0."""
AUC_CLICKS = 5
"""CVPR 2025: the area under the curve runs over this many click points, so its maximum is ``AUC_CLICKS - 1``."""
NOC_TARGET = 0.90
"""Dice from which a case counts as done in the number of clicks."""


def _pair(first: object, second: object) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first).astype(bool, copy=False), np.asarray(second).astype(bool, copy=False)
    if a.shape != b.shape:
        raise PromptZooError(complain("masks of different shape", [a.shape, b.shape], "two masks on one grid"))
    return a, b


def dice(prediction: object, reference: object) -> float:
    """Dice coefficient of two masks of equal shape; two empty masks agree fully, so they give 1.

    Raises:
        PromptZooError: if the shapes differ.
    """
    a, b = _pair(prediction, reference)
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / total if total else 1.0


def iou(prediction: object, reference: object) -> float:
    """Intersection over union of two masks of equal shape; two empty masks give 1.

    Raises:
        PromptZooError: if the shapes differ.
    """
    a, b = _pair(prediction, reference)
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Slices of the smallest box around the true voxels of ``mask`` (any number of axes), or None if it is empty."""
    box = [slice(0, n) for n in mask.shape]
    for axis in sorted(range(mask.ndim), key=lambda a: -abs(mask.strides[a])):  # the slowest axis first: whole planes
        part = mask[tuple(box)]
        hit = np.flatnonzero(part.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(hit):
            return None
        box[axis] = slice(int(hit[0]), int(hit[-1]) + 1)
    return tuple(box)


@lru_cache(maxsize=64)
def _element_sizes(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Area (3D, mm²) or length (2D, mm) of the surface in a 2 x 2 (x 2) neighbourhood, indexed by its bit code."""
    from monai.metrics.utils import (
        create_table_neighbour_code_to_contour_length,
        create_table_neighbour_code_to_surface_area,
    )
    build = create_table_neighbour_code_to_surface_area if len(spacing_mm) == 3 \
        else create_table_neighbour_code_to_contour_length
    return np.asarray(build(spacing_mm)[0], dtype=np.float64).ravel()


class Surface:
    """The boundary of a mask as weighted points, ready to be compared many times.

    Args:
        mask: ``[i, j, k]`` (or ``[i, j]``) truth values. An axis of length 1 is dropped: a single slice is compared by
            its contour, not by the faces above and below it.
        spacing_mm: voxel size along each axis of ``mask``.

    Attributes:
        points: ``[n, d]`` positions in millimetres from the first voxel's centre.
        sizes: ``[n]`` area in mm² (3D) or length in mm (2D) of the surface at each point.
    """

    def __init__(self, mask: object, spacing_mm: Sequence[float]) -> None:
        array = np.asarray(mask).astype(bool, copy=False)
        if len(spacing_mm) != array.ndim:
            raise PromptZooError(complain("spacing", list(spacing_mm), f"{array.ndim} millimetre values, one per axis"))
        keep = [axis for axis in range(array.ndim) if array.shape[axis] > 1 or array.ndim == 2]
        while len(keep) < 2:
            keep.append(next(axis for axis in range(array.ndim) if axis not in keep))
        keep.sort()
        array = array.reshape([array.shape[axis] for axis in keep])
        spacing = tuple(float(spacing_mm[axis]) for axis in keep)
        box = bounding_box(array)
        if box is None:
            self.points, self.sizes = np.zeros((0, len(spacing))), np.zeros(0)
        else:
            padded = np.pad(array[box], 1)
            code = np.zeros([n - 1 for n in padded.shape], dtype=np.uint8)
            offsets = list(product((0, 1), repeat=len(spacing)))
            for bit, offset in zip(range(len(offsets) - 1, -1, -1), offsets):
                view = padded[tuple(slice(o, o + n) for o, n in zip(offset, code.shape))]
                code |= view.astype(np.uint8) << np.uint8(bit)
            where = np.nonzero((code > 0) & (code < 2 ** len(offsets) - 1))
            corner = np.array([b.start for b in box]) - 0.5
            self.points = (np.stack(where, axis=1) + corner) * np.asarray(spacing)
            self.sizes = _element_sizes(spacing)[code[where]]
        self._tree = cKDTree(self.points) if len(self.points) else None

    def size_within(self, other: "Surface", tolerance_mm: float) -> float:
        """How much of this surface (mm² or mm) lies within ``tolerance_mm`` of ``other``."""
        if self._tree is None or other._tree is None:
            return 0.0
        bound = float(tolerance_mm) * (1 + 1e-9) + 1e-9
        distance, _ = other._tree.query(self.points, distance_upper_bound=bound)
        return float(self.sizes[np.isfinite(distance)].sum())

    def mean_distance(self, other: "Surface") -> float | None:
        """Mean distance in mm of both surfaces to each other, weighted by area (length in 2D); None if one is empty."""
        if self._tree is None or other._tree is None:
            return None
        away = [float((a._tree.query(b.points)[0] * b.sizes).sum()) for a, b in ((self, other), (other, self))]
        return sum(away) / float(self.sizes.sum() + other.sizes.sum())


def surface_dice(prediction: object, reference: object, spacing_mm: Sequence[float],
                 tolerance_mm: float = NSD_TOLERANCE_MM) -> float:
    """Normalised surface Dice: the share of both surfaces that lies within ``tolerance_mm`` of the other one.

    Args:
        prediction: mask ``[i, j, k]`` or a :class:`Surface` made from one with the same spacing.
        reference: likewise; pass a :class:`Surface` when one reference meets many predictions.
        spacing_mm: voxel size along ``(i, j, k)``.
        tolerance_mm: how far apart surfaces may lie, at least 0.

    Returns:
        A value in [0, 1]; 1 if both masks are empty, 0 if one is.

    Raises:
        PromptZooError: if spacing and mask disagree in their number of axes, or the tolerance is negative.
    """
    if tolerance_mm < 0:
        raise PromptZooError(complain("surface tolerance", tolerance_mm, "0 mm or more"))
    a = prediction if isinstance(prediction, Surface) else Surface(prediction, spacing_mm)
    b = reference if isinstance(reference, Surface) else Surface(reference, spacing_mm)
    total = a.sizes.sum() + b.sizes.sum()
    if total == 0:
        return 1.0
    return float((a.size_within(b, tolerance_mm) + b.size_within(a, tolerance_mm)) / total)


def gated_nsd(prediction: object, reference: object, spacing_mm: Sequence[float], dice_value: float) -> float:
    """Surface Dice at 2 mm as the CVPR 2025 challenge scores it: 0 when the Dice is at most 0.2."""
    return surface_dice(prediction, reference, spacing_mm) if dice_value > NSD_DICE_GATE else 0.0


def number_of_clicks(dice_per_click: Sequence[float], target: float = NOC_TARGET, before: float = 0.0) -> int:
    """Clicks needed until the Dice first reaches ``target``.

    Args:
        dice_per_click: Dice after 1, 2, … N clicks.
        target: the wanted Dice.
        before: Dice before the first click (after the box, for example); 0 clicks are needed if it reaches the target.

    Returns:
        0 … N, or **N + 1** if the target was never reached. (Much of the literature writes N there, which cannot be
        told from success at the last click.)
    """
    if before >= target:
        return 0
    return next((n for n, value in enumerate(dice_per_click, 1) if value >= target), len(dice_per_click) + 1)


def click_auc(values: Sequence[float], clicks: int = AUC_CLICKS) -> float | None:
    """Area under a score over the first ``clicks`` click points, trapezoid with unit steps (CVPR 2025).

    The start (box or nothing) is no point of the curve, so five perfect clicks give 4.0, not 5.0.

    Returns:
        The area, or None when fewer than ``clicks`` values are given (areas over fewer points do not compare).
    """
    if len(values) < clicks or clicks < 2:
        return None
    v = np.asarray(values[:clicks], dtype=float)
    return float(((v[1:] + v[:-1]) / 2).sum())


def expected_calibration_error(estimated: Sequence[float], true: Sequence[float], bins: int = 10) -> float | None:
    """Mean gap between estimated and true Dice over equal-width bins of the estimate, weighted by bin counts.

    Returns:
        A value in [0, 1], or None without samples.
    """
    e, t = np.clip(np.asarray(estimated, dtype=float), 0, 1), np.asarray(true, dtype=float)
    if e.size == 0:
        return None
    which = np.minimum((e * bins).astype(int), bins - 1)
    gaps = [np.count_nonzero(which == b) * abs(e[which == b].mean() - t[which == b].mean()) for b in np.unique(which)]
    return float(sum(gaps) / e.size)


def rank_correlation(estimated: Sequence[float], true: Sequence[float]) -> float | None:
    """Spearman rank correlation (ties share their mean rank), or None if it is undefined (< 2 samples, a constant)."""
    e, t = np.asarray(estimated, dtype=float), np.asarray(true, dtype=float)
    if e.size < 2 or np.ptp(e) == 0 or np.ptp(t) == 0:
        return None
    return float(np.corrcoef(rankdata(e), rankdata(t))[0, 1])


def calibration(estimated: Sequence[float | None], true: Sequence[float]) -> dict:
    """The calibration block of a results file, ``{"n", "ece", "spearman", "mean_estimated", "mean_true"}``.

    Pairs without an estimate are left out; with no pair at all the values are None.
    """
    pairs = [(float(e), float(t)) for e, t in zip(estimated, true) if e is not None]
    e, t = [p[0] for p in pairs], [p[1] for p in pairs]
    return {"n": len(pairs), "ece": expected_calibration_error(e, t), "spearman": rank_correlation(e, t),
            "mean_estimated": float(np.mean(e)) if e else None, "mean_true": float(np.mean(t)) if t else None}
