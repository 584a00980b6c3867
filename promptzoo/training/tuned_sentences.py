"""Prompts of a frozen vision-language segmenter for radiographs of another device."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.training.binary import full_size
from promptzoo.training.sentences import SentenceScenes, mean_dice
from promptzoo.training.step import optimise


def other_device(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A radiograph ``[S, S]`` in [-1, 1] as another device shows it: inverted, steeper, blurred and noisy."""
    curve = ((ndimage.gaussian_filter(image, 1.5) + 1) / 2) ** 2
    return np.clip((1 - 2 * curve) * 0.8 + 0.12 * rng.standard_normal(image.shape), -1, 1).astype(np.float32)


class OtherDevice(SentenceScenes):
    """:class:`SentenceScenes` as another device shows them.

    Args:
        length: number of items.
        cases: different radiographs; items beyond them show these again, with other noise.
        others: see :class:`SentenceScenes`.
    """

    def __init__(self, length: int, cases: int = 0, **others: Any) -> None:
        super().__init__(length, **others)
        self.cases = cases or length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """See :meth:`SentenceScenes.__getitem__`.

        Raises:
            IndexError: beyond the last item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        item = super().__getitem__(index % self.cases)
        shown = other_device(item["image"][0, 0].numpy(), generator(self.seed, index, 0xDE71CE))
        return {**item, "image": torch.from_numpy(shown)[None, None]}


class PromptedUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: the prompts learn from what each sentence names.

    Args:
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, clip_norm: float = 1.0) -> None:
        self.clip_norm = clip_norm

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images and their sentences; returns image, label, pred, the loss and the Dice."""
        image, label, told = (batchdata[name].to(engine.state.device) for name in ("image", "label", "bags"))
        network = getattr(engine.network, "module", engine.network).train()
        maps = network.image_encoder(image)[:3]
        logits = network.decode(told, *(one.repeat_interleave(len(told) // len(image), 0) for one in maps))
        loss = engine.loss_function(full_size(logits, label), label)
        optimise(engine, loss, self.clip_norm, network)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits.detach(),
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label)]}
