"""Training of the structures that a bundle ships as prompts of its frozen encoder: radiographs, and the steps."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from promptzoo.training.classes import full_size
from promptzoo.training.prompt_tuning import view_of
from promptzoo.training.radiographs import SPACING_MM, Radiographs
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise


class LungSlices(Radiographs):
    """Whole procedural chest radiographs with both lungs.

    Args:
        length, size, seed: see :class:`promptzoo.training.radiographs.Radiographs`.
        views: of a radiograph per scene.
    """

    def __init__(self, length: int, views: int = 4, size: int = 256, seed: int = 0) -> None:
        super().__init__(length, size, seed)
        self.views = views

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[T, 1, S, S]`` float32 in [-1, 1] and ``label`` ``[T, 1, S, S]`` float32.

        Raises:
            IndexError: beyond the last scene.
        """
        rng, image, masks = self.scene(index)
        spacing = np.array([SPACING_MM[0], SPACING_MM[2]])
        pairs = [view_of(image, masks[0], spacing, False, self.size, rng) for _ in range(self.views)]
        images, labels = (np.stack(parts)[:, None].astype(np.float32) for parts in zip(*pairs))
        return {"image": torch.from_numpy(images), "label": torch.from_numpy(labels)}


class PromptUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: all sets of tokens of all structures learn.

    Args:
        clip_norm: bound of the gradient norm.
        apart: weight of the penalty on sets of tokens that are alike.
    """

    def __init__(self, clip_norm: float = 1.0, apart: float = 0.1) -> None:
        self.clip_norm, self.apart = clip_norm, apart

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on slices; returns image, label, pred (logits), the loss and the Dice."""
        image, label = (batchdata[name].to(engine.state.device) for name in ("image", "label"))
        network = getattr(engine.network, "module", engine.network).train()
        answers = network.answers(image)
        small = F.interpolate(label, size=answers[0].shape[2:], mode="area")
        loss = sum(engine.loss_function(sets, small[:, n:n + 1]) + self.apart * prompt.alike()
                   for n, (sets, prompt) in enumerate(zip(answers, network.prompts)))
        optimise(engine, loss, self.clip_norm, network)
        logits = torch.cat([sets.mean(1, keepdim=True) for sets in answers], 1).detach()
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label > 0.5)]}


class PromptEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``; ``pred`` and ``label`` are binary."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate slices: ``pred`` and ``label`` ``[B, C, S, S]``."""
        image, label = (batchdata[name].to(engine.state.device) for name in ("image", "label"))
        with torch.inference_mode():
            logits = full_size(engine.network.eval()(image), label)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: (logits > 0).float()}
