"""The answer to one slice of a volume, and what it tells of the next slice."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import PromptError, complain
from promptzoo.inference.looks import bounds
from promptzoo.inference.object_prompts import ObjectPrompts

NO_POINTS = np.zeros((0, 2))


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """The answer to one slice.

    Args:
        shape: of the slice.
        offset: first pixel of the region; outside it the probability is 0.
        region: probability float32.
        quality: the network's estimate.
        history: windows looked through.
    """

    shape: tuple[int, ...]
    offset: tuple[int, ...]
    region: np.ndarray
    quality: float
    history: tuple[str, ...] = ()

    @classmethod
    def full(cls, plane: np.ndarray, quality: float) -> "SliceAnswer":
        """The answer with this probability; only the region around it is held."""
        found = bounds(plane > 0)
        if found is None:
            return cls(plane.shape, (0, 0), np.zeros((1, 1), np.float32), quality)
        low, high = (np.round(face + 0.5).astype(int) for face in found)
        cut = tuple(slice(a, b) for a, b in zip(low, high))
        return cls(plane.shape, tuple(int(a) for a in low), np.ascontiguousarray(plane[cut], dtype=np.float32), quality)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(self.region.nbytes)

    @property
    def plane(self) -> np.ndarray:
        """Probability of the whole slice, float32."""
        whole = np.zeros(self.shape, dtype=np.float32)
        whole[tuple(slice(o, o + n) for o, n in zip(self.offset, self.region.shape))] = self.region
        return whole

    @property
    def mask(self) -> np.ndarray:
        """Boolean mask of the whole slice."""
        return self.plane >= 0.5


def prompts_of(answer: SliceAnswer, margin: float, points: bool = False, mask: bool = False) -> ObjectPrompts:
    """What the mask of a slice tells of the next one; the arguments are those of
    :class:`promptzoo.inference.propagation.Propagation`."""
    inside = answer.mask
    found = bounds(inside)
    if found is None:
        raise PromptError(complain("mask to carry", "an empty one", "a mask with at least one pixel"))
    grow = margin * (found[1] - found[0])
    faces = np.maximum(found[0] - grow, -0.5), np.minimum(found[1] + grow, np.asarray(inside.shape) - 0.5)
    points = inner_point(inside)[None] if points else NO_POINTS
    return ObjectPrompts(points, NO_POINTS, faces, NO_POINTS, NO_POINTS, prior=answer.plane if mask else None)


def inner_point(mask: np.ndarray) -> np.ndarray:
    """The pixel deepest inside a mask, ``[2]`` float."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return np.asarray(np.unravel_index(int(np.argmax(depth)), mask.shape), dtype=float)


def between_shapes(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """Probability of the shape between two masks: signed distances are blended (Raya and Udupa, "Shape-based
    interpolation of multidimensional objects", IEEE Trans. Med. Imaging 9, 1990)."""
    signed = [ndimage.distance_transform_edt(m) - ndimage.distance_transform_edt(~m) for m in (first, last)]
    level = (1 - share) * signed[0] + share * signed[1]
    chance = 1 / (1 + np.exp(-np.clip(level, -30, 30)))
    return np.where(chance < 0.01, 0.0, chance).astype(np.float32)


def ranges(indices: Sequence[int]) -> list[list[int]]:
    """Sorted indices as runs ``[first, last]``."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return runs
