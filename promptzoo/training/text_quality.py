"""Training of the estimate how good a mask is for what it is said to be."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import nn

from promptzoo.training.kept_scenes import Kept, KeptScenes, features_of
from promptzoo.training.step import optimise
from promptzoo.training.text_universal import to_device

DAMAGED_SHARE, OTHER_SHARE = 0.45, 0.15
"""Of the masks that are judged: those made of the truth, and those of another structure; the rest are answers of the
network at some threshold."""


def damaged(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask with the errors that masks have: moved, too large, too small, half of it, leaking, or as it was.

    Args:
        mask: ``[*S]`` bool.
        rng: source of all draws.
    """
    kind = int(rng.integers(6))
    if kind == 0 or not mask.any():
        return mask
    size = max(1.0, float(mask.sum()) ** (1 / 3))
    if kind == 1:
        moved = np.rint(rng.normal(0, 0.25 * size, 3)).astype(int)
        return ndimage.shift(mask.astype(np.uint8), moved, order=0).astype(bool)
    if kind in (2, 3):
        steps = int(rng.integers(1, 2 + int(0.2 * size)))
        grow = ndimage.binary_dilation if kind == 2 else ndimage.binary_erosion
        return grow(mask, iterations=steps)
    at = np.argwhere(mask)
    if kind == 4:
        along = at @ rng.normal(size=3)
        kept = at[along < np.quantile(along, rng.uniform(0.1, 0.9))]
        found = np.zeros_like(mask)
        found[tuple(kept.T)] = True
        return found
    centre, radius = at[int(rng.integers(len(at)))], size * rng.uniform(0.3, 1.2)
    grids = np.ogrid[tuple(slice(n) for n in mask.shape)]
    ball = sum((g - c) ** 2 for g, c in zip(grids, centre)) < radius ** 2
    return np.asarray(mask | ball)


class MaskScenes(KeptScenes):
    """Kept scenes with a mask to be judged for each structure asked for; arguments as there."""

    def told(self, kept: Kept, asked: dict[str, torch.Tensor], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """An item, with ``masks`` ``[C, N]`` float32 and ``levels`` ``[C]``: where a level is above 0 the mask is what
        the network answers at that probability, with the name of structure ``heard`` ``[C]``."""
        label = asked["label"].numpy() > 0.5
        masks, levels, heard = label.copy(), np.zeros(len(label), np.float32), np.arange(len(label))
        numbers = {int(v): n for n, v in enumerate(np.unique(kept.structure))}
        for n, own in enumerate(label):
            draw = rng.random()
            other = int(rng.integers(len(label)))
            if draw < DAMAGED_SHARE and own.any():
                value = int(kept.structure.ravel()[kept.chosen[np.flatnonzero(own)[0]]])
                masks[n] = damaged(kept.structure == value, rng).ravel()[kept.chosen]
            elif draw < DAMAGED_SHARE + OTHER_SHARE and len(numbers) > 1:
                masks[n] = label[other]
            else:
                levels[n] = rng.uniform(0.1, 0.7)
                heard[n] = other if rng.random() < 0.15 else n
        return {**super().told(kept, asked, rng), "masks": torch.from_numpy(masks.astype(np.float32)),
                "grey": torch.from_numpy(kept.grey),
                "levels": torch.from_numpy(levels), "heard": torch.from_numpy(heard)}


class QualityLoss(nn.Module):
    """Squared error, heavier for bad masks, and the order of pairs of like names.

    Chen et al., 2024, and their code: weights of 7, 5, 3, 2, 1 for a Dice up to 0.3, 0.5, 0.7, 0.9, 1; pairs are those
    of an optimal assignment by the likeness of their text vectors.

    Args:
        rank_weight: of the order.
        opinion_weight: of where the structure is thought to be, beside the truth; ours.
    """

    def __init__(self, rank_weight: float = 1.0, opinion_weight: float = 0.5) -> None:
        super().__init__()
        self.rank_weight, self.opinion_weight = rank_weight, opinion_weight

    def forward(self, estimate: torch.Tensor, dice: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Mean loss of estimates and true Dice ``[B]`` of masks with these text vectors ``[B, T]``."""
        heavy = 1 + (dice <= 0.9).float() + (dice <= 0.7) + 2.0 * (dice <= 0.5) + 2.0 * (dice <= 0.3)
        squared = (heavy * (estimate - dice) ** 2).mean()
        alike = (text @ text.T).detach().cpu().numpy().copy()
        np.fill_diagonal(alike, -1e6)
        first, second = (torch.from_numpy(each) for each in linear_sum_assignment(-alike))
        order = F.relu(-(estimate[first] - estimate[second]) * (dice[first] - dice[second]) + 1e-4).mean()
        return squared + self.rank_weight * order


def judged(network: Any, scene: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Estimated Dice and true Dice ``[B]`` of the masks of a scene, and logits ``[B, N]`` of where the structures are
    thought to be. Empty masks are left out of what is judged: their estimates are those of an empty mask."""
    voxels, scales = features_of(scene)
    text, label, weight = scene["text"], scene["label"], scene["weight"]
    with torch.no_grad():
        plain = network.head(text, torch.zeros_like(scene["spatial"])[..., None, None], voxels, *scales)
        answer = plain.flatten(1)[scene["heard"]]
        level = scene["levels"][:, None]
        mask = torch.where(level > 0, (torch.sigmoid(answer) >= level).float(), scene["masks"])
        dice = 2 * (mask * label * weight).sum(1) / ((mask + label) * weight).sum(1).clamp(min=1)
    estimate, opinion = network.quality(text, mask[:, None, :, None, None], weight[None, None, :, None, None],
                                        scene["grey"][None, None, :, None, None], plain, voxels, *scales)
    return torch.sigmoid(estimate[:, 0]), dice, opinion.flatten(1)


class QualityUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: a step on the masks of a scene.

    Args:
        opinion: loss of where the structures are thought to be, see
            :class:`promptzoo.training.text_universal.KnownClassLoss`.
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, opinion: nn.Module, clip_norm: float = 1.0) -> None:
        self.opinion, self.clip_norm = opinion, clip_norm

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a scene; ``dice_per_round`` holds the mean error of the estimates."""
        scene, network = to_device(batchdata, engine.state.device), engine.network
        network.train()
        inner = getattr(network, "module", network)
        estimate, dice, opinion = judged(inner, scene)
        loss = engine.loss_function(estimate, dice, scene["text"])
        loss = loss + engine.loss_function.opinion_weight * self.opinion(opinion, scene["label"], scene["weight"])
        optimise(engine, loss, self.clip_norm)
        error = float((estimate - dice).abs().mean().detach())
        return {CommonKeys.LABEL: dice, CommonKeys.PRED: estimate, CommonKeys.LOSS: float(loss.detach()),
                "dice_per_round": [error]}
