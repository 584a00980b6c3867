"""One training iteration = several interactions with a simulated annotator (iterative training).

Sofiiuk et al., RITM, ICIP 2022, section 3.3: prompts of later interactions answer the network's own errors, and its
previous mask is fed back.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.distributed as dist
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from promptzoo.core.seeding import generator
from promptzoo.prompts.encoders import prompt_maps
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.context import SimulatedContext
from promptzoo.training.loss import hard_dice
from promptzoo.training.step import descend, mixed_precision


class InteractiveUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``.

    Args:
        annotator: simulated annotator of network windows.
        rounds: probability of training with 1, 2, 3 … interactions on a batch.
        seed: seed of all draws; iteration ``n`` of a run always draws the same numbers.
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        context: simulated prior masks of a network with prior channels, or None.
        consistency_reach: distance to a new prompt beyond which ``consistency_weight`` of the loss applies, as a
            fraction of the window's longest side.
    """

    def __init__(self, annotator: WindowAnnotator, rounds: Sequence[float] = (0.1, 0.25, 0.3, 0.2, 0.15),
                 seed: int = 0, amp: bool = True, clip_norm: float = 3.0, context: SimulatedContext | None = None,
                 consistency_reach: float = 0.15) -> None:
        self.annotator, self.seed, self.amp, self.clip_norm = annotator, seed, amp, clip_norm
        self.context, self.consistency_reach = context, consistency_reach
        self.rounds = np.asarray(rounds, dtype=float) / np.sum(rounds)

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label, pred (logits of the last interaction) and losses."""
        rng = generator(self.seed, int(engine.state.iteration))
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        windows = batchdata["image"].cpu().numpy()[:, 0]
        truth = batchdata["label"].cpu().numpy().astype(bool)[:, 0]
        label = batchdata["label"].to(engine.state.device, dtype=torch.float32)
        layout = torch.channels_last if image.dim() == 4 else torch.channels_last_3d
        network, losses, dices = engine.network, [], []
        network.train()
        sessions = [self.annotator.start(mask, rng) for mask in truth]
        priors = None if self.context is None else np.stack([self.context(mask, rng) for mask in truth])
        consistent = bool(getattr(engine.loss_function, "consistency_weight", 0.0))
        before, logits = None, None
        memory: dict[str, torch.Tensor] = {}
        # each round is a step of all processes: they must agree on how many there are, whatever their windows are
        several = dist.is_available() and dist.is_initialized()
        draws = generator(self.seed, int(engine.state.iteration), 0x5244) if several else rng
        for _ in range(1 + int(draws.choice(len(self.rounds), p=self.rounds))):
            maps = np.stack([prompt_maps(s.prompts(), window) for s, window in zip(sessions, windows)])
            maps = maps if priors is None else np.concatenate([maps, priors], 1)
            drawn = torch.from_numpy(maps).to(image.device).contiguous(memory_format=layout)
            with mixed_precision(image, self.amp):
                logits, quality = network(image, drawn, with_quality=True)
            logits = logits.float()
            loss, before = engine.loss_function(logits, quality.float(), label, before, **memory)
            engine.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            descend(engine, loss, self.clip_norm, network)
            losses.append(float(loss.detach()))
            dices.append(float(hard_dice(logits, label).mean()))
            chance = torch.sigmoid(logits.detach()).cpu().numpy()[:, 0]
            for session, probability in zip(sessions, chance):
                session.correct(probability, rng)
            if consistent:
                far = np.stack([s.far_from_new(self.consistency_reach) for s in sessions])[:, None]
                memory = {"earlier": torch.sigmoid(logits.detach()),
                          "far": torch.from_numpy(far).to(label.device, label.dtype)}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(np.mean(losses)), "dice_per_round": dices}
