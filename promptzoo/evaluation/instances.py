"""How well the objects of an image are found: matching of instances, and the summary of answers to class prompts."""
from __future__ import annotations

from typing import Sequence

import numpy as np

Counts = tuple[int, int, int]


def match(found: np.ndarray, wanted: np.ndarray, least_iou: float = 0.5) -> Counts:
    """Right, false and missed objects (Caicedo et al., Nature Methods 2019: F1 at an IoU threshold).

    Args:
        found, wanted: label maps of one shape, 0 for background.
        least_iou: an object is right if its intersection over union with a wanted one is above this; from one half on
            the match is unique.

    Raises:
        ValueError: for different shapes or a threshold below one half.
    """
    if found.shape != wanted.shape or least_iou < 0.5:
        raise ValueError(f"label maps {found.shape} and {wanted.shape}, IoU {least_iou}; allowed: one shape, IoU from "
                         "0.5")
    ids, columns = (np.unique(labels, return_inverse=True) for labels in (found, wanted))
    table = np.zeros((len(ids[0]), len(columns[0])), np.int64)
    np.add.at(table, (ids[1].ravel(), columns[1].ravel()), 1)
    rows, cols = ids[0] > 0, columns[0] > 0
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    right = int(((table / union)[np.ix_(rows, cols)] > least_iou).sum())
    return right, int(rows.sum()) - right, int(cols.sum()) - right


def f1(counts: Sequence[Counts]) -> float:
    """F1 of summed counts; 1 if there was nothing to find and nothing was found."""
    right, false, missed = np.sum(counts, 0) if len(counts) else (0, 0, 0)
    total = 2 * right + false + missed
    return 1.0 if total == 0 else float(2 * right / total)
