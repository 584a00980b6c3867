"""Average precision of boxes, as COCO defines it, by MONAI's ``COCOMetric``."""
from __future__ import annotations

from typing import Sequence

import numpy as np
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou

MOST_DETECTIONS = 100
"""Boxes per picture and class that count, as in COCO."""


def average_precision(found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
                      truth: Sequence[tuple[np.ndarray, np.ndarray]], classes: Sequence[str]) -> dict[str, float]:
    """AP of detections.

    Args:
        found: per picture boxes ``[n, 4]`` (``x0, y0, x1, y1``), class indices ``[n]``, scores ``[n]``.
        truth: per picture boxes ``[m, 4]`` and class indices ``[m]``.
        classes: names; a class without a box in ``truth`` is not scored.

    Returns:
        ``AP`` (mean over IoU 0.50 … 0.95), ``AP50``, ``AP75``, and for each class ``<name> AP`` and ``<name> AP50``,
        each in [0, 1].
    """
    present = sorted({int(c) for _, labels in truth for c in labels})
    if not present:
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    metric = COCOMetric([classes[c] for c in present], iou_list=[0.5, 0.75], iou_range=(0.5, 0.95, 0.05),
                        max_detection=[MOST_DETECTIONS], per_class=True, verbose=False)
    number = {c: n for n, c in enumerate(present)}
    kept = [np.array([int(c) in number for c in labels], bool) for _, labels, _ in found]
    results = matching_batch(
        box_iou, metric.iou_thresholds,
        [np.asarray(b, float).reshape(-1, 4)[k] for (b, _, _), k in zip(found, kept)],
        [np.array([number[int(c)] for c in np.asarray(c_)[k]], int) for (_, c_, _), k in zip(found, kept)],
        [np.asarray(s, float)[k] for (_, _, s), k in zip(found, kept)],
        [np.asarray(b, float).reshape(-1, 4) for b, _ in truth],
        [np.array([number[int(c)] for c in labels], int) for _, labels in truth], max_detections=MOST_DETECTIONS)
    told = metric(results)[0]
    names = {"AP": f"mAP_IoU_0.50_0.95_0.05_MaxDet_{MOST_DETECTIONS}", "AP50": f"AP_IoU_0.50_MaxDet_{MOST_DETECTIONS}",
             "AP75": f"AP_IoU_0.75_MaxDet_{MOST_DETECTIONS}"}
    scores = {name: float(max(0.0, told[key])) for name, key in names.items()}
    for c in present:
        for name in ("AP", "AP50"):
            scores[f"{classes[c]} {name}"] = float(max(0.0, told[f"{classes[c]}_{names[name]}"]))
    return scores
