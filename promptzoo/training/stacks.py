"""Windows of a slice together with its neighbours: through a torso, or over a heart cycle."""
from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np
import torch
from scipy import ndimage

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.cine import cine
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.tissue_window import ct_limits
from promptzoo.training.organs import POOL, SCENES_PER_TORSO, OrganScenes, nearest, varied

LEAST_PIXELS = 30
"""Size of a structure on its slice."""

SPOILT_SHARE, SPOILT_WIDTH = 0.15, (0.3, 1.0)
"""Share of neighbours of which a band is lost, as it is of each slice that is asked for; least and largest width of the
band, in sides of the window."""

GRAIN = (0.01, 0.04)
"""Least and largest width of the grain of the noise within a slice, in sides of the window."""

_cycle = lru_cache(maxsize=POOL + 1)(cine)


class OrganStacks(OrganScenes):
    """Windows around organs on axial slices of procedural torsos, with the neighbouring slices; item ``n`` is always
    the same. Every slice has noise of its own and more or less of it, as thin slices and moving patients have: the
    border that it hides in one slice is seen in another (:func:`grain`). Parts are lost, see :func:`spoilt`.

    Args:
        length, seed: see :class:`promptzoo.training.organs.OrganScenes`.
        targets_per_scene: windows per scene.
        size: side of the window in pixels.
        slices: slices of a stack, odd.
        noise: least and largest standard deviation of the noise, in units of the window's half range.

    Raises:
        PromptZooError: for an empty dataset or an even number of slices.
    """

    gap = 0.5
    """Distance of neighbouring slices in slices of the torso: two or three millimetres."""

    def __init__(self, length: int, targets_per_scene: int = 4, size: int = 128, slices: int = 3, seed: int = 0,
                 noise: Sequence[float] = (0.1, 0.4)) -> None:
        super().__init__(length, seed)
        if slices % 2 == 0:
            raise PromptZooError(complain("slices of a stack", slices, "an odd number"))
        self.targets, self.size, self.slices, self.noise = targets_per_scene, size, slices, tuple(noise)

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
            around = np.clip(k + self.gap * (np.arange(self.slices) - self.slices // 2), 0, data.shape[2] - 1)
            near, share = around.astype(int), around % 1
            shown = (1 - share) * data[..., near] + share * data[..., np.minimum(near + 1, data.shape[2] - 1)]
            shown = np.clip(shown, *self.limits(float(np.median(data[labels == value]))))
            stack = normalise(np.stack([window.sample(shown[..., n]) for n in range(self.slices)]))
            stack = spoilt(varied(stack, rng), rng)
            much = np.exp(rng.uniform(*np.log(self.noise), self.slices))
            images.append(normalise(stack + much[:, None, None] * grain(stack.shape, rng)))
            truth.append(nearest(window, labels[..., k]) == value)
        return {"image": torch.from_numpy(np.stack(images).astype(np.float32)),
                "label": torch.from_numpy(np.stack(truth)[:, None])}


class CineStacks(OrganStacks):
    """Windows around ventricles and myocardium of procedural heart cycles, with the neighbouring frames.

    Args:
        length, targets_per_scene, size, slices, seed, noise: see :class:`OrganStacks`; slices are frames here.
    """

    gap = 1

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
    """Slices ``[slices, S, S]`` of which the middle one, and some others, lost what lies in a band, as by a streak, a
    fold or a missed trigger: only a neighbour knows what is there."""
    found, side = stack.copy(), stack.shape[-1]
    rows, columns = np.indices(stack.shape[1:]) - (side - 1) / 2
    for n, one in enumerate(found):
        if n != len(found) // 2 and rng.random() >= SPOILT_SHARE:
            continue
        angle, shift, width = rng.uniform(0, np.pi), rng.uniform(-0.25, 0.25) * side, rng.uniform(*SPOILT_WIDTH) * side
        band = np.abs(rows * np.cos(angle) + columns * np.sin(angle) - shift) < width / 2
        one[band] = one.mean() + 0.2 * rng.standard_normal(int(band.sum()))
    return found


def grain(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Noise ``[slices, S, S]`` of deviation 1: smooth within a slice as a reconstruction's is, and another in each."""
    width = float(np.exp(rng.uniform(*np.log(GRAIN)))) * shape[-1]
    found = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape[1:]), width) for _ in range(shape[0])])
    return found / found.std()
