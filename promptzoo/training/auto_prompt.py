"""Training of the head that finds prompts, on procedural images of nuclei, with everything else frozen."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.engines.utils import IterationEvents
from monai.losses import DiceLoss
from monai.utils.enums import CommonKeys
from scipy import ndimage
from torch import nn
from torch.utils.data import Dataset

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.nuclei import ProceduralNuclei
from promptzoo.inference.resample import normalise
from promptzoo.networks.auto_prompt import HEAD_STRIDE
from promptzoo.training.loss import hard_dice
from promptzoo.training.step import optimise


class NucleiDataset(Dataset):
    """Procedural images of nuclei; item ``n`` is always the same.

    Args:
        length: number of images.
        size: side of the image in pixels; several sizes are used one after the other in equal parts of the dataset.
        seed: different seeds share no image.
        empty_share: share of images without nuclei.
    """

    def __init__(self, length: int, size: int | Sequence[int] = 128, seed: int = 0, empty_share: float = 0.12) -> None:
        self.length, self.seed, self.empty_share = length, seed, empty_share
        self.sizes = (size,) if isinstance(size, int) else tuple(size)
        self._sources: dict[int, ProceduralNuclei] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Image ``index``: ``image`` ``[1, S, S]`` float32 in [-1, 1] and ``label`` ``[1, S, S]`` int32 per nucleus.

        Raises:
            IndexError: beyond the last image.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"image {index} of {self.length}")
        size = self.sizes[index * len(self.sizes) // self.length]
        if size not in self._sources:  # built in the worker that uses it
            self._sources[size] = ProceduralNuclei(size, self.seed, self.empty_share)
        image, labels = self._sources[size].sample(generator(self.seed, index))
        return {"image": torch.from_numpy(normalise(image))[None], "label": torch.from_numpy(labels)[None]}


def head_targets(labels: np.ndarray, spread: float = 0.09) -> dict[str, np.ndarray]:
    """What the head should say of an image.

    Args:
        labels: ``[S, S]``, 0 for background, then one number per object.
        spread: standard deviation of the centres' Gaussians as a fraction of the mean side of the box.

    Returns:
        ``foreground`` ``[S/2, S/2]``: object, but for cells where two objects touch; ``border``: where
        both object and background or another object are within three pixels; ``centre``: Gaussians of height 1 at the
        centres of the boxes; ``size`` ``[2, S/2, S/2]``: logarithm of the box's sides in pixels around the centres;
        ``near``: where ``size`` counts.
    """
    wide, narrow = ndimage.maximum_filter(labels, 3), ndimage.minimum_filter(np.where(labels, labels, 2 ** 30), 3)
    apart = (labels > 0) & ~((narrow < labels) | (wide > labels))
    border = ndimage.maximum_filter(labels, 7) != ndimage.minimum_filter(labels, 7)
    side = labels.shape[0] // HEAD_STRIDE
    centre, near = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    size = np.zeros((2, side, side), np.float32)
    for place in ndimage.find_objects(labels):
        if place is None:
            continue
        low, high = np.array([s.start for s in place], float), np.array([s.stop for s in place], float)
        at = (low + high) / 2 / HEAD_STRIDE - 0.5
        sigma = max(0.8, spread * float((high - low).mean()) / HEAD_STRIDE)
        reach = int(np.ceil(3 * sigma))
        middle = np.clip(np.rint(at).astype(int), 0, side - 1)
        region = tuple(slice(max(0, m - reach), m + reach + 1) for m in middle)
        rows, columns = np.ogrid[tuple(slice(r.start, min(side, r.stop)) for r in region)]
        bump = np.exp(-((rows - at[0]) ** 2 + (columns - at[1]) ** 2) / (2 * sigma ** 2)).astype(np.float32)
        bump = np.where((rows == middle[0]) & (columns == middle[1]), 1.0, bump)
        own = bump > centre[region]
        centre[region] = np.maximum(centre[region], bump)
        close = own & (bump > 0.3)
        near[region][close] = bump[close]
        for axis in (0, 1):
            size[axis][region][close] = np.log(high[axis] - low[axis])

    def shrunk(mask: np.ndarray) -> np.ndarray:
        return mask.reshape(side, HEAD_STRIDE, side, HEAD_STRIDE).mean((1, 3), dtype=np.float32)

    foreground = (shrunk(apart) > 0.6).astype(np.float32)
    return {"foreground": foreground, "border": shrunk(border), "centre": centre, "size": size, "near": near}


class HeadLoss(nn.Module):
    """Dice and cross-entropy of the foreground, more at borders; CenterNet's focal loss of centres; L1 of log sizes.

    Args:
        border_weight: added weight of cells near borders in the cross-entropy (a boundary-aware term).
        centre_weight, size_weight: weights of the other terms.
        smooth_centres: cross-entropy with the height of the Gaussians in the place of the focal loss, which a short
            training hardly moves.
    """

    def __init__(self, border_weight: float = 2.0, centre_weight: float = 1.0, size_weight: float = 0.3,
                 smooth_centres: bool = False) -> None:
        super().__init__()
        self.border_weight, self.centre_weight, self.size_weight = border_weight, centre_weight, size_weight
        self.smooth_centres = smooth_centres
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, maps: torch.Tensor, wanted: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scalar loss of maps ``[B, 4, h, w]`` against batched :func:`head_targets`."""
        weight = 1 + self.border_weight * wanted["border"]
        entropy = F.binary_cross_entropy_with_logits(maps[:, 0], wanted["foreground"], weight)
        centre = self._centre(maps[:, 1], wanted["centre"])
        near = wanted["near"][:, None]
        size = (near * (maps[:, 2:] - wanted["size"]).abs()).sum() / near.sum().clamp(min=1.0)
        return (self.dice(maps[:, :1], wanted["foreground"][:, None]) + entropy + self.centre_weight * centre
                + self.size_weight * size)

    def _centre(self, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        if self.smooth_centres:
            weight = 1 + self.border_weight * (truth > 0.5)
            return F.binary_cross_entropy_with_logits(logits, truth, weight)
        chance = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
        peak = (truth > 0.999).to(chance.dtype)
        found = peak * (1 - chance).square() * chance.log()
        false = (1 - peak) * (1 - truth) ** 4 * chance.square() * (1 - chance).log()
        return -(found + false).sum() / peak.sum().clamp(min=8.0)


class HeadUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``, for ``AutoPromptSam``.

    Args:
        amp: use bfloat16 autocast.
        clip_norm: bound of the gradient norm.
        spread: of the centres, see :func:`head_targets`.
    """

    def __init__(self, amp: bool = True, clip_norm: float = 5.0, spread: float = 0.09) -> None:
        self.amp, self.clip_norm, self.spread = amp, clip_norm, spread

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on a batch; returns image, label, pred (foreground logits) and losses."""
        network = getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        network.train()
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            maps = network.maps(image.contiguous(memory_format=torch.channels_last))
        loss = engine.loss_function(maps.float(), _batched(batchdata["label"], image.device, self.spread))
        optimise(engine, loss, self.clip_norm, network.prompt_head)
        label = (batchdata["label"] > 0).to(image.device)
        pred = F.interpolate(maps[:, :1].detach().float(), scale_factor=HEAD_STRIDE, mode="bilinear")
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label.float(), CommonKeys.PRED: pred,
                CommonKeys.LOSS: float(loss.detach()), "dice_per_round": [float(hard_dice(pred, label.float()).mean())]}


class HeadEvaluation:
    """``iteration_update`` of ``monai.engines.SupervisedEvaluator``: the coarse foreground."""

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Evaluate a batch; ``pred`` holds masks ``[B, 1, S, S]``."""
        network = getattr(engine.network, "module", engine.network)
        image = batchdata["image"].to(engine.state.device, dtype=torch.float32)
        network.eval()
        with torch.inference_mode():
            maps = F.interpolate(network.maps(image)[:, :1], scale_factor=HEAD_STRIDE, mode="bilinear")
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: (batchdata["label"] > 0).to(image.device).float(),
                CommonKeys.PRED: (maps > 0).float()}


def _batched(labels: torch.Tensor, device: torch.device | str, spread: float) -> dict[str, torch.Tensor]:
    """:func:`head_targets` of labels ``[B, 1, S, S]``."""
    told = [head_targets(label, spread) for label in labels.cpu().numpy()[:, 0]]
    return {name: torch.from_numpy(np.stack([t[name] for t in told])).to(device) for name in told[0]}
