"""The protocols and result types through which floor 5 (inference, evaluation, engines) and the app meet."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping, Protocol, Sequence, runtime_checkable

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume

OVERLAP_RULES = ("last", "first", "probability")


@dataclass(frozen=True, eq=False)
class ObjectPrediction:
    """What a network says about one object.

    Args:
        object_id: id of the object in the prompt set, at least 1.
        grid: the image's own grid.
        offset: first voxel ``(i, j, k)`` of the region that ``probability`` covers; outside it the probability is 0.
        probability: ``[i, j, k]`` float32 in [0, 1] inside the region.
        estimated_dice: calibrated estimate of the mask's Dice in [0, 1], or None if the bundle has none.
        threshold: probability from which a voxel belongs to the mask.
        info: free diagnostic values (windows used, passes).
    """

    object_id: int
    grid: Grid
    offset: tuple[int, int, int]
    probability: np.ndarray
    estimated_dice: float | None = None
    threshold: float = 0.5
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def region(self) -> tuple[slice, slice, slice]:
        """Slices of the native array that ``probability`` covers."""
        return tuple(slice(o, o + n) for o, n in zip(self.offset, self.probability.shape))  # type: ignore[return-value]

    @cached_property
    def mask(self) -> np.ndarray:
        """Boolean mask ``[i, j, k]`` on the image's own grid."""
        full = np.zeros(self.grid.shape, dtype=bool)
        full[self.region] = self.probability >= self.threshold
        return full

    def full_probability(self) -> np.ndarray:
        """Probability ``[i, j, k]`` float32 on the image's own grid."""
        full = np.zeros(self.grid.shape, dtype=np.float32)
        full[self.region] = self.probability
        return full

    def uncertainty(self) -> np.ndarray:
        """Binary entropy of the probability, ``[i, j, k]`` float32 in [0, 1] bits, on the image's own grid."""
        p = np.clip(self.full_probability(), 1e-6, 1 - 1e-6)
        return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one prompt set: a prediction per object, in the order of the prompt set's objects."""

    grid: Grid
    objects: tuple[ObjectPrediction, ...]
    seconds: float = 0.0
    engine: str = "torch"

    def __getitem__(self, object_id: int) -> ObjectPrediction:
        for entry in self.objects:
            if entry.object_id == object_id:
                return entry
        raise PromptZooError(complain("object id", object_id, str([o.object_id for o in self.objects])))

    def labelmap(self, overlap: str = "last") -> np.ndarray:
        """One integer map of all objects, ``[i, j, k]`` uint16; voxel value = object id, 0 = background.

        Args:
            overlap: who owns a voxel claimed twice: the ``last`` or ``first`` object in order, or the one of higher
                ``probability``.

        Raises:
            PromptZooError: for an unknown rule.
        """
        if overlap not in OVERLAP_RULES:
            raise PromptZooError(complain("overlap rule", overlap, ", ".join(OVERLAP_RULES)))
        labels = np.zeros(self.grid.shape, dtype=np.uint16)
        best = np.zeros(self.grid.shape, dtype=np.float32) if overlap == "probability" else None
        for entry in self.objects:
            claim, view = entry.probability >= entry.threshold, labels[entry.region]
            if best is not None:
                own = best[entry.region]
                claim &= entry.probability > own
                own[claim] = entry.probability[claim]
            elif overlap == "first":
                claim &= view == 0
            view[claim] = entry.object_id
        return labels


@runtime_checkable
class Predictor(Protocol):
    """Encode once, prompt many times (contract 3). Every bundle is served through an object of this kind."""

    name: str
    prompt_kinds: frozenset[str]

    def encode(self, volume: Volume) -> Any:
        """Prepare an image; the result is reusable for any number of :meth:`decode` calls."""

    def decode(self, state: Any, prompts: Any, previous: Prediction | None = None) -> Prediction:
        """Answer a ``PromptSet``; ``previous`` is the last prediction of the same session (warm start)."""


@runtime_checkable
class Engine(Protocol):
    """A compiled network: plain arrays in, plain arrays out."""

    name: str
    precision: str

    def __call__(self, *inputs: np.ndarray) -> Sequence[np.ndarray]:
        """Run on float32 arrays in the order of the exported network's inputs; returns its outputs as float32."""
