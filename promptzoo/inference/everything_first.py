"""All masks of a slice first, then the prompt picks among them.

FastSAM (Zhao et al., "Fast Segment Anything", 2023, section 3.3; its public code was read) splits prompting into
all-instance segmentation, once per image, and prompt-guided selection: a box takes the mask of highest intersection
over union with it, points take the masks that hold a foreground point, without those that hold a background point. Its
masks come from a detector; here they come from a grid of clicks on a promptable network, with the filters of SAM's
automatic masks (Kirillov et al., ICCV 2023, appendix B): predicted IoU, stability, non-maximum suppression.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.sam import SamParts, SamSegmenter, dice_of_iou
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.state import StateCache
from promptzoo.inference.zoom import Look, ZoomSettings, as_chance, ct_window
from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.encoders.tokens import sam_prompt

BATCH = 10
"""Clicks of one decoder pass."""


@dataclass(frozen=True)
class Grid:
    """Clicks and filters.

    Args:
        side: clicks along each side of the slice.
        iou: least predicted IoU of a mask.
        stability: least IoU between the masks cut at logits +1 and -1.
        overlap: most IoU with a mask of better predicted IoU.
        least, most: smallest and largest share of the window that a mask covers.

    Raises:
        BundleError: for no clicks, or shares beyond 0 … 1.
    """

    side: int = 10
    iou: float = 0.3
    stability: float = 0.4
    overlap: float = 0.8
    least: float = 0.001
    most: float = 0.9

    def __post_init__(self) -> None:
        shares = (self.iou, self.stability, self.overlap, self.least, self.most)
        if self.side < 1 or not all(0 <= share <= 1 for share in shares):
            raise BundleError(complain("grid of clicks", repr(self), "one click or more, shares in 0 … 1"))


@dataclass(frozen=True, eq=False)
class Instance:
    """A mask found without a prompt.

    Args:
        window: where it lies.
        chance: probability ``[*S]`` float32 on the window.
        iou: predicted.
    """

    window: Window
    chance: np.ndarray
    iou: float


@dataclass(frozen=True, eq=False)
class Instances:
    """All masks of a slice, best predicted IoU first."""

    found: tuple[Instance, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(instance.chance.nbytes for instance in self.found)


class EverythingFirst(SamSegmenter):
    """A :class:`SamSegmenter` that answers only with masks found without the prompt.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        grid: how masks are found.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, grid: Grid, limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.grid, self.slices = grid, StateCache(limit_bytes)

    def many(self, image: np.ndarray, spacing: Sequence[float], prompts: Sequence[ObjectPrompts],
             hounsfield: bool = False) -> list[Look]:
        """Pick for several objects; see :meth:`ZoomSegmenter.many`. An object that no mask fits gets an empty look of
        quality 0."""
        return [self._pick(ct_window(image, one) if hounsfield else image, np.asarray(spacing, float), one)
                for one in prompts]

    def _pick(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts) -> Look:
        window = self._window(np.full(2, -0.5), np.asarray(image.shape) - 0.5, 1.0, spacing, image.shape)
        view = normalise(window.sample(image))
        key = (hashlib.blake2b(view.tobytes(), digest_size=16).hexdigest(), repr(window))
        instances = self.slices.get(key, lambda: Instances(tuple(self.instances(view, window, image.shape)))).found
        chosen, refused = picked(instances, prompts)
        history = (f"{len(instances)} masks",)
        if not chosen:
            return Look(window, np.zeros(window.shape, np.float32), 0.0, history)
        chance = np.max([instance.chance for instance in chosen], 0)
        for other in refused:
            chance = np.where(other.chance >= 0.5, np.minimum(chance, 0.49), chance)
        quality = float(np.mean([dice_of_iou(instance.iou) for instance in chosen]))
        return Look(window, chance.astype(np.float32), quality, history)

    def instances(self, view: np.ndarray, window: Window, shape: Sequence[int]) -> list[Instance]:
        """The masks of a slice.

        Args:
            view: ``[S, S]`` in [-1, 1], what the window sees.
            window: over the whole slice.
            shape: of the slice.
        """
        lines = [(np.arange(self.grid.side) + 0.5) / self.grid.side * n - 0.5 for n in shape]
        clicks = window.to_window(np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 2))
        encoding = [np.repeat(part[None], BATCH, 0) for part in self.encoded(view).parts]
        scored: list[tuple[float, np.ndarray]] = []
        for start in range(0, len(clicks), BATCH):
            told = [sam_prompt(WindowPrompts(2, positive=click[None]), view) for click in clicks[start:start + BATCH]]
            prompts = [np.stack([getattr(one, name) for one in told]) for name in ("points", "labels", "dense")]
            masks, ious = self.network(*(part[:len(told)] for part in encoding), *prompts)[2:]
            scored += [(float(iou), logits) for iou, logits in zip(ious[:, 1:].ravel(), masks[:, 1:].reshape(
                -1, *masks.shape[2:])) if self._passes(float(iou), logits)]
        kept: list[tuple[float, np.ndarray]] = []
        for iou, logits in sorted(scored, key=lambda entry: -entry[0]):
            if all(mask_iou(logits > 0, other > 0) <= self.grid.overlap for _, other in kept):
                kept.append((iou, logits))
        return [Instance(window, as_chance(_enlarged(logits, window.shape)), iou) for iou, logits in kept]

    def _passes(self, iou: float, logits: np.ndarray) -> bool:
        """Whether a mask is good, stable, and neither a speck nor the whole window."""
        share, lax = float((logits > 0).mean()), int((logits > -1).sum())
        stability = int((logits > 1).sum()) / lax if lax else 0.0
        return iou >= self.grid.iou and stability >= self.grid.stability and self.grid.least <= share <= self.grid.most


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of boolean arrays; 0 if both are empty."""
    total = int((first | second).sum())
    return int((first & second).sum()) / total if total else 0.0


def _enlarged(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """``[*s]`` values on a window of more pixels ``shape``, linear, pixel centres where they belong."""
    factors = [n / m for n, m in zip(shape, values.shape)]
    return ndimage.zoom(values.astype(np.float32), factors, order=1, mode="nearest", grid_mode=True)


def picked(instances: Sequence[Instance], prompts: ObjectPrompts) -> tuple[list[Instance], list[Instance]]:
    """The masks that prompts mean, and those that they rule out.

    A negative click rules out the smallest mask that holds it. Of the others a box, else a lasso, else a mask when no
    click is there, means the one of highest intersection over union with its region; every positive click outside of it
    adds the smallest mask that holds it. (FastSAM's points take every mask that holds them.)

    Args:
        instances: masks of the slice.
        prompts: of one object.
    """
    smallest = sorted(instances, key=_area)

    def holder(point: np.ndarray, among: Sequence[Instance]) -> list[Instance]:
        return next(([p] for p in among if _holds(p, point)), [])

    refused: list[Instance] = []
    for point in np.concatenate([prompts.negative, prompts.scribble_negative]):
        refused += holder(point, smallest)
    free = [p for p in smallest if all(p is not other for other in refused)]
    scores = [region_overlap(p, prompts) for p in free]
    chosen = [free[int(np.argmax(scores))]] if scores and max(scores) > 0 else []
    for point in np.concatenate([prompts.positive, prompts.scribble_positive]):
        if not any(_holds(p, point) for p in chosen):
            chosen += holder(point, free)
    return chosen, refused


def region_overlap(instance: Instance, prompts: ObjectPrompts) -> float:
    """Intersection over union of a mask with the region that prompts tell, as far as its window sees it; 0 without."""
    window, mask = instance.window, instance.chance >= 0.5
    told = prompts.in_window(window, None if prompts.prior is None else window.sample(prompts.prior))
    if told.box is not None:
        wanted = np.ones(mask.shape, bool)
        for axis, (low, high) in enumerate(zip(*told.box)):
            at = np.arange(mask.shape[axis])
            inside = (at >= low) & (at <= high)
            wanted &= np.expand_dims(inside, tuple(a for a in range(mask.ndim) if a != axis))
    elif told.lasso is not None and (told.lasso > 0).any():
        wanted = told.lasso > 0
    elif told.previous is not None and not len(prompts.positive) and not len(prompts.scribble_positive):
        wanted = told.previous >= 0.5
    else:
        return 0.0
    return mask_iou(mask, wanted)


def _area(instance: Instance) -> float:
    return float((instance.chance >= 0.5).sum() * np.prod(instance.window.step))


def _holds(instance: Instance, point: np.ndarray) -> bool:
    at = np.rint(instance.window.to_window(np.asarray(point)[None]))[0].astype(int)
    if (at < 0).any() or (at >= instance.chance.shape).any():
        return False
    return bool(instance.chance[tuple(at)] >= 0.5)


class EverythingInferer(SamInferer):
    """Inferer that picks among all masks of a slice.

    Args:
        everything: arguments of :class:`Grid`.
        others: see :class:`SamInferer`; it takes no ``multibox``.

    Raises:
        BundleError: with ``multibox``.
    """

    def __init__(self, everything: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        if self.multibox is not None:
            raise BundleError(complain("multibox beside everything", others["multibox"], "one of the two"))
        self.everything = Grid(**(everything or {}))

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> InteractivePredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = EverythingFirst(network, self.settings, self.everything, self.embedding_mb << 20)
        return InteractivePredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS,
                                    segmenter=segmenter)
