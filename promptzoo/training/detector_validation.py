"""Validation of the detector on procedural scenes: average precision over pairs of a picture and a phrase."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import numpy as np
import torch
from ignite.metrics import Metric
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from promptzoo.evaluation.detection import average_precision
from promptzoo.inference.detector import Detector, DetectorParts, DetectorSettings


class DetectorEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``: boxes of every phrase of every picture."""

    def __call__(self, engine: Any, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        """Evaluate a batch of :class:`promptzoo.training.detector.SceneDataset`; ``pred`` is a list of boxes."""
        network = getattr(engine.network, "module", engine.network)
        image, found = batchdata["image"].float(), []
        parts = DetectorParts.of(network)
        side = int(image.shape[-1])
        detector = Detector(parts, DetectorSettings(size=side))
        for one, texts in zip(image.numpy(), batchdata["texts"]):
            tokens = np.asarray(parts.image_encoder(one[None])[0][0])
            found.append(detector.boxes(tokens, 1.0, (side, side), texts.split("\n")))
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: batchdata["boxes"], CommonKeys.PRED: found}


class PhraseAP(Metric):
    """AP at IoU 0.5, each pair of a picture and a phrase being a picture of one class; pairs with open objects are
    left out."""

    def __init__(self) -> None:
        super().__init__(output_transform=lambda output: (output[CommonKeys.PRED], output[CommonKeys.LABEL]))

    def reset(self) -> None:
        """Forget everything."""
        self._found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._truth: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, output: tuple[Sequence[Any], torch.Tensor]) -> None:
        """Take in one batch."""
        for field, found in zip(torch.as_tensor(output[1]).numpy(), output[0]):
            add_pairs(self._found, self._truth, field, found)

    def compute(self) -> float:
        """The AP50 so far."""
        return average_precision(self._found, self._truth, ["phrase"])["AP50"]


def add_pairs(found: list, truth: list, field: np.ndarray, boxes: Sequence[Any]) -> None:
    """Append the pairs of one picture to detections and truth, see :func:`average_precision`.

    Args:
        found, truth: lists that grow.
        field: see :func:`promptzoo.training.detector.boxes_field`.
        boxes: detections of each phrase.
    """
    used = field[field[:, 2] > 0]
    for number, one in enumerate(boxes):
        meant = used[:, 4 + number]
        if (meant == -1).any():
            continue
        found.append((one.boxes, np.zeros(len(one), int), one.scores))
        truth.append((used[meant == 1, :4].astype(float), np.zeros(int((meant == 1).sum()), int)))
