"""Loss of interactive training."""
from __future__ import annotations

import torch
from monai.losses import DiceLoss, FocalLoss
from torch import nn


class InteractionLoss(nn.Module):
    """Soft Dice + focal cross-entropy, a monotonicity penalty, consistency, and the loss of the estimated-Dice head.

    The penalty is the amount by which a sample's loss exceeds its loss one interaction earlier: a correct further
    prompt must not make the mask worse (family notes of interactive-refinement, step 5). Consistency is the squared
    difference between the probabilities of two interactions in a row where no new prompt fell (same notes; our reading
    of how PE-MED, Chang et al., MLMI 2023, stabilises a series of interactions).

    Args:
        focal_weight: weight of the focal term.
        focal_gamma: focusing exponent; small, because early masks are mostly wrong.
        monotone_weight: weight of the monotonicity penalty.
        quality_weight: weight of the squared error of the estimated Dice.
        consistency_weight: weight of the consistency term.
    """

    def __init__(self, focal_weight: float = 2.0, focal_gamma: float = 1.0, monotone_weight: float = 0.2,
                 quality_weight: float = 0.5, consistency_weight: float = 0.0) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, reduction="none", smooth_nr=1.0, smooth_dr=1.0)
        self.focal = FocalLoss(gamma=focal_gamma, reduction="none")
        self.focal_weight, self.monotone_weight, self.quality_weight = focal_weight, monotone_weight, quality_weight
        self.consistency_weight = consistency_weight

    def forward(self, logits: torch.Tensor, quality: torch.Tensor, label: torch.Tensor,
                before: torch.Tensor | None = None, earlier: torch.Tensor | None = None,
                far: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of one interaction.

        Args:
            logits: ``[B, 1, *S]``.
            quality: estimated-Dice logits ``[B, 1]``.
            label: ``[B, 1, *S]`` float, 0 or 1.
            before: per-sample loss of the interaction before ``[B]``, or None.
            earlier: probability of the interaction before ``[B, 1, *S]``, or None.
            far: where no new prompt fell since then ``[B, 1, *S]`` float, 0 or 1; None for nowhere.

        Returns:
            The scalar loss and the per-sample mask loss ``[B]`` (detached).
        """
        axes = tuple(range(1, logits.dim()))
        mask_loss = self.dice(logits, label).mean(axes) + self.focal_weight * self.focal(logits, label).mean(axes)
        loss = mask_loss.mean()
        if before is not None and self.monotone_weight:
            loss = loss + self.monotone_weight * torch.relu(mask_loss - before).mean()
        if self.consistency_weight and earlier is not None and far is not None:
            change = (torch.sigmoid(logits) - earlier).square() * far
            loss = loss + self.consistency_weight * change.sum() / far.sum().clamp(min=1)
        true_dice = hard_dice(logits, label)
        loss = loss + self.quality_weight * (torch.sigmoid(quality[:, 0]) - true_dice).square().mean()
        return loss, mask_loss.detach()


def hard_dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice ``[B]`` of the masks ``logits > 0`` against ``label`` ``[B, 1, *S]``; two empty masks give 1."""
    axes = tuple(range(1, logits.dim()))
    mask = (logits.detach() > 0).to(label.dtype)
    total = mask.sum(axes) + label.sum(axes)
    return torch.where(total > 0, 2 * (mask * label).sum(axes) / total.clamp(min=1), torch.ones_like(total))
