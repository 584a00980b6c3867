"""Training with deliberately poor prompts: boxes beside the object, clicks anywhere in it.

The mixture of clean and poor prompts is ours; losses as in Gao et al., DeSAM (MICCAI 2024): Dice and cross-entropy of
the mask, squared error of the predicted IoU. Boxes are corrected after Huang et al., "Robust Box
Prompt based SAM for Medical Image Segmentation" (arXiv 2407.21284).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.losses.giou_loss import BoxGIoULoss
from monai.utils.enums import CommonKeys
from torch import nn

from promptzoo.core.seeding import generator
from promptzoo.prompts.encoders.tokens import CORNER_LOW
from promptzoo.prompts.simulators import boxes
from promptzoo.training.annotator import WindowAnnotator, WindowSession
from promptzoo.training.loss import hard_dice
from promptzoo.training.sam import SamUpdate, answer, drawn
from promptzoo.training.step import optimise

Faces = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class NoisyAnnotator(WindowAnnotator):
    """A :class:`WindowAnnotator` of unsteady hand.

    Args:
        clean: share of boxes that are exact.
        shift: largest shift of the other boxes along each axis, in sides of the object.
        scale: largest change of their sides, as a natural logarithm.
    """

    clean: float = 0.25
    shift: float = 0.5
    scale: float = 0.4

    def start(self, truth: np.ndarray, rng: np.random.Generator) -> WindowSession:
        """Begin a session; a first click lies anywhere in the object."""
        session = super().start(truth, rng)
        if session.previous is None and len(session.positive) == 1 and not session.negative:
            places = np.argwhere(truth)
            session.positive = [places[rng.integers(len(places))].astype(np.float32)]
        return session

    def _box(self, truth: np.ndarray, rng: np.random.Generator) -> Faces:
        low, high = (np.asarray(face, float) - 0.5 for face in boxes.tight(truth))
        if rng.random() < self.clean:
            return low, high
        return noisy_box(low, high, rng.uniform(0.1, 1) * self.shift, rng.uniform(0, 1) * self.scale, rng)


def noisy_box(low: np.ndarray, high: np.ndarray, shift: float, scale: float, rng: np.random.Generator) -> Faces:
    """A box moved by up to ``shift`` sides along each axis, its sides changed by up to the factor ``exp(scale)``."""
    side = high - low
    middle = (low + high) / 2 + rng.uniform(-shift, shift, len(side)) * side
    half = side / 2 * np.exp(rng.uniform(-scale, scale, len(side)))
    return middle - half, middle + half


class DecoupledLoss(nn.Module):
    """Dice and cross-entropy of the mask, at a quarter of the resolution too, and squared error of the predicted IoU.

    Args:
        low_weight: weight of the mask at a quarter of the resolution.
        iou_weight: weight of the predicted IoU.
    """

    def __init__(self, low_weight: float = 0.4, iou_weight: float = 1.0) -> None:
        super().__init__()
        self.mask = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
        self.low_weight, self.iou_weight = low_weight, iou_weight

    def forward(self, logits: torch.Tensor, masks: torch.Tensor, ious: torch.Tensor, label: torch.Tensor,
                ambiguous: torch.Tensor) -> torch.Tensor:
        """Scalar loss; arguments as in :class:`promptzoo.training.sam.SamLoss`, with one mask and no candidates."""
        small = F.interpolate(label, size=masks.shape[2:], mode="area")
        loss = self.mask(logits, label) + self.low_weight * self.mask(masks, (small > 0.5).to(label.dtype))
        hit, there = logits.detach() > 0, label > 0.5
        iou = (hit & there).flatten(1).sum(1) / (hit | there).flatten(1).sum(1).clamp(min=1)
        return loss + self.iou_weight * (ious[:, 0] - iou).square().mean()


class BoxLoss(nn.Module):
    """Smooth L1 (in sides of the true box) and generalised IoU of boxes, and cross-entropy of the coarse mask.

    Args:
        overlap_weight: weight of the generalised IoU.
        mask_weight: weight of the coarse mask.
    """

    def __init__(self, overlap_weight: float = 0.5, mask_weight: float = 0.5) -> None:
        super().__init__()
        self.overlap, self.overlap_weight, self.mask_weight = BoxGIoULoss(), overlap_weight, mask_weight

    def forward(self, found: torch.Tensor, truth: torch.Tensor, coarse: torch.Tensor, mask: torch.Tensor
                ) -> torch.Tensor:
        """Scalar loss of faces ``[B, 4]`` against ``[B, 4]``, of logits ``[B, 1, R, R]`` against a mask of that
        shape."""
        side = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
        loss = F.smooth_l1_loss((found - truth) / side, torch.zeros_like(truth), beta=0.1)
        loss = loss + self.overlap_weight * self.overlap(found, truth)
        return loss + self.mask_weight * F.binary_cross_entropy_with_logits(coarse, mask)


def disagreement(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Consistency of two answers: squared difference of probabilities over their sum, mean over ``[B, 1, *S]``."""
    one, other = (torch.sigmoid(logits).flatten(1) for logits in (first, second))
    return ((one - other).square().sum(1) / (one + other).sum(1).clamp(min=1)).mean()


