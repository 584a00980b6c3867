"""Learning to segment from examples, and to choose them."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys

from promptzoo.core.seeding import generator
from promptzoo.training.binary import BinaryEvaluation
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise


class EpisodeUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: every image of an episode is the query once, the
    others, or some of them, are its templates.

    Args:
        images: per episode.
        clip_norm: bound of the gradient norm.
        seed: of the draws; iteration ``n`` always draws the same.
        amp: use bfloat16 autocast.
    """

    def __init__(self, images: int = 4, clip_norm: float = 2.0, seed: int = 0, amp: bool = True) -> None:
        self.images, self.clip_norm, self.seed, self.amp = images, clip_norm, seed, amp

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on episodes, ``[E * K, …]`` each; returns image, label, pred, the loss and the Dice."""
        image, label, shown, asked = (batchdata[name].to(engine.state.device) for name in (
            "image", "label", "shown", "asked"))
        network = engine.network.train()
        plain = getattr(network, "module", network)
        rng = generator(self.seed, int(engine.state.iteration))
        order = examples_of(len(image) // self.images, self.images, int(rng.integers(1, self.images)), rng)
        examples = torch.from_numpy(order).to(image.device)
        with torch.autocast(image.device.type, torch.bfloat16, self.amp):
            with torch.no_grad():
                maps = plain.image_encoder(image)
            logits = plain.decode(maps, asked, [one[examples] for one in maps], shown[examples]).float()
        loss = engine.loss_function(logits, label)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label)]}


def examples_of(episodes: int, images: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places ``[episodes * images, count]`` in the batch of the templates of each query."""
    order = np.stack([rng.permutation([m for m in range(images) if m != n])[:count] for n in range(images)])
    return (order[None] + images * np.arange(episodes)[:, None, None]).reshape(-1, count)


class SelectorUpdate(EpisodeUpdate):
    """The same for the selector alone: what its softmax over all single templates is expected to lose is what it
    learns from (a meta-loss: the loss of the frozen segmenter on the query), in units of the spread of the losses.
    """

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on episodes; ``dice_per_round`` is the Dice of the chosen, of a random and of the best template."""
        image, label, shown = (batchdata[name].to(engine.state.device) for name in ("image", "label", "shown"))
        network = engine.network.train()
        plain = getattr(network, "module", network)
        count = self.images - 1
        order = examples_of(len(image) // self.images, self.images, count, generator(self.seed))
        flat = torch.from_numpy(order.reshape(-1)).to(image.device)
        with torch.no_grad():
            maps = plain.image_encoder(image)
            query = [one.repeat_interleave(count, 0) for one in maps]
            logits = plain.decode(query, torch.zeros_like(shown[flat]), [one[flat][:, None] for one in maps],
                                  shown[flat][:, None])
            dice = soft_dice(logits, label.repeat_interleave(count, 0)).reshape(-1, count)
        scores = plain.select(query[0], maps[0][flat], shown[flat]).reshape(-1, count)
        apart = dice / dice.std(1, keepdim=True).clamp(min=0.02)
        loss = -(torch.softmax(scores, 1) * (apart - apart.mean(1, keepdim=True))).sum(1).mean()
        optimise(engine, loss, self.clip_norm)
        chosen = dice.gather(1, scores.argmax(1, keepdim=True))
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: label.float(),
                CommonKeys.LOSS: float(loss.detach()),
                "dice_per_round": [float(one.mean()) for one in (chosen, dice, dice.amax(1))]}


def soft_dice(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Dice of probabilities ``[B, 1, H, W]`` with masks of that size or larger, ``[B]``."""
    label = F.interpolate(label.float(), size=logits.shape[2:], mode="area")
    chance = torch.sigmoid(logits.float())
    both, total = (chance * label).flatten(1).sum(1), (chance + label).flatten(1).sum(1)
    return (2 * both + 1) / (total + 1)


class EpisodeEvaluation(BinaryEvaluation):
    """Queries beside all other images of their episode, nothing asked: ``pred`` and ``label`` ``[E * K, 1, S, S]``.

    Args:
        images: per episode.
    """

    def __init__(self, images: int = 4) -> None:
        super().__init__()
        self.images = images

    def order(self, count: int) -> np.ndarray:
        """For each of ``count`` images all others of its episode, ``[count, images - 1]``."""
        return examples_of(count // self.images, self.images, self.images - 1, generator(0))

    def logits(self, network: Any, image: torch.Tensor, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """Each image is encoded once."""
        shown = batchdata["shown"].to(image.device)
        return beside(network, network.image_encoder(image), shown, self.order(len(image)))


def beside(network: Any, maps: Sequence[torch.Tensor], shown: torch.Tensor, order: np.ndarray) -> torch.Tensor:
    """Logits ``[B, 1, S/2, S/2]`` of each image of a batch beside those at ``order`` ``[B, N]``, nothing asked."""
    examples = torch.from_numpy(order).to(shown.device)
    return network.decode(maps, torch.zeros_like(shown), [one[examples] for one in maps], shown[examples])
