"""Organs of the torso in CT: procedural torsos, and openly licensed images with the same organs labelled."""
from __future__ import annotations

from functools import lru_cache
from typing import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import torso_ct
from promptzoo.evaluation.datalist import Datalist
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage
from promptzoo.training.real import usable_rows

ORGANS = ("liver", "spleen", "kidney right", "kidney left", "stomach", "aorta", "lung right", "lung left")
"""Class ``n + 1`` of a label map; 0 is everything else."""

SHAPE, SPACINGS_MM = (120, 88, 72), ((2.8, 3.4), (4.0, 5.0))
POOL, SCENES_PER_TORSO = 5, 24
LEAST_ORGANS = 5
"""An image with fewer of the organs labelled is not taken: what is missing would count as absent."""


def organ_of(name: str) -> str | None:
    """The organ that a label belongs to (lobes to their lung), or None."""
    if name.startswith("lung ") and name.split()[-1] in ("right", "left"):
        return f"lung {name.split()[-1]}"
    return name if name in ORGANS else None


@lru_cache(maxsize=POOL + 1)
def torso(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A procedural torso: Hounsfield units and labels ``[i, j, k]`` in canonical order, spacing in millimetres."""
    rng = generator(seed, 0x0126A5)
    flat, thick = rng.uniform(*SPACINGS_MM[0]), rng.uniform(*SPACINGS_MM[1])
    volume, labels, names = torso_ct(int(rng.integers(2 ** 31)), SHAPE, (flat, flat, thick))
    state = EncodedImage.of(volume)
    own = np.zeros(labels.shape, np.uint8)
    for value, name in names.items():
        if organ_of(name):
            own[labels == value] = 1 + ORGANS.index(organ_of(name) or "")
    return state.data, np.ascontiguousarray(state.move.array(own)), np.asarray(state.canonical.spacing_mm)


def open_torsos(datalist: str, without: Sequence[str] = ()) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Images of licence class ``open`` with most of :data:`ORGANS` labelled, as :func:`torso` gives them.

    Args:
        datalist: CSV as :class:`promptzoo.evaluation.datalist.Datalist` reads it.
        without: cases to leave out.
    """
    source = Datalist.read(datalist)
    found: dict[str, tuple[Volume, np.ndarray, set[str]]] = {}
    for row in usable_rows(source):
        organ, name = organ_of(row.extra.get("label_name", "")), row.extra.get("case", row.id)
        if organ is None or row.modality != "CT" or name in without:
            continue
        case = source.load(row)
        if case.grid.is_2d:
            continue
        volume, labels, have = found.setdefault(
            name, (case.volume, np.zeros(case.mask.shape, np.uint8), set()))
        labels[case.mask] = 1 + ORGANS.index(organ)
        have.add(organ)
    torsos = []
    for volume, labels, have in found.values():
        if len(have) >= LEAST_ORGANS:
            state = EncodedImage.of(volume)
            torsos.append((state.data, np.ascontiguousarray(state.move.array(labels)),
                           np.asarray(state.canonical.spacing_mm)))
    return torsos


class OrganScenes(Dataset):
    """Item ``n`` is always the same scene; torsos come and go, so that a run sees many.

    Args:
        length: number of scenes.
        seed: seed of the dataset; different seeds share no torso.
        datalist: CSV whose torsos of licence class ``open`` are mixed in; empty for procedural ones alone.
        real_share: share of the scenes taken from there.
        without: cases of the datalist to leave out.

    Raises:
        PromptZooError: for an empty dataset, or a datalist without such torsos.
    """

    def __init__(self, length: int, seed: int = 0, datalist: str = "", real_share: float = 0.4,
                 without: Sequence[str] = ()) -> None:
        if length < 1:
            raise PromptZooError(complain("number of scenes", length, "1 or more"))
        self.length, self.seed, self.real_share = length, seed, real_share if datalist else 0.0
        self.real = open_torsos(datalist, without) if datalist else []
        if datalist and not self.real:
            raise PromptZooError(complain(f"torsos in {datalist}", 0, "CT rows of licence class open",
                                          "Leave the datalist out to train on procedural images alone"))

    def __len__(self) -> int:
        return self.length

    def scene(self, index: int) -> tuple[np.random.Generator, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The draws of scene ``index`` and its torso.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        if rng.random() < self.real_share:
            return rng, self.real[int(rng.integers(len(self.real)))]
        newest = index // SCENES_PER_TORSO + POOL
        return rng, torso((1_000_003 * self.seed + newest - int(rng.integers(POOL))) % 2 ** 31)


class OrganSlices(OrganScenes):
    """Whole axial slices with all organs, for networks that need no prompt.

    Args:
        length, seed, datalist, real_share, without: see :class:`OrganScenes`.
        slices_per_scene: slices per scene.
        size: side of the slices in pixels.
    """

    def __init__(self, length: int, slices_per_scene: int = 4, size: int = 256, seed: int = 0, datalist: str = "",
                 real_share: float = 0.4, without: Sequence[str] = ()) -> None:
        super().__init__(length, seed, datalist, real_share, without)
        self.slices, self.size = slices_per_scene, size

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image`` ``[T, 1, S, S]`` float32 in [-1, 1] and ``label`` ``[T, 1, S, S]`` int64, see :data:`ORGANS`."""
        rng, (data, labels, spacing) = self.scene(index)
        images, truth = [], []
        for k in rng.integers(data.shape[2], size=self.slices):
            scale = np.exp(rng.uniform(-0.25, 0.15)) * np.exp(rng.uniform(-0.08, 0.08, 2))
            window = slice_window(data.shape[:2], spacing[:2], self.size, scale, rng.uniform(-0.08, 0.08, 2))
            images.append(varied(slice_view(data[..., k], window, True), rng))
            truth.append(nearest(window, labels[..., k]))
        return {"image": torch.from_numpy(np.stack(images)[:, None]),
                "label": torch.from_numpy(np.stack(truth)[:, None].astype(np.int64))}


def nearest(window: Window, labels: np.ndarray) -> np.ndarray:
    """A label map ``[*N]`` on the pixels of a window; 0 beyond the image."""
    at = [np.rint(o + s * np.arange(n)).astype(int) for o, s, n in zip(window.origin, window.step, window.shape)]
    inside = [(0 <= index) & (index < n) for index, n in zip(at, labels.shape)]
    found = labels[np.ix_(*(np.clip(index, 0, n - 1) for index, n in zip(at, labels.shape)))]
    return found * np.outer(*inside)


def varied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other contrast and noise; ``[*S]`` in [-1, 1] to the same."""
    value = ((image + 1) / 2) ** np.exp(rng.normal(0, 0.2))
    value = value + rng.standard_normal(value.shape) * rng.uniform(0, 0.04)
    return (np.clip(value, 0, 1) * 2 - 1).astype(np.float32)
