"""Training of task decoders beside a frozen generalist: each learns its own task, a gate learns to tell the tasks.

Wang et al., "SAM-Med3D-MoE", MICCAI 2024, fine-tune decoders apart and then train the gate alone; here, where the task
of a scene is known, one pass does both, and neither disturbs the other: the gate's loss does not reach the decoders.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys
from scipy import ndimage
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.phantoms import head_mr, torso_ct
from promptzoo.data.synthesis import Procedural3D
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.tissue_window import ct_limits
from promptzoo.training.loss import hard_dice
from promptzoo.training.organs import varied
from promptzoo.training.sam import answer, drawn
from promptzoo.training.sam3d import VolumeUpdate
from promptzoo.training.step import optimise

TASKS = ("anything", "organs in CT of the torso", "structures in MR of the head")
"""Task 0 is the generalist's; task ``n`` is that of expert ``n - 1``."""
POOL, SCENES_PER_BODY = 4, 12
LEAST_VOXELS = 60


@lru_cache(maxsize=2 * POOL + 2)
def body(task: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A procedural body of a task: intensities and labels ``[i, j, k]``, voxel size in millimetres."""
    if task == 1:
        volume, labels, _ = torso_ct(seed, (108, 80, 72), (3.6, 3.6, 4.2))
    else:
        volume, labels, _ = head_mr(seed, (76, 94, 70), (2.4, 2.4, 2.6))
    return volume.data, labels, np.asarray(volume.grid.spacing_mm)


class TaskWindows(Dataset):
    """Windows with a target each; item ``n`` is always the same scene, of one task.

    Args:
        length: number of scenes.
        targets_per_scene: windows of an item.
        size: side of the windows in voxels.
        seed: seed of the dataset.
        shares: how often each of :data:`TASKS` is drawn.

    Raises:
        PromptZooError: for an empty dataset, or shares of other tasks.
    """

    def __init__(self, length: int, targets_per_scene: int = 2, size: int = 48, seed: int = 0,
                 shares: tuple[float, ...] = (0.3, 0.35, 0.35)) -> None:
        if length < 1 or len(shares) != len(TASKS):
            raise PromptZooError(complain("windows of tasks", [length, list(shares)],
                                          f"at least one scene, and shares of {', '.join(TASKS)}"))
        self.length, self.targets, self.size, self.seed = length, targets_per_scene, size, seed
        self.shares, self._any = np.cumsum(shares) / np.sum(shares), Procedural3D(size, seed=seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Scene ``index``: ``image`` ``[T, 1, *S]`` float32 in [-1, 1], ``label`` ``[T, 1, *S]`` bool, ``task``
        ``[T]`` int64.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        task = int(np.searchsorted(self.shares, rng.random(), side="right"))
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(found) < self.targets:
            found += self._any.sample(rng, self.targets - len(found)) if task == 0 else [self._cut(task, index, rng)]
        return {"image": torch.from_numpy(np.stack([image for image, _ in found])[:, None].astype(np.float32)),
                "label": torch.from_numpy(np.stack([mask for _, mask in found])[:, None]),
                "task": torch.full((self.targets,), task, dtype=torch.int64)}

    def _cut(self, task: int, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A window around a random structure of a random body."""
        newest = index // SCENES_PER_BODY + POOL
        data, labels, spacing = body(task, (1_000_003 * self.seed + newest - int(rng.integers(POOL))) % 2 ** 31)
        boxes = ndimage.find_objects(labels)
        while True:
            value = 1 + int(rng.integers(len(boxes)))
            if boxes[value - 1] is None:
                continue
            low, high = (np.array([getattr(side, end) for side in boxes[value - 1]]) for end in ("start", "stop"))
            side = float(((high - low) * spacing).max()) * rng.uniform(1.3, 2.6)
            centre = (low + high - 1) / 2 + rng.uniform(-0.15, 0.15, 3) * side / spacing
            window = Window.around(centre, side / spacing, (self.size,) * 3)
            mask = _whole(window, labels == value)
            if mask.sum() >= LEAST_VOXELS:
                break
        seen = np.clip(data, *ct_limits(float(np.median(data[labels == value])))) if task == 1 else data
        return varied(normalise(window.sample(seen)), rng), mask


def _whole(window: Window, mask: np.ndarray) -> np.ndarray:
    """A mask ``[*N]`` on the voxels of a window."""
    at = [np.rint(o + s * np.arange(n)).astype(int) for o, s, n in zip(window.origin, window.step, window.shape)]
    found = mask[np.ix_(*(np.clip(index, 0, n - 1) for index, n in zip(at, mask.shape)))]
    for axis, (index, n) in enumerate(zip(at, mask.shape)):
        np.moveaxis(found, axis, 0)[(index < 0) | (index >= n)] = False
    return found


class ExpertsUpdate(VolumeUpdate):
    """``iteration_update`` of ``monai.engines.SupervisedTrainer`` for
    :class:`promptzoo.networks.volume_experts.VolumeExperts`.

    Args:
        decoders: False trains the gate alone, on first prompts; ``dice_per_round`` then tells how often it is right.
        names: as :class:`VolumeUpdate`.
    """

    def __init__(self, *names: Any, decoders: bool = True, **more: Any) -> None:
        super().__init__(*names, **more)
        self.decoders = decoders

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch of windows with their tasks; returns image, label, pred (logits of the last interaction)
        and losses."""
        rng = generator(self.seed, int(engine.state.iteration))
        device, network = engine.state.device, getattr(engine.network, "module", engine.network).train()
        image, label = (batchdata[key].to(device, dtype=torch.float32) for key in ("image", "label"))
        task = batchdata["task"].to(device)
        truth, windows = batchdata["label"].cpu().numpy()[:, 0], batchdata["image"].cpu().numpy()[:, 0]
        sessions = [self.annotator.start(mask, rng) for mask in truth]
        total, logits, dices = image.new_zeros(()), None, []
        with torch.no_grad():
            encoded = network.image_encoder(image)
        rounds = 1 + int(rng.choice(len(self.rounds), p=self.rounds)) if self.decoders else 1
        for _ in range(rounds):
            points, labels, dense, _ = drawn(sessions, windows, device)
            if not self.decoders:
                gate = network.preference(encoded[-2], network.attend(encoded[-2], points, labels)[0][:, 0])
                total, logits = F.cross_entropy(gate, task), torch.zeros_like(label)
                dices.append(float((gate.argmax(1) == task).float().mean()))
                break
            logits, iou, gate = network.by_task(task, *encoded, points, labels, dense)
            total = total + F.cross_entropy(gate, task)
            own = task > 0
            if own.any():
                total = total + engine.loss_function(logits[own], iou[own], label[own])
            dices.append(float(hard_dice(logits, label).mean()))
            answer(sessions, logits, rng)
        optimise(engine, total / rounds, self.clip_norm, network)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: logits,
                CommonKeys.LOSS: float(total.detach()) / rounds, "dice_per_round": dices}
