"""All masks of a slice first, then the prompt picks among them.

FastSAM (Zhao et al., "Fast Segment Anything", 2023, section 3.3; its public code was read) splits prompting into
all-instance segmentation, once per image, and prompt-guided selection: a box takes the mask of highest intersection
over union with it, points take the masks that hold a foreground point, without those that hold a background point. Its
masks come from a detector; here from a grid of clicks on a promptable network, see
:mod:`promptzoo.inference.everything`.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.everything import Everything, Proposal, find_everything
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.looks import Look, resample_look
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, SamSegmenter, dice_of_iou
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.state import StateCache
from promptzoo.inference.tissue_window import ct_window
from promptzoo.inference.zoom import ZoomSettings


@dataclass(frozen=True, eq=False)
class Instances:
    """All masks of a slice, best predicted IoU first."""

    found: tuple[Proposal, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(proposal.chance.nbytes for proposal in self.found)


class EverythingFirst(SamSegmenter):
    """A :class:`SamSegmenter` that answers only with masks found without the prompt.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        everything: how masks are found.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, everything: Everything,
                 limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.everything, self.slices = everything, StateCache(limit_bytes)

    def many(self, image: np.ndarray, spacing: Sequence[float], prompts: Sequence[ObjectPrompts],
             hounsfield: bool = False) -> list[Look]:
        """Pick for several objects; see :meth:`ZoomSegmenter.many`. An object that no mask fits gets an empty look of
        quality 0."""
        return [self._pick(ct_window(image, one) if hounsfield else image, np.asarray(spacing, float), one)
                for one in prompts]

    def _pick(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts) -> Look:
        key = (hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest(), tuple(spacing))
        proposals = self.slices.get(key, lambda: Instances(tuple(
            find_everything(self, image, spacing, self.everything)))).found
        chosen, refused = picked(proposals, prompts)
        history = (f"{len(proposals)} masks",)
        window = self.window_over(np.full(2, -0.5), np.asarray(image.shape) - 0.5, spacing, image.shape)
        if not chosen:
            return Look(window, np.zeros(window.shape, np.float32), 0.0, history)
        chance = np.max([on_window(one, window) for one in chosen], 0)
        for other in refused:
            chance = np.where(on_window(other, window) >= 0.5, np.minimum(chance, 0.49), chance)
        quality = float(np.mean([dice_of_iou(one.iou) for one in chosen]))
        return Look(window, chance.astype(np.float32), quality, history)


def on_window(proposal: Proposal, window: Window) -> np.ndarray:
    """Probability ``[*S]`` of a mask on another window; 0 where it was not looked for."""
    if proposal.window == window:
        return proposal.chance
    return resample_look(Look(proposal.window, proposal.chance, proposal.iou), window)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of boolean arrays; 0 if both are empty."""
    total = int((first | second).sum())
    return int((first & second).sum()) / total if total else 0.0


def picked(proposals: Sequence[Proposal], prompts: ObjectPrompts) -> tuple[list[Proposal], list[Proposal]]:
    """The masks that prompts mean, and those that they rule out.

    A negative click rules out the smallest mask that holds it. Of the others a box, else a lasso, else a mask when no
    click is there, means the one of highest intersection over union with its region; every positive click outside of it
    adds the smallest mask that holds it. (FastSAM's points take every mask that holds them.)

    Args:
        proposals: masks of the slice.
        prompts: of one object.
    """
    smallest = sorted(proposals, key=_area)

    def holder(point: np.ndarray, among: Sequence[Proposal]) -> list[Proposal]:
        return next(([p] for p in among if _holds(p, point)), [])

    refused: list[Proposal] = []
    for point in np.concatenate([prompts.negative, prompts.scribble_negative]):
        refused += holder(point, smallest)
    free = [p for p in smallest if all(p is not other for other in refused)]
    scores = [region_overlap(p, prompts) for p in free]
    chosen = [free[int(np.argmax(scores))]] if scores and max(scores) > 0 else []
    for point in np.concatenate([prompts.positive, prompts.scribble_positive]):
        if not any(_holds(p, point) for p in chosen):
            chosen += holder(point, free)
    return chosen, refused


def region_overlap(proposal: Proposal, prompts: ObjectPrompts) -> float:
    """Intersection over union of a mask with the region that prompts tell, as far as its window sees it; 0 without."""
    window, mask = proposal.window, proposal.chance >= 0.5
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


def _area(proposal: Proposal) -> float:
    return float((proposal.chance >= 0.5).sum() * np.prod(proposal.window.step))


def _holds(proposal: Proposal, point: np.ndarray) -> bool:
    at = np.rint(proposal.window.to_window(np.asarray(point)[None]))[0].astype(int)
    if (at < 0).any() or (at >= proposal.chance.shape).any():
        return False
    return bool(proposal.chance[tuple(at)] >= 0.5)


class EverythingInferer(SamInferer):
    """Inferer that picks among all masks of a slice.

    Args:
        everything: arguments of :class:`~promptzoo.inference.everything.Everything`.
        others: see :class:`SamInferer`; it takes no ``multibox``.

    Raises:
        BundleError: with ``multibox``.
    """

    def __init__(self, everything: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        if self.multibox is not None:
            raise BundleError(complain("multibox beside everything", others["multibox"], "one of the two"))
        self.everything = Everything(**(everything or {}))

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> InteractivePredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = EverythingFirst(network, self.settings, self.everything, self.embedding_mb << 20)
        return InteractivePredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS,
                                    segmenter=segmenter)
