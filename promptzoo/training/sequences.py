"""Training on slices seen in several sequences: a frozen segmenter, then prompts for a new centre or for what is
missing."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from torch import nn
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.sequences import CENTRES, brain_sequences, neck_pet_ct
from promptzoo.inference.resample import normalise
from promptzoo.training.binary import BinaryEvaluation
from promptzoo.training.sentences import mean_dice
from promptzoo.training.step import optimise

KINDS = ("brain", "neck")


class SequenceScenes(Dataset):
    """Procedural slices in several sequences; item ``n`` is always the same.

    Args:
        length: number of items.
        kind: ``brain`` (four MR sequences) or ``neck`` (CT and PET).
        size: side in pixels.
        seed: of the dataset; different seeds share no slice.
        centre: number in :data:`promptzoo.data.synthesis.sequences.CENTRES`, for the neck.
        cases: different slices; the items after them are these, mirrored, moved and with another contrast.

    Raises:
        PromptZooError: for an empty dataset or an unknown kind.
    """

    def __init__(self, length: int, kind: str = "brain", size: int = 96, seed: int = 0, centre: int = 0,
                 cases: int = 0) -> None:
        if length < 1 or kind not in KINDS:
            raise PromptZooError(complain("sequence scenes", [length, kind], f"1 or more, of {', '.join(KINDS)}"))
        self.length, self.kind, self.size, self.seed, self.centre = length, kind, size, seed, CENTRES[centre]
        self.cases = cases or length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[1, C, S, S]`` float32 in [-1, 1] and ``label`` ``[1, 1, S, S]`` bool.

        Raises:
            IndexError: beyond the last item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index % self.cases, 0x5E9)
        brain = self.kind == "brain"
        images, mask = brain_sequences(rng, self.size) if brain else neck_pet_ct(rng, self.size, self.centre)
        views = np.stack([normalise(one) for one in images])
        if index >= self.cases:
            views, mask = _varied(views, mask, generator(self.seed, index, 0x5EA))
        return {"image": torch.from_numpy(views.astype(np.float32))[None],
                "label": torch.from_numpy(np.ascontiguousarray(mask))[None, None]}


def _varied(views: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same slice mirrored, moved by some pixels, with another contrast per sequence."""
    if rng.random() < 0.5:
        views, mask = views[:, ::-1], mask[::-1]
    shift = rng.integers(-5, 6, 2)
    views, mask = np.roll(views, shift, (1, 2)), np.roll(mask, shift, (0, 1))
    gain, offset = rng.uniform(0.9, 1.0, (len(views), 1, 1)), rng.normal(0, 0.04, (len(views), 1, 1))
    return np.clip(views * gain + offset, -1, 1), mask


def drawn_presence(rng: np.random.Generator, count: int, sequences: int) -> np.ndarray:
    """Which sequences are there, ``[count, sequences]`` 1 or 0: at least one of them, and at least one missing."""
    codes = rng.integers(1, 2 ** sequences - 1, count)
    return ((codes[:, None] >> np.arange(sequences)) & 1).astype(np.float32)


class SequenceUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: what the network asks to be tuned learns.

    Args:
        missing: share of the images of which some sequences are taken away.
        clip_norm: bound of the gradient norm.
        seed: of the draws; iteration ``n`` always draws the same.
    """

    def __init__(self, missing: float = 0.0, clip_norm: float = 1.0, seed: int = 0) -> None:
        self.missing, self.clip_norm, self.seed = missing, clip_norm, seed

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on slices; returns image, label, pred, the loss and the Dice."""
        image, label = (batchdata[name].to(engine.state.device) for name in ("image", "label"))
        network = engine.network.train()
        there = torch.ones(image.shape[:2], device=image.device)
        if self.missing:
            rng = generator(self.seed, int(engine.state.iteration), 0x5EB)
            drawn = torch.from_numpy(drawn_presence(rng, len(image), image.shape[1])).to(image.device)
            there = torch.where(torch.from_numpy(rng.random(len(image)) < self.missing).to(image.device)[:, None],
                                drawn, there)
            image = image * there[..., None, None]
        logits = network(image, there)
        loss = engine.loss_function(logits, label)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits.detach(),
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [mean_dice(logits, label)]}


class SequenceEvaluation(BinaryEvaluation):
    """Slices with some sequences taken away: ``pred`` and ``label`` ``[B, 1, S, S]``.

    Args:
        there: 1 or 0 per sequence; None for all of them.
    """

    def __init__(self, there: list[int] | None = None) -> None:
        super().__init__()
        self.there = there

    def logits(self, network: nn.Module, image: torch.Tensor, batchdata: dict[str, torch.Tensor]) -> torch.Tensor:
        """What is missing is zero before the network sees it."""
        there = torch.tensor(self.there or [1] * image.shape[1], device=image.device).expand(image.shape[:2])
        return network(image * there[..., None, None], there)
