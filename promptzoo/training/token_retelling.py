"""Prompt tokens learn where they point before a mask decoder learns to listen to them.

A decoder hears nothing in tokens that say nothing, and tokens of which nothing is heard learn nothing. So the two-way
transformer is first taught alone: the embedding that met the tokens has to retell the prompt maps that are drawn for
the same prompts (:mod:`promptzoo.prompts.encoders.maps`). That costs no decoder, and each kind of map counts alike,
however little of the window it fills.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys

from promptzoo.core.seeding import generator
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, MASK_CHANNELS
from promptzoo.training.annotator import WindowAnnotator, WindowSession
from promptzoo.training.kept_windows import encoded_of
from promptzoo.training.sam import drawn
from promptzoo.training.sam3d import MAP_SCALE
from promptzoo.training.step import optimise

TOLD = tuple(n for n, name in enumerate(DENSE_CHANNELS) if n not in MASK_CHANNELS and not name.startswith("scribble"))
"""Maps that tokens of clicks and boxes stand for."""

LEAST_ENERGY = 1e-4


def map_errors(attended: torch.Tensor, dense: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How badly each of the first channels of an embedding retells a map, and how much there is to tell.

    Args:
        attended: ``[B, hidden, *S / 8]``.
        dense: prompt maps ``[B, 12, *S / 2]``.

    Returns:
        Mean squared differences ``[12]``, and the maps' mean squares ``[12]``.
    """
    wanted = MAP_SCALE * F.avg_pool3d(dense, dense.shape[2] // attended.shape[2])
    axes = (0, 2, 3, 4)
    return (attended[:, :dense.shape[1]].float() - wanted).square().mean(axes), wanted.square().mean(axes)


class RetellingUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer`` for tokens and transformer alone.

    Args:
        annotator: simulated annotator of windows.
        more_clicks: chance of one or two clicks anywhere, beside the first prompt; they are inside or outside the
            object alike often.
        seed: of all draws.
        clip_norm: bound of the gradient norm.
    """

    def __init__(self, annotator: WindowAnnotator, more_clicks: float = 0.35, seed: int = 0, clip_norm: float = 3.0
                 ) -> None:
        self.annotator, self.more_clicks, self.seed, self.clip_norm = annotator, more_clicks, seed, clip_norm
        self._energy: torch.Tensor | None = None

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label and the loss."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, engine.network
        bare = getattr(network, "module", network)
        network.train()
        encoded = encoded_of(batchdata, device)
        if encoded is None:
            with torch.no_grad():
                encoded = list(bare.image_encoder(batchdata["image"].to(device, dtype=torch.float32)))
        sessions = [self.annotator.start(mask, rng) for mask in batchdata["label"].cpu().numpy().astype(bool)[:, 0]]
        for session in sessions:
            if rng.random() < self.more_clicks:
                click_anywhere(session, rng)
        points, labels, dense, _ = drawn(sessions, batchdata["image"].cpu().numpy()[:, 0], device)
        errors, energy = map_errors(bare.attend(encoded[-2], points, labels)[1], dense)
        self._energy = energy if self._energy is None else 0.99 * self._energy + 0.01 * energy
        kept = list(TOLD)
        others = [n for n in range(len(errors)) if n not in kept]
        loss = (errors / self._energy.clamp(min=LEAST_ENERGY))[kept].mean() + 0.1 * errors[others].mean()
        optimise(engine, loss, self.clip_norm)
        return {CommonKeys.IMAGE: batchdata["image"], CommonKeys.LABEL: batchdata["label"],
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": []}


def click_anywhere(session: WindowSession, rng: np.random.Generator) -> None:
    """One or two clicks on voxels drawn inside or outside a session's object."""
    for _ in range(int(rng.integers(1, 3))):
        inside = rng.random() < 0.5
        where = np.argwhere(session.truth if inside else ~session.truth)
        if len(where):
            chosen = where[rng.integers(len(where))].astype(np.float32)
            (session.positive if inside else session.negative).append(chosen)
