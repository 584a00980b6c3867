"""Evaluation of networks with one logit per pixel."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import nn


def full_size(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Logits on the pixels of a label."""
    return F.interpolate(logits.float(), size=label.shape[2:], mode="bilinear")


class BinaryEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator`` for networks with one logit per pixel.

    Args:
        label: key of the truth in a batch.
    """

    def __init__(self, label: str = CommonKeys.LABEL) -> None:
        self.label = label

    def logits(self, network: nn.Module, image: torch.Tensor, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """Answer of the network, at any size; the image alone decides unless a subclass adds something."""
        return network(image)

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate a batch: ``pred`` and ``label`` ``[B, 1, S, S]``, 0 or 1."""
        image, label = batchdata["image"].to(engine.state.device), batchdata[self.label].to(engine.state.device)
        network = engine.network.eval()
        with torch.inference_mode():
            logits = full_size(self.logits(network, image, batchdata), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label.float(), CommonKeys.PRED: (logits > 0).float()}