def faces_of(box: Faces) -> np.ndarray:
    """A session's box as ``[4]``: row low, column low, row high, column high."""
    return np.concatenate(box).astype(np.float32)


class NoisyUpdate(SamUpdate):
    """A :class:`SamUpdate` for :class:`promptzoo.networks.desam.NoiseRobustSam`, with a frozen encoder.

    Boxes of a first interaction are corrected, most of them before the masks are asked for; gradients of the masks
    reach the correction through the corner tokens.

    Args:
        annotator, rounds, seed, amp, clip_norm: see :class:`SamUpdate`.
        box_weight: weight of the correction's loss.
        keep_given: share of batches whose masks are asked for with the given boxes.
        consistency: weight of the agreement between the masks of two jitters of a box; 0 leaves the second out.
        twins: share of batches that have a second jitter.
        jitter: standard deviation of the faces of the second box, in sides of the first.
    """

    def __init__(self, annotator: WindowAnnotator, rounds: Sequence[float] = (0.75, 0.25), seed: int = 0,
                 amp: bool = True, clip_norm: float = 1.0, box_weight: float = 1.0, keep_given: float = 0.35,
                 consistency: float = 0.0, twins: float = 0.35, jitter: float = 0.1) -> None:
        super().__init__(annotator, rounds, seed, amp, clip_norm, train_encoder=False)
        self.box_weight, self.keep_given, self.box_loss = box_weight, keep_given, BoxLoss()
        self.consistency, self.twins, self.jitter = consistency, twins, jitter

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label, pred (logits of the last interaction) and losses."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(device, dtype=torch.float32)
        label = batchdata["label"].to(device, dtype=torch.float32)
        truth, windows = batchdata["label"].cpu().numpy().astype(bool)[:, 0], batchdata["image"].cpu().numpy()[:, 0]
        engine.network.train()
        with torch.no_grad(), torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            encoded = network.image_encoder(image.contiguous(memory_format=torch.channels_last))
        encoded = [part.float() for part in encoded]
        sessions = [self.annotator.start(mask, rng) for mask in truth]
        twins = self._twins(sessions, rng) if self.consistency and rng.random() < self.twins else []
        corrects = network.box_refiner is not None and self.box_weight > 0
        use, total, dices, twin_logits = rng.random() >= self.keep_given, image.new_zeros(()), [], None
        rounds = 1 + int(rng.choice(len(self.rounds), p=self.rounds))
        for number in range(rounds):
            moved = None
            if corrects and number == 0:
                moved, loss = self._correct(network, encoded, sessions, windows, truth)
                total = total + self.box_weight * rounds * loss
                if use:
                    take(sessions, moved)
            logits, masks, ious, ambiguous = self._decode(network, encoded, sessions, windows, moved if use else None)
            total = total + engine.loss_function(logits, masks, ious, label, ambiguous)
            dices.append(float(hard_dice(logits, label).mean()))
            if twins and number == 0:
                moved = None
                if corrects:
                    moved, loss = self._correct(network, encoded, twins, windows, truth)
                    total = total + self.box_weight * rounds * loss
                    if use:
                        take(twins, moved)
                twin_logits = self._decode(network, encoded, twins, windows, moved if use else None)[0]
                total = total + self.consistency * rounds * disagreement(logits, twin_logits)
            answer(sessions, logits, rng)
        optimise(engine, total / rounds, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(total.detach()) / rounds, "dice_per_round": dices}

    def _twins(self, sessions: Sequence[WindowSession], rng: np.random.Generator) -> list[WindowSession]:
        """The same sessions with each box's faces shifted again."""
        found = []
        for session in sessions:
            twin = replace(session, positive=list(session.positive), negative=list(session.negative))
            if session.box is not None:
                low, high = session.box
                shifts = rng.normal(0, self.jitter, (2, len(low))) * (high - low)
                twin.box = (np.minimum(low + shifts[0], high - 0.5), np.maximum(high + shifts[1], low + 0.5))
            found.append(twin)
        return found

    def _correct(self, network: Any, encoded: Sequence[torch.Tensor], sessions: Sequence[WindowSession],
                 windows: np.ndarray, truth: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Corrected faces ``[B, 4]`` (those of sessions without a box mean nothing) and the loss of the others."""
        device, side = encoded[0].device, windows.shape[-1]
        has = np.array([session.box is not None for session in sessions])
        given = np.stack([np.array([0, 0, side, side], np.float32) if session.box is None else faces_of(session.box)
                          for session in sessions])
        dense = drawn(sessions, windows, device)[2]
        box = torch.from_numpy(given).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
            found, coarse = network.correct(*encoded, dense, box)
        if not has.any():
            return found.float(), 0.0 * found.sum()
        keep = torch.from_numpy(has).to(device)
        wanted = torch.from_numpy(np.stack([faces_of(boxes.tight(mask)) - 0.5 for mask in truth])).to(device)
        rows, columns = (at.round().long().clamp(0, side - 1) for at in network.box_refiner.places(box))
        there = torch.from_numpy(truth).to(device)
        small = there[torch.arange(len(there))[:, None, None], rows[:, :, None], columns[:, None]][:, None].float()
        loss = self.box_loss(found.float()[keep], wanted[keep], coarse.float()[keep], small[keep])
        return found.float(), loss

    def _decode(self, network: Any, encoded: Sequence[torch.Tensor], sessions: Sequence[WindowSession],
                windows: np.ndarray, moved: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Logits, masks, IoUs and which prompts are ambiguous; ``moved`` faces take the place of the corner tokens."""
        device, side = encoded[0].device, windows.shape[-1]
        points, labels, dense, ambiguous = drawn(sessions, windows, device)
        if moved is not None:
            corners = torch.stack([moved[:, [1, 0]], moved[:, [3, 2]]], 1).clamp(-0.5, side - 0.5)
            boxed = (labels[:, :2] >= CORNER_LOW)[..., None]
            points = torch.cat([torch.where(boxed, corners, points[:, :2]), points[:, 2:]], 1)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits, _, masks, ious = network.decode(*encoded, points, labels, dense)
        return logits.float(), masks.float(), ious.float(), ambiguous


def take(sessions: Sequence[WindowSession], faces: torch.Tensor) -> None:
    """Give the sessions that have a box the corrected one."""
    for session, row in zip(sessions, faces.detach().cpu().numpy().astype(float)):
        if session.box is not None:
            session.box = (row[:2], row[2:])
