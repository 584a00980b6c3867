"""Boxes that may mean several things, and a class that says which: an organ or the lesion in it, a ventricle or its
wall."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from torch.utils.data import Dataset

from promptzoo.core.seeding import generator
from promptzoo.inference.resample import Window
from promptzoo.networks.class_prompt_sam import CLASS
from promptzoo.prompts.encoders.tokens import TOKENS
from promptzoo.training.lesions import LesionSlices
from promptzoo.training.loss import hard_dice
from promptzoo.training.organs import nearest
from promptzoo.training.sam import SamUpdate, drawn
from promptzoo.training.stacks import CineStacks
from promptzoo.training.step import optimise

CLASSES = ("organ", "lesion", "left ventricle", "myocardium", "right ventricle")
"""What a class prompt may say; an organ is meant with its lesions, and the cavity of a ventricle alone."""

UNTOLD = 0.15
"""Share of windows without a class, whose box is that of the target itself."""


class ClassWindows(Dataset):
    """Windows of CT with an organ and its lesion, and of cine MR with the left heart; item ``n`` is always the same.

    Args:
        length: number of scenes; two windows each.
        size: side of the windows in pixels.
        seed: seed of the dataset.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, size: int = 128, seed: int = 0) -> None:
        self.length, self.size, self.seed = length, size, seed
        self.torsos, self.hearts = LesionSlices(length, 2 * size, seed), CineStacks(length, 1, 2 * size, 1, seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[2, 1, S, S]`` float32 in [-1, 1], ``label`` and ``boxed`` ``[2, 1, S, S]`` bool (what is meant,
        and what the box is drawn around) and ``kind`` ``[2]`` int64 (index of :data:`CLASSES`, -1 for none).

        Raises:
            IndexError: beyond the last scene.
        """
        rng = generator(self.seed, index)
        image, masks = self.heart(index, rng) if rng.random() < 0.5 else self.torso(index)
        found = []
        for kind, (mask, boxed) in masks:
            if rng.random() < UNTOLD:
                kind, boxed = -1, mask
            at = np.argwhere(boxed)
            side = (np.ptp(at, 0) + 1).max() * rng.uniform(1.2, 2.2)
            centre = (at.min(0) + at.max(0)) / 2 + rng.uniform(-0.1, 0.1, 2) * side
            window = Window.around(centre, (side, side), (self.size,) * 2)
            label = nearest(window, mask.astype(np.uint8)) > 0
            found.append((window.sample(image), label, nearest(window, boxed.astype(np.uint8)) > 0, kind))
        images, labels, boxed, kinds = zip(*found)
        return {"image": torch.from_numpy(np.stack(images)[:, None].astype(np.float32)),
                "label": torch.from_numpy(np.stack(labels)[:, None]),
                "boxed": torch.from_numpy(np.stack(boxed)[:, None]), "kind": torch.tensor(kinds)}

    def torso(self, index: int) -> tuple[np.ndarray, list[tuple[int, tuple[np.ndarray, np.ndarray]]]]:
        """A slice, and per class its mask and what its box is drawn around: both times the organ."""
        item = self.torsos[index]
        organ, lesion = item["label"].numpy()[:, 0]
        return item["image"].numpy()[0, 0], [(0, (organ, organ)), (1, (lesion, organ))]

    def heart(self, index: int, rng: np.random.Generator
              ) -> tuple[np.ndarray, list[tuple[int, tuple[np.ndarray, np.ndarray]]]]:
        """A frame; the boxes of cavity and wall of the left ventricle are drawn around both."""
        _, data, labels, _ = self.hearts.volume(index)
        frame = int(rng.integers(data.shape[2]))
        image, label = data[..., frame], labels[..., frame]
        low, high = np.percentile(image, (0.5, 99.5))
        image, left = np.clip((image - low) / (high - low), 0, 1) * 2 - 1, (label == 1) | (label == 2)
        told = [(2, (label == 1, left)), (3, (label == 2, left)), (4, (label == 3, label == 3))]
        return image, [told[n] for n in rng.permutation(3)[:2]]


class ClassUpdate(SamUpdate):
    """A :class:`SamUpdate` of one interaction whose prompt also tells the class; the encoder is frozen."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on windows of :class:`ClassWindows`; see :meth:`SamUpdate.__call__`."""
        rng, device = generator(self.seed, int(engine.state.iteration)), engine.state.device
        network = getattr(engine.network, "module", engine.network)
        image, label = (batchdata[key].to(device, dtype=torch.float32) for key in ("image", "label"))
        engine.network.train()
        with torch.no_grad():
            encoded = network.image_encoder(image.contiguous(memory_format=torch.channels_last))
        sessions = [self.annotator.start(mask, rng) for mask in batchdata["boxed"].numpy()[:, 0]]
        points, labels, dense, ambiguous = drawn(sessions, batchdata["image"].numpy()[:, 0], device)
        labels = with_class(labels, batchdata["kind"].to(device))
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits, _, masks, ious = network.decode(*encoded, points, labels, dense)
        loss = engine.loss_function(logits.float(), masks.float(), ious.float(), label, ambiguous)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits.float(),
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(hard_dice(logits, label).mean())]}


def with_class(labels: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
    """Labels ``[B, TOKENS]`` with a token for the class of each prompt, ``[B]``, behind the others; none for -1."""
    count = (labels >= 0).sum(1)
    here = (torch.arange(TOKENS, device=labels.device)[None] == count[:, None]) & (kinds >= 0)[:, None]
    return torch.where(here, (CLASS + kinds)[:, None].to(labels.dtype), labels)
