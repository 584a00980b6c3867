"""Which finished case to show for an image, learned from what a segmenter loses with each."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Selector(nn.Module):
    """How useful a finished case is likely to be for a query, from both images and the case's mask.

    It is given likenesses alone (of the whole images, place by place, of the best matches, of what is marked), on a
    scale that tells 0.98 from 0.99, so that a few hundred comparisons are enough to learn from.

    Args:
        width: features of the hidden layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.zeros_(self.score[-1].weight)
        nn.init.zeros_(self.score[-1].bias)

    def forward(self, query: torch.Tensor, template: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """``query`` and ``template`` ``[B, hidden, h, w]``, ``inside`` ``[B, 1, h, w]``; scores ``[B, 1]``."""
        share = inside.flatten(1)
        total = share.sum(1) + 0.1
        flat = [F.normalize(value.flatten(1), dim=1) for value in (query, template)]
        means = [F.normalize(value.mean((2, 3)), dim=1) for value in (query, template)]
        one, other = (F.normalize(value.flatten(2).transpose(1, 2), dim=2) for value in (query, template))
        best, aligned = one @ other.transpose(1, 2), (one * other).sum(2)
        alike = torch.stack([(flat[0] * flat[1]).sum(1), (means[0] * means[1]).sum(1), aligned.mean(1),
                             best.amax(2).mean(1), best.amax(1).mean(1), (best.amax(1) * share).sum(1) / total,
                             (aligned * share).sum(1) / total], 1)
        told = torch.cat([-torch.log((1 - alike).clamp(min=1e-3)) - 2, share.mean(1, keepdim=True).sqrt()], 1)
        return self.score(told)
