"""Fine-tuning a detector on few or many real pictures with boxes, as MIU-VL does with captions of attributes."""
from __future__ import annotations

import copy
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.coco_boxes import BoxCase
from promptzoo.networks.open_vocabulary import STRIDE
from promptzoo.training.detector import detector_loss, exposed, later_parts, network_picture
from promptzoo.training.detector_targets import DetectionLoss, targets


class BoxDataset(Dataset):
    """Random views of real pictures: scaled, mirrored, cropped to a square, exposed anew; one phrase per class.

    Args:
        cases: pictures and boxes, at least one.
        texts: phrase of each class that is trained. Boxes of other classes are neither wanted nor counted against.
        length: number of items; item ``n`` is always the same.
        size: side of the square in pixels.
        seed: of all draws.
    """

    def __init__(self, cases: Sequence[BoxCase], texts: Mapping[str, str], length: int, size: int = 320, seed: int = 0
                 ) -> None:
        if not cases:
            raise PromptZooError(complain("pictures to train on", 0, "at least one"))
        self.cases, self.texts, self.length, self.size, self.seed = list(cases), dict(texts), length, size, seed
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.length

    def _picture(self, number: int) -> np.ndarray:
        """``[H, W, 3]`` uint8 with its longer side at the size of the views."""
        if number not in self._kept:
            case = self.cases[number]
            scale = self.size / max(case.size)
            small = Image.open(case.path).convert("RGB").resize([max(1, round(n * scale)) for n in case.size],
                                                                Image.Resampling.BILINEAR, reducing_gap=2.0)
            self._kept[number] = np.asarray(small)
        return self._kept[number]

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = generator(self.seed, index)
        number = (index + int(rng.integers(len(self.cases)))) % len(self.cases)
        case, picture = self.cases[number], self._picture(number)
        zoom = float(np.exp(rng.uniform(np.log(0.8), np.log(1.3))))
        rows, columns = (max(32, round(n * zoom)) for n in picture.shape[:2])
        view = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR), np.float32) / 255
        boxes = case.boxes * zoom * self.size / max(case.size)
        if rng.random() < 0.5:
            view, boxes = view[:, ::-1], np.stack([columns - boxes[:, 2], boxes[:, 1], columns - boxes[:, 0],
                                                   boxes[:, 3]], 1)
        if rng.random() < 0.5:
            view, boxes = view[::-1], np.stack([boxes[:, 0], rows - boxes[:, 3], boxes[:, 2], rows - boxes[:, 1]], 1)
        top, left = (int(rng.integers(0, max(1, n - self.size + 1))) for n in (rows, columns))
        view = view[top:top + self.size, left:left + self.size]
        moved = boxes - [left, top, left, top]
        inside = np.clip(moved, 0, [view.shape[1], view.shape[0]] * 2)
        area = (moved[:, 2] - moved[:, 0]) * (moved[:, 3] - moved[:, 1])
        kept = (inside[:, 2] - inside[:, 0]).clip(0) * (inside[:, 3] - inside[:, 1]).clip(0) > 0.3 * area
        square = np.full((self.size, self.size, 3), 0.5, np.float32)
        square[:view.shape[0], :view.shape[1]] = exposed(rng, view)
        names = [name for name, yes in zip(case.names, kept) if yes]
        meant = np.array([[1 if name == own else -1 if name not in self.texts else 0 for name in names]
                          for own in self.texts], np.int8).reshape(len(self.texts), len(names))
        return {"image": network_picture(square), "texts": "\n".join(self.texts.values()),
                **targets(inside[kept], meant, self.size // STRIDE)}


def few_shot(network: Any, cases: Sequence[BoxCase], texts: Mapping[str, str], iterations: int, seed: int = 0,
             batch: int = 4, learning_rate: float = 6e-4, amp: bool = True, size: int = 320) -> Any:
    """A copy of a detector, trained on pictures.

    The first stages and the statistics of batch normalisation stay as they are; the rate rises over a tenth of the
    iterations and falls to nothing.

    Args:
        network: the detector; it is not changed.
        cases: the shots.
        texts: phrase of each class, see :class:`BoxDataset`.
        iterations: steps of ``batch`` views.
        seed: of all draws.
        batch, learning_rate, amp, size: as they say.
    """
    tuned = copy.deepcopy(network).to(memory_format=torch.channels_last)
    data = BoxDataset(cases, texts, iterations * batch, size, seed)
    trained = later_parts(tuned)
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, iterations + 1, pct_start=0.1)
    loss_function = DetectionLoss()
    tuned.train()
    for module in tuned.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    for step in range(iterations):
        items = default_collate([data[step * batch + n] for n in range(batch)])
        loss, _ = detector_loss(tuned, loss_function, items, "cpu", amp)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 10.0)
        optimizer.step()
        schedule.step()
    return tuned.eval()
