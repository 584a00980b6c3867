"""Training of networks that give all classes of a slice at once."""
from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import IterationEvents
from monai.losses import DiceCELoss
from monai.networks import one_hot
from monai.utils.enums import CommonKeys

from promptzoo.training.binary import full_size
from promptzoo.training.step import optimise


def class_dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice of each class beside the background over a batch, of those that occur.

    Args:
        logits: ``[B, 1 + C, *S]``.
        label: ``[B, 1, *S]`` int64.

    Returns:
        ``[at most C]`` in [0, 1].
    """
    found = one_hot(logits.argmax(1, keepdim=True), logits.shape[1])[:, 1:].transpose(0, 1).flatten(1)
    wanted = one_hot(label, logits.shape[1])[:, 1:].transpose(0, 1).flatten(1)
    there = wanted.sum(1) > 0
    return (2 * (found * wanted).sum(1) / (found.sum(1) + wanted.sum(1)).clamp(min=1))[there]


class ClassLoss(DiceCELoss):
    """0.8 Dice + 0.2 cross entropy over all classes (SAMed, Zhang and Liu 2023, section 3.4)."""

    def __init__(self) -> None:
        super().__init__(to_onehot_y=True, softmax=True, batch=True, lambda_dice=0.8, lambda_ce=0.2)


class ClassUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, amp: bool = True, clip_norm: float = 1.0) -> None:
        self.amp, self.clip_norm = amp, clip_norm

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on slices; returns image, label, pred (logits), the loss and the mean Dice of the classes."""
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        label = batchdata["label"].to(engine.state.device)
        network = engine.network
        network.train()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits = network(image)
        logits = full_size(logits, label)
        loss = engine.loss_function(logits, label)
        optimise(engine, loss, self.clip_norm)
        dice = class_dice(logits.detach(), label)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(dice.mean()) if len(dice) else 1.0]}


class ClassEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``; pred and label are one-hot.

    Args:
        amp: use bfloat16 autocast.
    """

    def __init__(self, amp: bool = False) -> None:
        self.amp = amp

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate slices: ``pred`` and ``label`` ``[B, 1 + C, *S]``."""
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        label = batchdata["label"].to(engine.state.device)
        network = engine.network
        network.eval()
        with torch.inference_mode(), torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits = full_size(network(image), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        count = logits.shape[1]
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: one_hot(label, count),
                CommonKeys.PRED: one_hot(logits.argmax(1, keepdim=True), count)}
