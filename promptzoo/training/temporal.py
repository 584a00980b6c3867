"""Training of networks that are told organ and slice position in a sentence."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys

from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise


class TemporalUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: the masks' loss, and the contrast between slices and
    sentences (Wang et al., TP-UNet, 2024, section III-B: semantic alignment before the fusion).

    In a batch each slice should be nearer to its own sentence than to those of the others, and the other
    way round; sentences that say the same are not contrasted.

    Args:
        clip_norm: bound of the gradient norm.
        alignment: weight of the contrast.
    """

    def __init__(self, clip_norm: float = 1.0, alignment: float = 0.15) -> None:
        self.clip_norm, self.alignment = clip_norm, alignment

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on slices and sentences; returns image, label, pred, the loss, the Dice and the share of slices whose
        nearest sentence of the batch is their own."""
        device = engine.state.device
        image, label, given = (batchdata[name].to(device) for name in ("image", "label", "bags"))
        network = engine.network.train()
        plain = getattr(network, "module", network)
        asks = len(given) // len(image)
        with torch.no_grad():
            maps = plain.image_encoder(image)[:3]
        logits = plain.decode(given, *(one.repeat_interleave(asks, 0) for one in maps))
        told = given.unflatten(0, (len(image), asks))
        spoken = told.flatten(2).any(2).float()
        first = told[torch.arange(len(image), device=device), spoken.argmax(1)]
        there = spoken.any(1)
        with torch.no_grad():  # the contrast learns from the decoder, not the decoder from it
            plainly = plain.features(torch.zeros_like(first), *maps)
        seen = F.normalize(plain.retrieval(*plainly).sum(1), dim=1)
        scores = (seen @ plain.clauses(first).T)[there][:, there]
        same = (first[there].flatten(1)[:, None] == first[there].flatten(1)[None]).all(2).float()
        wanted = same / same.sum(1, keepdim=True).clamp(min=1)
        loss = engine.loss_function(logits, label) + self.alignment * (
            F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted))
        optimise(engine, loss, self.clip_norm)
        right = float((same.gather(1, scores.argmax(1, keepdim=True)) > 0).float().mean()) if there.any() else 1.0
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label), right]}
