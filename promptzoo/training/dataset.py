"""Endless procedural training data as a map-style dataset: item ``n`` is always the same scene."""
from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis import Procedural2D, Procedural3D
from promptzoo.data.synthesis.procedural import Sample
from promptzoo.training.real import OpenRows


class ProceduralDataset(Dataset):
    """Windows with a target mask, generated on the fly.

    Args:
        spatial_dims: 2 or 3.
        length: number of scenes.
        targets_per_scene: targets drawn from one scene; an item holds exactly this many.
        size: side of the window in pixels or voxels; several sizes are used one after the other in equal parts of the
            dataset, small windows first to see many of them, the real size last.
        seed: seed of the dataset; different seeds share no scene.
        easy_share: the first part of the dataset over which the difficulty of the images rises from 0 to 1.
        datalist: CSV whose rows of licence class ``open`` are mixed in, see :class:`promptzoo.training.real.OpenRows`;
            empty for procedural images alone.
        real_share: share of the scenes taken from there.

    Raises:
        PromptZooError: for unusable sizes, or a datalist without such rows.
    """

    def __init__(self, spatial_dims: int, length: int, targets_per_scene: int = 4,
                 size: int | Sequence[int] = 128, seed: int = 0, easy_share: float = 0.0, datalist: str = "",
                 real_share: float = 0.4) -> None:
        if spatial_dims not in (2, 3) or length < 1 or targets_per_scene < 1:
            raise PromptZooError(complain("procedural dataset", [spatial_dims, length, targets_per_scene],
                                          "2 or 3 dimensions, at least one scene and one target"))
        self.spatial_dims, self.length, self.targets, self.seed = spatial_dims, length, targets_per_scene, seed
        self.easy_share = easy_share
        self.sizes = (size,) if isinstance(size, int) else tuple(size)
        self.datalist, self.real_share = datalist, real_share if datalist else 0.0
        self._real: OpenRows | None = None
        self._sources: dict[int, Procedural2D | Procedural3D] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Scene ``index``: ``image`` ``[T, 1, *S]`` float32 in [-1, 1] and ``label`` ``[T, 1, *S]`` bool.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        size = self.sizes[index * len(self.sizes) // self.length]
        if size not in self._sources:  # built in the worker that uses it
            self._sources[size] = (Procedural2D if self.spatial_dims == 2 else Procedural3D)(size, seed=self.seed)
        rng: np.random.Generator = generator(self.seed, index)
        found: list[Sample] = []
        if self.real_share and rng.random() < self.real_share:
            if self._real is None:
                self._real = OpenRows(self.spatial_dims, self.datalist)
            found = self._real.sample(rng, size, self.targets)
        difficulty = min(1.0, index / (self.easy_share * self.length)) if self.easy_share else 1.0
        while len(found) < self.targets:
            found += self._sources[size].sample(rng, self.targets - len(found), difficulty)
        images = np.stack([image for image, _ in found[:self.targets]])[:, None]
        labels = np.stack([mask for _, mask in found[:self.targets]])[:, None]
        return {"image": torch.from_numpy(images.astype(np.float32)), "label": torch.from_numpy(labels)}


def concatenate(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate function: targets of several scenes become one batch ``[sum T, 1, *S]``."""
    return {key: torch.cat([item[key] for item in items]) for key in items[0]}
