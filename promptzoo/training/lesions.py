"""Several boxes of one image in one step: an organ and the lesion in it, on slices of procedural torsos.

Li et al., "Multi-prompt fine-tuning of foundation models for enhanced medical image segmentation", arXiv 2310.02381:
CT with an organ and its lesion annotated; the boxes of both are given for the same image in one batch, and the mask
decoder alone is tuned.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.prompts.simulators.clicks import depth
from promptzoo.training.loss import hard_dice
from promptzoo.training.organs import ORGANS, OrganScenes, nearest, varied
from promptzoo.training.sam import SamUpdate, drawn
from promptzoo.training.step import optimise

HOSTS = ("liver", "spleen", "kidney right", "kidney left", "stomach")
"""Organs that lesions are painted into."""

LEAST_HOST, LEAST_LESION = 0.002, 0.00015
"""Size of a host and of a lesion, as a fraction of the slice."""


class LesionSlices(OrganScenes):
    """Whole axial slices with a lesion painted into an organ; item ``n`` is always the same.

    Args:
        length, seed: see :class:`OrganScenes`.
        size: side of the slices in pixels.
    """

    def __init__(self, length: int, size: int = 256, seed: int = 0) -> None:
        super().__init__(length, seed)
        self.size = size

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[1, 1, S, S]`` float32 in [-1, 1] and ``label`` ``[2, 1, S, S]`` bool: organ with lesion, lesion.

        Raises:
            IndexError: beyond the last scene.
        """
        rng, (data, labels, spacing) = self.scene(index)
        while True:
            k, host = int(rng.integers(data.shape[2])), 1 + ORGANS.index(HOSTS[rng.integers(len(HOSTS))])
            window = slice_window(data.shape[:2], spacing[:2], self.size, np.exp(rng.uniform(-0.3, 0.05)) * np.ones(2),
                                  rng.uniform(-0.05, 0.05, 2))
            organ = nearest(window, labels[..., k]) == host
            if organ.mean() < LEAST_HOST:
                continue
            lesion = lesion_in(organ, rng)
            if lesion.mean() >= LEAST_LESION and np.ptp(window.sample(data[..., k])) > 0:
                break
        seen = slice_view(data[..., k], window, True)
        soft = ndimage.gaussian_filter(lesion.astype(np.float32), rng.uniform(0.4, 1.2))
        seen = seen + soft * rng.choice((-1, 1)) * rng.uniform(0.06, 0.25)  # some 25 to 110 HU
        image = varied(np.clip(seen, -1, 1), rng)
        return {"image": torch.from_numpy(image)[None, None],
                "label": torch.from_numpy(np.stack([organ, lesion])[:, None])}


def lesion_in(organ: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A wobbly blob ``[*S]`` bool somewhere inside an organ, up to 0.6 of its depth in radius."""
    inside = depth(organ)
    places = np.argwhere(inside >= 0.4 * inside.max())
    at = places[rng.integers(len(places))]
    radius = max(2.5, rng.uniform(0.3, 0.6) * inside.max())
    rows, columns = np.indices(organ.shape)
    angle = np.arctan2(rows - at[0], columns - at[1])
    edge = 1 + sum(rng.normal(0, 0.08) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi)) for wave in (1, 2, 3))
    return (np.hypot(rows - at[0], columns - at[1]) <= radius * edge) & organ


class BoxesUpdate(SamUpdate):
    """A :class:`SamUpdate` for images with several labels each: one encoding, the boxes of all labels in one pass.

    The encoder is frozen; there is one interaction.
    """

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on images ``[B, 1, S, S]`` and labels ``[B * K, 1, S, S]``, K in a row per image."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(device, dtype=torch.float32)
        label = batchdata["label"].to(device, dtype=torch.float32)
        each = len(label) // len(image)
        engine.network.train()
        with torch.no_grad(), torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            encoded = network.image_encoder(image.contiguous(memory_format=torch.channels_last))
        encoded = [part.repeat_interleave(each, 0) for part in encoded]
        sessions = [self.annotator.start(mask, rng) for mask in batchdata["label"].cpu().numpy().astype(bool)[:, 0]]
        windows = batchdata["image"].cpu().numpy()[:, 0].repeat(each, 0)
        points, labels, dense, ambiguous = drawn(sessions, windows, device)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            logits, _, masks, ious = network.decode(*encoded, points, labels, dense)
        logits = logits.float()
        loss = engine.loss_function(logits, masks.float(), ious.float(), label, ambiguous)
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(loss.detach()),
                "dice_per_round": [float(hard_dice(logits[n::each], label[n::each]).mean()) for n in range(each)]}
