"""Uncertainty from many boxes around the given one.

Deng et al., "SAM-U: Multi-box prompts triggered uncertainty estimation for reliable SAM in medical image", 2023: one
encoding, M boxes drawn around the user's, mean probability and its entropy. Zhou et al., "MedSAM-U: Uncertainty-guided
auto multi-prompt adaptation for reliable MedSAM", 2024, motivates the search for the prompt of least uncertainty; the
candidates tried here and the stop rule are ours.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.seeding import generator
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import normalise
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.zoom import Look, ZoomSettings, as_chance, bounds, ct_window, keep_promises
from promptzoo.prompts.encoders.tokens import sam_prompt


@dataclass(frozen=True)
class MultiBox:
    """How boxes are drawn.

    Args:
        boxes: number of boxes, the given one among them.
        noise: standard deviation of each face's shift, as a fraction of the box's side.
        refine: most moves of the box towards less uncertainty (MedSAM-U); 0 keeps the given box (SAM-U).
        move: size of a move, as a fraction of the box's side.
        seed: of the shifts; the same prompt always gives the same answer.

    Raises:
        BundleError: for fewer than two boxes or negative numbers.
    """

    boxes: int = 10
    noise: float = 0.06
    refine: int = 0
    move: float = 0.06
    seed: int = 0

    def __post_init__(self) -> None:
        if self.boxes < 2 or min(self.noise, self.refine, self.move) < 0:
            raise BundleError(complain("multi-box settings", [self.boxes, self.noise, self.refine, self.move],
                                       "two boxes or more, no negative number"))

    def around(self, box: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The given box and shifted ones, faces ``[d]`` each."""
        low, high = box
        side, rng = high - low, generator(self.seed, 0)
        shifts = rng.normal(0.0, self.noise, (self.boxes - 1, 2, len(low))) * side
        return [box, *((np.minimum(low + a, high - 0.5), np.maximum(high + b, low + 0.5)) for a, b in shifts)]

    def moves(self, box: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes one move away: each face inwards and outwards."""
        found, side = [], box[1] - box[0]
        for axis in range(len(side)):
            for face in (0, 1):
                for sign in (-1.0, 1.0):
                    faces = [box[0].copy(), box[1].copy()]
                    faces[face][axis] += sign * self.move * side[axis]
                    found.append((faces[0], faces[1]))
        return found


class MultiBoxSegmenter(SamSegmenter):
    """A :class:`SamSegmenter` whose answer to a box is the mean over many boxes, with the boxes' agreement as its
    estimated Dice. Objects without a box are given the box of their first mask.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        multibox: how boxes are drawn.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, multibox: MultiBox,
                 limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.multibox = multibox

    def __call__(self, image: np.ndarray, spacing: Sequence[float], prompts: ObjectPrompts,
                 hounsfield: bool = False) -> Look:
        """Segment; see :meth:`ZoomSegmenter.__call__`."""
        look = super().__call__(image, spacing, prompts, hounsfield)
        if hounsfield:
            image = ct_window(image, prompts)
        box = prompts.box
        if box is None:
            found = bounds(look.probability >= 0.5)
            if found is None:
                return replace_quality(look, look.probability, 0.0)
            box = tuple(np.asarray(look.window.origin) + face * np.asarray(look.window.step) for face in found)
        best, agreement = self._mean(image, look, prompts, box)
        for _ in range(self.multibox.refine):
            tried = [(other, *self._mean(image, look, prompts, other)) for other in self.multibox.moves(box)]
            other, mean, score = max(tried, key=lambda entry: entry[2])
            if score <= agreement + 1e-3:
                break
            box, best, agreement = other, mean, score
        faces = "-".join(str(np.round(face, 1).tolist()) for face in box)
        return replace_quality(look, best, agreement, f"box {faces}")

    def _mean(self, image: np.ndarray, look: Look, prompts: ObjectPrompts,
              box: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
        """Mean probability over the boxes around one, and how well their masks agree (mean pairwise Dice)."""
        window = look.window
        view = normalise(window.sample(image))
        encoded = self.encodings.get([view], self.parts.encode)[0]
        prior = None if prompts.prior is None else window.sample(prompts.prior)
        told = [sam_prompt(replace(prompts, box=one).in_window(window, prior), view)
                for one in self.multibox.around(box)]
        inputs = [np.repeat(part[None], len(told), 0) for part in encoded]
        inputs += [np.stack([getattr(t, name) for t in told]) for name in ("points", "labels", "dense")]
        chances = as_chance(self.network(*inputs)[0][:, 0])
        return keep_promises(chances.mean(0), prompts, window), agreement_of(chances >= 0.5)


def replace_quality(look: Look, probability: np.ndarray, quality: float, told: str = "") -> Look:
    """A look with another answer, and what was done in its history."""
    return Look(look.window, probability, quality, look.history + ((told,) if told else ()))


def agreement_of(masks: np.ndarray) -> float:
    """Mean pairwise Dice of masks ``[M, *S]`` bool, in [0, 1]; empty pairs agree."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common, sizes = flat @ flat.T, flat.sum(1)
    total = sizes[:, None] + sizes[None]
    pairs = np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0)
    return float(pairs[np.triu_indices(len(masks), 1)].mean())


def uncertainty_score(probability: np.ndarray, dilate_px: int = 3) -> float:
    """Mean binary entropy (bits) within the dilated mask of a mean probability; 0 for an empty mask."""
    mask = ndimage.binary_dilation(probability >= 0.5, iterations=dilate_px)
    if not mask.any():
        return 0.0
    p = np.clip(probability[mask], 1e-6, 1 - 1e-6)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())
