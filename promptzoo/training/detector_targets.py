"""What an open-vocabulary detector is to say of a picture, and the loss.

Heat and box weights follow TTFNet (Liu et al., AAAI 2020, section 3): a Gaussian per object, as wide and high as a
share of its box, is both the target of the score (penalty-reduced focal loss of CenterNet, Zhou et al. 2019) and the
weight of the box's GIoU loss. A heat map belongs to a phrase and holds the objects that the phrase means.
"""
from __future__ import annotations

import numpy as np
import torch
from monai.losses.giou_loss import BoxGIoULoss
from torch import nn

from promptzoo.networks.open_vocabulary import EXTRA, STRIDE, boxes_of, phrase_logits

SHARE = 0.54
"""Of a box's side that its Gaussian covers to three deviations on either side (TTFNet's alpha)."""


def gaussians(boxes: np.ndarray, side: int) -> np.ndarray:
    """A Gaussian per box on the tokens of a picture, 1 at the token that holds its centre.

    Args:
        boxes: ``[n, 4]`` ``x0, y0, x1, y1`` in pixels.
        side: of the square token map.

    Returns:
        ``[n, side, side]`` float32.
    """
    at = np.arange(side)
    low, high = boxes[:, :2] / STRIDE, boxes[:, 2:] / STRIDE
    middle = np.clip(np.floor((low + high) / 2), 0, side - 1)
    deviation = np.maximum((high - low) * SHARE / 6, 0.35)
    across = np.exp(-((at[None] - middle[:, :1]) ** 2) / (2 * deviation[:, :1] ** 2))
    down = np.exp(-((at[None] - middle[:, 1:]) ** 2) / (2 * deviation[:, 1:] ** 2))
    return (down[:, :, None] * across[:, None]).astype(np.float32)


def targets(boxes: np.ndarray, meant: np.ndarray, side: int) -> dict[str, np.ndarray]:
    """Targets of one picture.

    Args:
        boxes: ``[n, 4]`` in pixels of the network's picture.
        meant: ``[P, n]`` what :func:`promptzoo.data.synthesis.attribute_words.match` says of each phrase.
        side: of the square token map.

    Returns:
        ``heat`` ``[P, h, w]``; ``counts`` ``[P, h, w]``, 0 where an open object is; ``box`` ``[4, h, w]`` in pixels and
        ``reach`` ``[h, w]``, the weight of the box there.
    """
    heat = np.zeros((len(meant), side, side), np.float32)
    counts = np.ones_like(heat)
    box, reach = np.zeros((4, side, side), np.float32), np.zeros((side, side), np.float32)
    if len(boxes):
        order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))  # small ones win ties
        bells = gaussians(boxes, side)
        for n in order:
            np.maximum(heat, bells[n][None] * (meant[:, n] == 1)[:, None, None], out=heat)
            counts[meant[:, n] == -1] *= (bells[n] < 0.1)
            own = bells[n] >= np.maximum(reach, 0.3)
            reach[own], box[:, own] = bells[n][own], boxes[n][:, None]
        counts = np.maximum(counts, heat == 1)
    return {"heat": heat, "counts": counts.astype(np.float32), "box": box, "reach": reach}


class DetectionLoss(nn.Module):
    """Focal loss of the phrases' heat maps, and GIoU loss of the boxes.

    Args:
        box_weight: weight of the boxes.
        word_weight: weight of :func:`word_loss`, where the words of the objects are known.
    """

    def __init__(self, box_weight: float = 2.0, word_weight: float = 0.0) -> None:
        super().__init__()
        self.word_weight = word_weight
        self.box_weight, self.giou = box_weight, BoxGIoULoss(reduction="none")

    def forward(self, tokens: torch.Tensor, texts: torch.Tensor, wanted: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar loss of token maps against batched :func:`targets` and vectors of phrases ``[B, P, dim]``."""
        logits, heat = phrase_logits(tokens, texts), wanted["heat"]
        chance = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
        peak = (heat == 1).to(chance.dtype)
        found = peak * (1 - chance).square() * chance.log()
        false = (1 - peak) * (1 - heat) ** 4 * chance.square() * (1 - chance).log()
        score = -((found + false) * wanted["counts"]).sum() / peak.sum().clamp(min=8.0)
        near = wanted["reach"] > 0
        if not near.any():
            return score
        weight = wanted["reach"][near]
        giou = self.giou(boxes_of(tokens).permute(0, 2, 3, 1)[near], wanted["box"].permute(0, 2, 3, 1)[near])
        return score + self.box_weight * (giou.flatten() * weight).sum() / weight.sum()


def word_loss(tokens: torch.Tensor, words: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every single word at the centre of every object: true words and false ones weigh the same.

    Args:
        tokens: maps ``[B, 5 + dim, h, w]``.
        words: vectors ``[V, dim]`` of the words.
        field: ``[B, n, 4 + V]`` boxes in pixels, then 1 (true), 0 (false) or -1 (open) per word; unused rows are -2.
    """
    batch, row = torch.nonzero(field[..., 2] > 0, as_tuple=True)
    if not len(batch):
        return tokens.sum() * 0
    told = field[batch, row]
    x = ((told[:, 0] + told[:, 2]) / 2 / STRIDE).long().clamp(0, tokens.shape[3] - 1)
    y = ((told[:, 1] + told[:, 3]) / 2 / STRIDE).long().clamp(0, tokens.shape[2] - 1)
    at = tokens[batch, :, y, x]
    logits, truth = at[:, EXTRA:] @ words.T + at[:, :1], told[:, 4:]
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.clamp(0, 1), reduction="none")
    return sum((entropy * part).sum() / part.sum().clamp(min=1.0)
               for part in ((truth == 1).float(), (truth == 0).float())) / 2
