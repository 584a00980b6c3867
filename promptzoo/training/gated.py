"""Training of networks whose decoder is gated by attributes that they predict."""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys

from promptzoo.training.binary import full_size
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise


class GatedUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: the mask's loss and cross entropy of the attributes.

    Half of the images are decoded under their true attributes, so that overwriting the predicted ones has an effect.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        attributes: weight of the attributes' loss.
    """

    def __init__(self, amp: bool = False, clip_norm: float = 1.0, attributes: float = 0.3) -> None:
        self.amp, self.clip_norm, self.attributes = amp, clip_norm, attributes

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images; returns image, label, pred, the loss, the Dice and the share of right attributes."""
        device = engine.state.device
        image, label = batchdata["image"].to(device), batchdata["whole"].to(device)
        truth = batchdata["attributes"].to(device)
        network = engine.network.train()
        plain = getattr(network, "module", network)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            with torch.no_grad():
                maps = plain.image_encoder(image)[:3]
            told = plain.attributes(maps[0])
            found = torch.cat([one.softmax(1) for one in told], 1)
            known = torch.cat([F.one_hot(truth[:, n], one.shape[1]) for n, one in enumerate(told)], 1).to(found.dtype)
            teach = (torch.arange(len(image), device=device) % 2 == 0)[:, None]
            logits = plain.decode(torch.where(teach, known, found), *maps)
        loss = engine.loss_function(full_size(logits, label), label)
        for n, one in enumerate(told):
            loss = loss + self.attributes * F.cross_entropy(one.float(), truth[:, n])
        optimise(engine, loss, self.clip_norm)
        right = [float((one.argmax(1) == truth[:, n]).float().mean()) for n, one in enumerate(told)]
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label), *right]}
