"""Training of SAM-like networks: one encoding, several interactions with a simulated annotator, one backward pass.

Kirillov et al., "Segment Anything", ICCV 2023, appendix A "training algorithm": the first prompt is a click or a box,
later clicks come from the error region, the previous mask is fed back, of several candidates only the best is trained.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.losses import DiceLoss, FocalLoss
from monai.utils.enums import CommonKeys
from torch import nn

from promptzoo.core.seeding import generator
from promptzoo.prompts.encoders.tokens import sam_prompt
from promptzoo.training.annotator import WindowAnnotator, WindowSession
from promptzoo.training.loss import hard_dice
from promptzoo.training.step import optimise


class SamLoss(nn.Module):
    """Dice + focal loss of the sharpened mask and of the decoder's masks, and the squared error of the predicted IoU.

    Of the candidates only the one of least loss counts, and only for ambiguous prompts; else the first mask counts.

    Args:
        focal_weight: weight of the focal term.
        low_weight: weight of the decoder's masks beside the sharpened one.
        iou_weight: weight of the predicted IoU.
    """

    def __init__(self, focal_weight: float = 2.0, low_weight: float = 0.5, iou_weight: float = 0.5) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
        self.focal = FocalLoss(gamma=1.0, reduction="none")
        self.focal_weight, self.low_weight, self.iou_weight = focal_weight, low_weight, iou_weight

    def per_mask(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Loss ``[B, N]`` of logits ``[B, N, *S]`` against label ``[B, 1, *S]``."""
        batch, count = logits.shape[:2]
        flat = logits.reshape(batch * count, 1, *logits.shape[2:])
        wanted = label.expand_as(logits).reshape(flat.shape)
        focal = self.focal(flat, wanted).flatten(1).mean(1)
        return (self.dice(flat, wanted).flatten(1).mean(1) + self.focal_weight * focal).reshape(batch, count)

    def forward(self, logits: torch.Tensor, masks: torch.Tensor, ious: torch.Tensor, label: torch.Tensor,
                ambiguous: torch.Tensor) -> torch.Tensor:
        """Scalar loss of one interaction.

        Args:
            logits: ``[B, 1, S, S]``, sharpened.
            masks: ``[B, 1 + C, S/4, S/4]``.
            ious: predicted, ``[B, 1 + C]``.
            label: ``[B, 1, S, S]`` float, 0 or 1.
            ambiguous: ``[B]`` bool.
        """
        small = F.interpolate(label, size=masks.shape[2:], mode="area")
        low = self.per_mask(masks, small)
        chosen = torch.where(ambiguous, low[:, 1:].min(1).values + 0.2 * low[:, 0], low[:, 0])
        loss = self.per_mask(logits, label).mean() + self.low_weight * chosen.mean()
        hit, there = masks.detach() > 0, small > 0.5
        union = (hit | there).flatten(2).sum(2)
        iou = (hit & there).flatten(2).sum(2) / union.clamp(min=1)
        return loss + self.iou_weight * (ious - iou).square().mean()


def asked_slice(image: torch.Tensor) -> np.ndarray:
    """The slice that prompts are about, ``[B, S, S]``: the middle one of windows ``[B, slices, S, S]``."""
    return image.cpu().numpy()[:, image.shape[1] // 2]


def drawn(sessions: Sequence[WindowSession], windows: np.ndarray, device: torch.device | str
          ) -> tuple[torch.Tensor, ...]:
    """Points, labels and dense maps of the sessions' prompts in windows ``[B, S, S]``; which are ambiguous ``[B]``."""
    prompts = [sam_prompt(session.prompts(), window) for session, window in zip(sessions, windows)]
    fields = [np.stack([getattr(p, name) for p in prompts]) for name in ("points", "labels", "dense", "ambiguous")]
    return tuple(torch.from_numpy(field).to(device) for field in fields)


def answer(sessions: Sequence[WindowSession], logits: torch.Tensor, rng: np.random.Generator) -> None:
    """Let the annotators see the masks and correct them."""
    for session, chance in zip(sessions, torch.sigmoid(logits.detach().float()).cpu().numpy()[:, 0]):
        session.correct(chance, rng)


class SamUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``.

    Args:
        annotator: simulated annotator of windows.
        rounds: probability of training with 1, 2, 3 … interactions on a batch.
        seed: seed of all draws; iteration ``n`` of a run always draws the same numbers.
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        train_encoder: False trains prompt encoder and decoder only.
    """

    def __init__(self, annotator: WindowAnnotator, rounds: Sequence[float] = (0.3, 0.35, 0.35), seed: int = 0,
                 amp: bool = True, clip_norm: float = 1.0, train_encoder: bool = True) -> None:
        self.annotator, self.seed, self.amp, self.clip_norm = annotator, seed, amp, clip_norm
        self.rounds, self.train_encoder = np.asarray(rounds, dtype=float) / np.sum(rounds), train_encoder

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label, pred (logits of the last interaction) and losses."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, engine.network
        image = batchdata["image"].to(device, dtype=torch.float32)
        label = batchdata["label"].to(device, dtype=torch.float32)
        truth, windows = batchdata["label"].cpu().numpy().astype(bool)[:, 0], asked_slice(batchdata["image"])
        bare = getattr(network, "module", network)
        network.train()
        sessions = [self.annotator.start(mask, rng) for mask in truth]
        total, logits, dices = image.new_zeros(()), None, []
        rounds = 1 + int(rng.choice(len(self.rounds), p=self.rounds))
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp), \
                torch.set_grad_enabled(self.train_encoder):
            encoded = bare.image_encoder(image.contiguous(memory_format=torch.channels_last))
        for _ in range(rounds):
            points, labels, dense, ambiguous = drawn(sessions, windows, device)
            with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
                logits, _, masks, ious = bare.decode(*encoded, points, labels, dense)
            logits = logits.float()
            total = total + engine.loss_function(logits, masks.float(), ious.float(), label, ambiguous)
            dices.append(float(hard_dice(logits, label).mean()))
            answer(sessions, logits, rng)
        optimise(engine, total / rounds, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(total.detach()) / rounds, "dice_per_round": dices}


class SamEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``: a tight box or a click, then corrective clicks.

    Args:
        clicks: corrective clicks after the first prompt.
        seed: seed of the annotator.
        amp: use bfloat16 autocast.
    """

    def __init__(self, clicks: int = 2, seed: int = 0, amp: bool = False) -> None:
        self.annotator = WindowAnnotator(first=(0.5, 0.5, 0.0, 0.0, 0.0), box_styles=(1.0, 0.0, 0.0, 0.0),
                                         correct_by=(1.0, 0.0, 0.0), forget_previous=0.0)
        self.clicks, self.seed, self.amp = clicks, seed, amp

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate a batch; ``pred`` holds the final masks ``[B, 1, *S]``, ``dice_per_round`` the curve."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(device, dtype=torch.float32)
        label = batchdata["label"].to(device, dtype=torch.float32)
        truth, windows = batchdata["label"].cpu().numpy().astype(bool)[:, 0], asked_slice(batchdata["image"])
        sessions, curve = [self.annotator.start(mask, rng) for mask in truth], []
        network.eval()
        with torch.inference_mode(), torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            encoded = network.image_encoder(image)
            for _ in range(1 + self.clicks):
                points, labels, dense, _ = drawn(sessions, windows, device)
                logits = network.decode(*encoded, points, labels, dense)[0].float()
                curve.append(hard_dice(logits, label).cpu())
                answer(sessions, logits, rng)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: (logits > 0).float(),
                "dice_per_round": torch.stack(curve, 1)}
