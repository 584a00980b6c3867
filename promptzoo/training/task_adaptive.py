"""Learning to make prompts of finished cases for a frozen SAM-like network: episodes, each image the query once."""
from __future__ import annotations

from typing import Any

import torch
from monai.utils.enums import CommonKeys

from promptzoo.core.seeding import generator
from promptzoo.training.in_context import EpisodeEvaluation, examples_of
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise


class TaskUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: every image of an episode is the query once, some of
    the others are its finished cases.

    Args:
        images: per episode.
        clip_norm: bound of the gradient norm.
        seed: of the draws; iteration ``n`` always draws the same.
    """

    def __init__(self, images: int = 4, clip_norm: float = 1.0, seed: int = 0) -> None:
        self.images, self.clip_norm, self.seed = images, clip_norm, seed

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on episodes, ``[E * K, …]`` each; returns image, label, pred, the loss and the Dice."""
        image, label = (batchdata[name].to(engine.state.device) for name in ("image", "label"))
        network = getattr(engine.network, "module", engine.network).train()
        rng = generator(self.seed, int(engine.state.iteration), 0x7A59)
        order = torch.from_numpy(examples_of(len(image) // self.images, self.images, int(rng.integers(1, self.images)),
                                             rng)).to(image.device)
        with torch.no_grad():
            maps = network.image_encoder(image)
        logits = network.after(maps, [one[order] for one in maps], label[order])
        loss = engine.loss_function(logits, label)
        optimise(engine, loss, self.clip_norm, network)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits.detach(),
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits.detach(), label)]}


class TaskEvaluation(EpisodeEvaluation):
    """Queries after all other images of their episode: ``pred`` and ``label`` ``[E * K, 1, S, S]``."""

    def logits(self, network: Any, image: torch.Tensor, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """Each image is encoded once."""
        order = examples_of(len(image) // self.images, self.images, self.images - 1, generator(0))
        maps, label = network.image_encoder(image), batchdata["label"].to(image.device)
        return network.after(maps, [one[order] for one in maps], label[order])
