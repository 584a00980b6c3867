"""Training of SAM-like networks for volumes: one encoding, several interactions, one backward pass.

As :mod:`promptzoo.training.sam`, with one mask per prompt (as SAM-Med3D trains) and, for ProMISe (Li et al., "ProMISe:
Prompt-driven 3D medical image segmentation using pretrained image foundation models", ISBI 2024, boundary-aware loss),
a term on the mask's edges.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss, FocalLoss
from monai.utils.enums import CommonKeys
from torch import nn

from promptzoo.core.seeding import generator
from promptzoo.networks.sam3d import without_places
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.kept_windows import encoded_of
from promptzoo.training.loss import hard_dice
from promptzoo.training.sam import answer, drawn
from promptzoo.training.step import mixed_precision, optimise

MAP_SCALE = 3.0
"""Size of a prompt map in :func:`retelling`, over that of the embedding."""


class VolumeLoss(nn.Module):
    """Dice + focal loss of the mask, the squared error of the predicted IoU, and optionally the edges' difference.

    Args:
        focal_weight: weight of the focal term.
        iou_weight: weight of the predicted IoU.
        boundary_weight: weight of :func:`edge_difference`; 0 leaves it out.
        balance: 0 for the focal term; else cross entropy takes its place, in which a voxel of the object counts this
            many times: a network that answers nothing at first learns little from a term that nearly all voxels agree
            with.
    """

    def __init__(self, focal_weight: float = 2.0, iou_weight: float = 0.5, boundary_weight: float = 0.0,
                 balance: float = 0.0) -> None:
        super().__init__()
        self.balance = balance
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
        self.focal = FocalLoss(gamma=1.0)
        self.focal_weight, self.iou_weight, self.boundary_weight = focal_weight, iou_weight, boundary_weight

    def forward(self, logits: torch.Tensor, iou: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of one interaction.

        Args:
            logits: ``[B, 1, *S]``.
            iou: predicted, ``[B, 1]``.
            label: ``[B, 1, *S]`` float, 0 or 1.
        """
        if self.balance:
            loss = self.dice(logits, label) + F.binary_cross_entropy_with_logits(
                logits, label, pos_weight=logits.new_tensor(self.balance))
        else:
            loss = self.dice(logits, label) + self.focal_weight * self.focal(logits, label)
        if self.boundary_weight:
            loss = loss + self.boundary_weight * edge_difference(torch.sigmoid(logits), label)
        true = hard_dice(logits, label)
        return loss + self.iou_weight * (iou[:, 0] - true / (2 - true)).square().mean()


def edges(mask: torch.Tensor) -> torch.Tensor:
    """How much each voxel of a mask or probability ``[B, 1, *S]`` differs from the mean of its 3 x 3 x 3 neighbours."""
    around = F.avg_pool3d(F.pad(mask, (1,) * 6, mode="replicate"), 3, stride=1)
    return (mask - around).abs()


def edge_difference(chance: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Squared difference of the edges of a probability and of a label ``[B, 1, *S]``, over the label's own edges.

    ProMISe compares the edges of the label with those of the decided mask, through which no gradient flows; here they
    are those of the probability. Divided by the sum of the label's edges, so that large and small objects count alike.
    """
    wanted, axes = edges(label), tuple(range(1, label.dim()))
    off = (edges(chance) - wanted).square().sum(axes)
    return (off / wanted.square().sum(axes).clamp(min=1.0)).mean()


def retelling(attended: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
    """How badly the first channels of the attended embedding retell the prompt maps.

    Args:
        attended: the embedding after it met the tokens, ``[B, hidden, *S / 8]``.
        dense: prompt maps ``[B, 12, *S / 2]``.

    Returns:
        Mean squared difference, scalar; maps count three times, as the embedding is of unit variance.
    """
    wanted = MAP_SCALE * F.avg_pool3d(dense, dense.shape[2] // attended.shape[2])
    return (attended[:, :dense.shape[1]].float() - wanted).square().mean()


class VolumeUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``; windows of
    :class:`promptzoo.training.kept_windows.KeptWindows` are not encoded again.

    Args:
        annotator: simulated annotator of windows.
        rounds: probability of training with 1, 2, 3 … interactions on a batch.
        seed: seed of all draws; iteration ``n`` of a run always draws the same numbers.
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        tokens_alone: probability that clicks and boxes of a batch reach the network by their tokens alone (see
            :func:`promptzoo.networks.sam3d.without_places`); else nothing makes it listen to its tokens, because maps
            are quicker to learn from.
        train_encoder: False trains everything but the image encoder.
        retell: weight of :func:`retelling`, which teaches tokens quickly where they point; 0 leaves it out.
    """

    def __init__(self, annotator: WindowAnnotator, rounds: Sequence[float] = (0.35, 0.35, 0.3), seed: int = 0,
                 amp: bool = True, clip_norm: float = 3.0, tokens_alone: float = 0.0,
                 train_encoder: bool = True, retell: float = 0.0) -> None:
        self.annotator, self.seed, self.amp, self.clip_norm = annotator, seed, amp, clip_norm
        self.tokens_alone, self.train_encoder, self.retell = tokens_alone, train_encoder, retell
        self.rounds = np.asarray(rounds, dtype=float) / np.sum(rounds)

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label, pred (logits of the last interaction) and losses."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, engine.network
        image = batchdata["image"].to(device, dtype=torch.float32)
        label = batchdata["label"].to(device, dtype=torch.float32)
        truth, windows = batchdata["label"].cpu().numpy().astype(bool)[:, 0], batchdata["image"].cpu().numpy()[:, 0]
        bare = getattr(network, "module", network)
        network.train()
        sessions = [self.annotator.start(mask, rng) for mask in truth]
        total, logits, dices = image.new_zeros(()), None, []
        rounds = 1 + int(rng.choice(len(self.rounds), p=self.rounds))
        alone = bool(rng.random() < self.tokens_alone)
        encoded = encoded_of(batchdata, device)
        if encoded is None:
            with mixed_precision(image, self.amp), torch.set_grad_enabled(self.train_encoder):
                encoded = bare.image_encoder(image.contiguous(memory_format=torch.channels_last_3d))
        for _ in range(rounds):
            points, labels, dense, _ = drawn(sessions, windows, device)
            if self.retell:
                total = total + self.retell * retelling(bare.attend(encoded[-2], points, labels)[1], dense)
            dense = without_places(dense) if alone else dense
            with mixed_precision(image, self.amp):
                logits, iou = bare.decode(*encoded, points, labels, dense)[:2]
            logits = logits.float()
            total = total + engine.loss_function(logits, iou.float(), label)
            dices.append(float(hard_dice(logits, label).mean()))
            answer(sessions, logits, rng)
        optimise(engine, total / rounds, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(total.detach()) / rounds, "dice_per_round": dices}
