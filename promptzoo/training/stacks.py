"""Windows of a slice together with its neighbours: through a torso, or over a heart cycle."""
from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.cine import cine
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.tissue_window import ct_limits
from promptzoo.training.organs import POOL, SCENES_PER_TORSO, OrganScenes, nearest, varied

LEAST_PIXELS = 30
"""Size of a structure on its slice."""

SPOILT_SHARE = 0.4
"""Share of slices of which a band is lost."""

_cycle = lru_cache(maxsize=POOL + 1)(cine)


class OrganStacks(OrganScenes):
    """Windows around organs on axial slices of procedural torsos, with the neighbouring slices; item ``n`` is always
    the same. Every slice has noise of its own, as thin slices have, and some are spoilt, see :func:`spoilt`.

    Args:
        length, seed: see :class:`promptzoo.training.organs.OrganScenes`.
        targets_per_scene: windows per scene.
        size: side of the window in pixels.
        slices: slices of a stack, odd.
        most_noise: largest standard deviation of the noise, in units of the window's half range.

    Raises:
        PromptZooError: for an empty dataset or an even number of slices.
    """

    def __init__(self, length: int, targets_per_scene: int = 4, size: int = 128, slices: int = 3, seed: int = 0,
                 most_noise: float = 0.5) -> None:
        super().__init__(length, seed)
        if slices % 2 == 0:
            raise PromptZooError(complain("slices of a stack", slices, "an odd number"))
        self.targets, self.size, self.slices, self.most_noise = targets_per_scene, size, slices, most_noise

    def volume(self, index: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
        """The draws of scene ``index``, its intensities and labels ``[i, j, k]`` and the spacing."""
        rng, (data, labels, spacing) = self.scene(index)
        return rng, data, labels, spacing

    def limits(self, tissue: float) -> tuple[float, float]:
        """Black and white of the display for the structure's median intensity."""
        return ct_limits(tissue)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[T, slices, S, S]`` float32 in [-1, 1] and ``label`` ``[T, 1, S, S]`` bool, of the middle slice.

        Raises:
            IndexError: beyond the last scene.
        """
        rng, data, labels, spacing = self.volume(index)
        images, truth = [], []
        while len(images) < self.targets:
            k, value = int(rng.integers(data.shape[2])), 1 + int(rng.integers(labels.max()))
            places = np.argwhere(labels[..., k] == value)
            if len(places) < LEAST_PIXELS:
                continue
            low, high = places.min(0) - 0.5, places.max(0) + 0.5
            sides = ((high - low) * spacing[:2]).max() * rng.uniform(1.2, 2.4) / spacing[:2]
            window = Window.around((low + high) / 2 + rng.uniform(-0.12, 0.12, 2) * sides, sides, (self.size,) * 2)
            around = np.clip(k + np.arange(self.slices) - self.slices // 2, 0, data.shape[2] - 1)
            shown = np.clip(data[..., around], *self.limits(float(np.median(data[labels == value]))))
            stack = normalise(np.stack([window.sample(shown[..., n]) for n in range(self.slices)]))
            noise = rng.uniform(0, self.most_noise)
            stack = spoilt(varied(stack, rng), rng)
            images.append(np.clip(stack + noise * rng.standard_normal(stack.shape), -1, 1))
            truth.append(nearest(window, labels[..., k]) == value)
        return {"image": torch.from_numpy(np.stack(images).astype(np.float32)),
                "label": torch.from_numpy(np.stack(truth)[:, None])}


class CineStacks(OrganStacks):
    """Windows around ventricles and myocardium of procedural heart cycles, with the neighbouring frames.

    Args:
        length, targets_per_scene, size, slices, seed, most_noise: see :class:`OrganStacks`; slices are frames here.
    """

    def __init__(self, length: int, targets_per_scene: int = 4, size: int = 128, slices: int = 3,
                 seed: int = 0, most_noise: float = 0.5) -> None:
        super().__init__(length, targets_per_scene, size, slices, seed, most_noise)

    def volume(self, index: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, np.ndarray]:
        """See :meth:`OrganStacks.volume`; the last axis is time."""
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        newest = index // SCENES_PER_TORSO + POOL
        rng = generator(self.seed, index)
        data, labels = _cycle((1_000_003 * self.seed + newest - int(rng.integers(POOL))) % 2 ** 31)
        return rng, data, labels, np.ones(3)

    def limits(self, tissue: float) -> tuple[float, float]:
        """None: all that is there."""
        return -np.inf, np.inf


def spoilt(stack: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slices ``[slices, S, S]`` of which some lost what lies in a band, as by a streak, a fold or a missed trigger:
    only a neighbour knows what is there."""
    found, side = stack.copy(), stack.shape[-1]
    rows, columns = np.indices(stack.shape[1:]) - (side - 1) / 2
    for one in found:
        if rng.random() >= SPOILT_SHARE:
            continue
        angle, shift, width = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25) * side, rng.uniform(0.15, 0.35) * side
        band = np.abs(rows * np.cos(angle) + columns * np.sin(angle) - shift) < width / 2
        one[band] = one.mean() + 0.2 * rng.standard_normal(int(band.sum()))
    return found
