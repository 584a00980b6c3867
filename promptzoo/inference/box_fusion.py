"""Several sets of boxes to one: non-maximum suppression, and weighted boxes fusion."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from monai.data.box_utils import box_iou, non_max_suppression


@dataclass(frozen=True, eq=False)
class Boxes:
    """Scored boxes.

    Args:
        boxes: ``[n, 4]`` float ``x0, y0, x1, y1``.
        scores: ``[n]`` in [0, 1], falling.
    """

    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, boxes: object, scores: object) -> "Boxes":
        """Sorted by score."""
        values = np.asarray(scores, np.float64).reshape(-1)
        order = np.argsort(-values, kind="stable")
        return cls(np.asarray(boxes, np.float64).reshape(-1, 4)[order], values[order])

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score: float) -> "Boxes":
        """Those of at least this score."""
        return Boxes(self.boxes[self.scores >= score], self.scores[self.scores >= score])


def suppressed(found: Boxes, iou: float = 0.5) -> Boxes:
    """Without the boxes that share more than ``iou`` with one of a higher score."""
    if not len(found):
        return found
    kept = np.asarray(non_max_suppression(found.boxes, found.scores, iou))
    return Boxes.of(found.boxes[kept], found.scores[kept])


def fused(sets: Sequence[Boxes], weights: Sequence[float] | None = None, iou: float = 0.55) -> Boxes:
    """Weighted boxes fusion (Solovyev et al., Image and Vision Computing 2021, section 3).

    Boxes of all sets, highest score first, join the cluster whose fused box they overlap most, by more than ``iou``,
    or open a new one. A fused box is the mean of its members weighted by their scores; its score is their mean, lowered
    by the share of the sets that did not see it (equation 6).

    Args:
        sets: boxes of each model, or of each caption of one.
        weights: how reliable each set is; all the same if None.
        iou: see above.
    """
    trust = np.ones(len(sets)) if weights is None else np.asarray(weights, float)
    if not len(sets) or trust.sum() <= 0:
        return Boxes.of([], [])
    trust = trust / trust.mean()
    pool = sorted(((score * trust[n], n, box) for n, one in enumerate(sets)
                   for score, box in zip(one.scores, one.boxes)), key=lambda entry: -entry[0])
    clusters: list[list[tuple[float, int, np.ndarray]]] = []
    middle = np.zeros((0, 4))
    for entry in pool:
        shared = box_iou(entry[2][None], middle)[0] if len(clusters) else np.zeros(0)
        best = int(np.argmax(shared)) if len(shared) else -1
        if best >= 0 and shared[best] > iou:
            clusters[best].append(entry)
            weight = np.array([e[0] for e in clusters[best]])
            middle[best] = (np.array([e[2] for e in clusters[best]]) * weight[:, None]).sum(0) / weight.sum()
        else:
            clusters.append([entry])
            middle = np.concatenate([middle, entry[2][None]])
    scores = [np.mean([e[0] for e in cluster]) * min(len({e[1] for e in cluster}), len(sets)) / len(sets)
              for cluster in clusters]
    return Boxes.of(middle, np.clip(scores, 0, 1))
