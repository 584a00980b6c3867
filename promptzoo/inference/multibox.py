"""Uncertainty from many boxes around the given one.

Deng et al., "SAM-U: Multi-box prompts triggered uncertainty estimation for reliable SAM in medical image", 2023: one
encoding, M boxes drawn around the user's, mean probability and its entropy. Zhou et al., "MedSAM-U: Uncertainty-guided
auto multi-prompt adaptation for reliable MedSAM", 2024, motivates the search for the prompt of least uncertainty; the
candidates tried here and the stop rule are ours.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.seeding import generator
from promptzoo.inference.looks import Look, bounds, in_window, keep_promises
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import normalise
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.tissue_window import ct_window
from promptzoo.inference.zoom import Course, ZoomSettings
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

    def _course(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts, hounsfield: bool) -> Course:
        if hounsfield:
            image = ct_window(image, prompts)
        look = yield from super()._course(image, spacing, prompts, False)
        box = prompts.box
        if box is None:
            found = bounds(look.probability >= 0.5)
            if found is None:
                return replace(look, quality=0.0)
            box = tuple(np.asarray(look.window.origin) + face * np.asarray(look.window.step) for face in found)
        view = normalise(look.window.sample(image))
        best, agreement = self._mean(view, look, prompts, box)
        for _ in range(self.multibox.refine):
            tried = [(other, *self._mean(view, look, prompts, other)) for other in self.multibox.moves(box)]
            other, mean, score = max(tried, key=lambda entry: entry[2])
            if score <= agreement + 1e-3:
                break
            box, best, agreement = other, mean, score
        faces = "-".join(str(np.round(face, 1).tolist()) for face in box)
        return replace(look, probability=best, quality=agreement, history=(*look.history, f"box {faces}"))

    def _mean(self, view: np.ndarray, look: Look, prompts: ObjectPrompts,
              box: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, float]:
        """Mean probability over the boxes around one, and how well their masks agree (mean pairwise Dice)."""
        asked = [replace(prompts, box=one) for one in self.multibox.around(box)]
        told = [sam_prompt(in_window(one, look.window, None), view) for one in asked]
        logits = self.ask([self.encoded(view)] * len(told), told)[0][:, 0]
        chances = np.stack([self.promised(*pair, look.window) for pair in zip(logits, asked)])
        return keep_promises(chances.mean(0), prompts, look.window), agreement_of(chances >= 0.5)


def agreement_of(masks: np.ndarray) -> float:
    """Mean pairwise Dice of masks ``[M, *S]`` bool, in [0, 1]; empty pairs agree."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common, sizes = flat @ flat.T, flat.sum(1)
    total = sizes[:, None] + sizes[None]
    pairs = np.where(total > 0, 2 * common / np.maximum(total, 1), 1.0)
    return float(pairs[np.triu_indices(len(masks), 1)].mean())
