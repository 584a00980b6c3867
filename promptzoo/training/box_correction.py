"""Training of the correction of boxes alone, around a frozen network.

Huang et al., "Robust Box Prompt based SAM for Medical Image Segmentation" (arXiv 2407.21284, abstract): offsets move a
poor box onto the object, and may be asked for again from there. That two poor drawings of one box shall lead to one box
is the survey's "consistency", asked for here before anything is decoded.
"""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys

from promptzoo.core.geometry import box_iou
from promptzoo.core.seeding import generator
from promptzoo.prompts.simulators import boxes
from promptzoo.training.noisy import NoisyUpdate, take
from promptzoo.training.step import optimise


class BoxUpdate(NoisyUpdate):
    """A :class:`NoisyUpdate` that asks for no masks, so that many boxes of a window are seen in the same time.

    Args:
        drawings: poor boxes per window, each with a second jitter of it.
        passes: corrections in a row, each from where the last one arrived.
        others: arguments of :class:`NoisyUpdate`; the annotator begins with boxes, ``consistency`` weighs how far the
            corrections of two jitters are apart, in sides of the object.
    """

    def __init__(self, *others: Any, drawings: int = 2, passes: int = 2, **named: Any) -> None:
        super().__init__(*others, **named)
        self.drawings, self.passes = drawings, passes

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows; returns image, label, the loss, and the mean overlap (IoU) with the true box of
        the given box and of the one after each pass; ``pred`` is the label."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(device, dtype=torch.float32)
        truth, windows = batchdata["label"].cpu().numpy().astype(bool)[:, 0], batchdata["image"].cpu().numpy()[:, 0]
        engine.network.train()
        with torch.no_grad(), torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            encoded = network.image_encoder(image.contiguous(memory_format=torch.channels_last))
        encoded = [part.float() for part in encoded]
        exact = [tuple(np.asarray(face, float) - 0.5 for face in boxes.tight(mask)) for mask in truth]
        side = torch.from_numpy(np.stack([np.tile(high - low, 2) for low, high in exact])).to(device)
        total, overlaps = image.new_zeros(()), np.zeros(1 + self.passes)
        for _ in range(self.drawings):
            pair = [self.annotator.start(mask, rng) for mask in truth]
            drawn = [pair, self._twins(pair, rng)]
            overlaps[0] += np.mean([box_iou(s.box, wanted) for s, wanted in zip(pair, exact)])
            for number in range(self.passes):
                moved = []
                for sessions in drawn:
                    found, loss = self._correct(network, encoded, sessions, windows, truth)
                    total = total + loss
                    moved.append(found)
                total = total + self.consistency * F.smooth_l1_loss(*(faces / side for faces in moved), beta=0.1)
                for sessions, faces in zip(drawn, moved):
                    take(sessions, faces)
                overlaps[1 + number] += np.mean([box_iou(s.box, wanted) for s, wanted in zip(pair, exact)])
        loss = total / (2 * self.drawings * self.passes)
        optimise(engine, loss, self.clip_norm)
        label = batchdata["label"].to(device, dtype=torch.float32)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: label,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": (overlaps / self.drawings).tolist()}
