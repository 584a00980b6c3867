"""Validation of interactive networks on fixed procedural windows with a deterministic annotator."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from promptzoo.core.seeding import generator
from promptzoo.prompts.encoders import prompt_maps
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.context import SimulatedContext
from promptzoo.training.loss import hard_dice


class InteractiveEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``: one first prompt, then corrective clicks.

    Args:
        annotator: simulated annotator; the default starts with boxes and clicks in equal parts.
        clicks: corrective clicks after the first prompt.
        seed: seed of the annotator.
        amp: use bfloat16 autocast.
        context: simulated prior masks of a network with prior channels, or None.
    """

    def __init__(self, annotator: WindowAnnotator | None = None, clicks: int = 4, seed: int = 0,
                 amp: bool = False, context: SimulatedContext | None = None) -> None:
        self.annotator = annotator or WindowAnnotator(
            first=(0.5, 0.5, 0.0, 0.0, 0.0), box_styles=(1.0, 0.0, 0.0, 0.0), correct_by=(1.0, 0.0, 0.0),
            forget_previous=0.0)
        self.clicks, self.seed, self.amp, self.context = clicks, seed, amp, context

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate a batch of windows; ``pred`` holds the final masks ``[B, 1, *S]``, ``dice_per_round`` the curve."""
        rng = generator(self.seed, int(engine.state.iteration))
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        windows = batchdata["image"].cpu().numpy()[:, 0]
        truth = batchdata["label"].cpu().numpy().astype(bool)[:, 0]
        label = batchdata["label"].to(engine.state.device, dtype=torch.float32)
        sessions, curve, estimates = [self.annotator.start(mask, rng) for mask in truth], [], []
        priors = None if self.context is None else np.stack([self.context(mask, rng) for mask in truth])
        engine.network.eval()
        with torch.inference_mode():
            for _ in range(1 + self.clicks):
                maps = np.stack([prompt_maps(s.prompts(), window) for s, window in zip(sessions, windows)])
                maps = maps if priors is None else np.concatenate([maps, priors], 1)
                drawn = torch.from_numpy(maps).to(image.device)
                with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
                    logits, quality = engine.network(image, drawn, with_quality=True)
                logits = logits.float()
                curve.append(hard_dice(logits, label).cpu())
                estimates.append(torch.sigmoid(quality.float()).cpu()[:, 0])
                for session, probability in zip(sessions, torch.sigmoid(logits).cpu().numpy()[:, 0]):
                    session.correct(probability, rng)
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: (logits > 0).float(),
                "dice_per_round": torch.stack(curve, 1), "estimate_per_round": torch.stack(estimates, 1)}
