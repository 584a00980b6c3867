"""Procedural chest radiographs: procedural torsos seen along the X-ray beam."""
from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.phantoms import torso_ct
from promptzoo.training.organs import POOL, SCENES_PER_TORSO
from promptzoo.training.real import OpenRows, Picture

SHAPE, SPACING_MM = (120, 72, 100), (3.0, 4.0, 3.2)
LEAST_MM = 10.0
"""Thickness of an organ along the beam from which it belongs to the mask."""
TARGETS = (("lung right", "lung left"), ("lung right",), ("lung left",), ("heart",), ("liver",))
"""Organs of one mask each."""


@lru_cache(maxsize=POOL + 1)
def radiograph(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A chest radiograph and its masks, ``[x, z]`` each: attenuation along the sagittal axis, air dark.

    The torso ends below the apices, so the lungs are closed above it by a dome.
    """
    rng = generator(seed, 0x0D22)
    volume, labels, names = torso_ct(int(rng.integers(2 ** 31)), SHAPE, SPACING_MM)
    values = {name: value for value, name in names.items()}
    density = np.clip(volume.data / 1000 + 1, 0, None)
    density[volume.data > 200] *= rng.uniform(1.2, 2.2)  # bone absorbs more at the tube's energy
    image = density.sum(1) * SPACING_MM[1]
    masks = [sum((labels == values[name]).sum(1) for name in group) * SPACING_MM[1] >= LEAST_MM for group in TARGETS]
    masks, image = _closed(image, masks, int(rng.integers(10, 24)))
    low = int(rng.integers(0, image.shape[1] // 3))  # the abdomen may be collimated away
    image, masks = image[:, low:], [mask[:, low:] for mask in masks]
    return image.astype(np.float32), [mask for mask in masks if mask.sum() > 30]


def _closed(image: np.ndarray, masks: list[np.ndarray], rows: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Masks and image ``[x, z]`` with a dome of ``rows`` rows over each lung, and shoulders around and above them."""
    last, columns = image[:, -1], np.arange(image.shape[0], dtype=float)
    shoulder = np.full((len(last), rows + 6), np.percentile(last, 75), np.float32)
    covers = [np.zeros(shoulder.shape, bool) for _ in masks]
    for lung in masks[1:3]:
        inside = np.flatnonzero(lung[:, -1])
        if not len(inside):
            continue
        middle, half = inside.mean(), np.ptp(inside) / 2 + 2
        for row in range(rows):
            offset = (columns - middle) / np.sqrt(1 - ((row + 1) / (rows + 1)) ** 2)
            near = np.abs(offset) <= half
            at = np.clip(middle + offset[near], 0, len(last) - 1)
            shoulder[near, row] = np.interp(at, columns, last)
            for cover, mask in zip(covers, masks):
                cover[near, row] |= np.interp(at, columns, mask[:, -1].astype(float)) >= 0.5
    image = np.concatenate([image, ndimage.gaussian_filter(shoulder, 0.7)], 1)
    return [np.concatenate(pair, 1) for pair in zip(masks, covers)], image


def drawn_radiograph(seed: int, index: int, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """The radiograph of scene ``index`` of a dataset, half of them on a logarithmic scale, and its masks; neighbouring
    scenes share a pool of torsos."""
    newest = index // SCENES_PER_TORSO + POOL
    image, masks = radiograph((1_000_003 * seed + newest - int(rng.integers(POOL))) % 2 ** 31)
    return np.log1p(image) if rng.random() < 0.5 else image, masks


class Radiographs(Dataset):
    """Procedural chest radiographs by number; item ``n`` is always the same.

    Args:
        length: number of scenes.
        size: side of what is made of one, in pixels.
        seed: seed of the dataset; different seeds share no torso.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, size: int, seed: int) -> None:
        if length < 1:
            raise PromptZooError(complain("number of scenes", length, "1 or more"))
        self.length, self.size, self.seed = length, size, seed

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> tuple[np.random.Generator, np.ndarray, list[np.ndarray]]:
        """The draws of scene ``index``, its radiograph ``[x, z]`` and its masks.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        return (rng, *drawn_radiograph(self.seed, index, rng))


class RadiographWindows(Radiographs):
    """Windows of procedural chest radiographs around single structures.

    Args:
        length, size, seed: see :class:`Radiographs`.
        targets_per_scene: windows per scene.
    """

    def __init__(self, length: int, targets_per_scene: int = 4, size: int = 128, seed: int = 0) -> None:
        super().__init__(length, size, seed)
        self.targets = targets_per_scene

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[T, 1, S, S]`` float32 in [-1, 1] and ``label`` ``[T, 1, S, S]`` bool.

        Raises:
            IndexError: beyond the last scene.
        """
        rng, image, masks = self.scene(index)
        image = image + 0.02 * np.ptp(image) * ndimage.gaussian_filter(rng.standard_normal(image.shape), 1.5)
        masks = masks[:1] * 3 + masks[1:]  # both lungs together are asked for most
        rows = OpenRows.of([Picture(image, np.array([SPACING_MM[0], SPACING_MM[2]]), False, masks)], 2)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        while len(found) < self.targets:
            found += rows.sample(rng, self.size, self.targets - len(found))
        images, truth = (np.stack(parts)[:, None] for parts in zip(*found))
        return {"image": torch.from_numpy(images.astype(np.float32)), "label": torch.from_numpy(truth)}
