"""Views of bodies with some of their structures named: what a text-driven network is trained on."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy import render_ct, render_pet, render_random
from promptzoo.data.anatomy.lesions import DARKER
from promptzoo.data.anatomy.names import ALL_STRUCTURES, absent_elsewhere
from promptzoo.data.phantom_shapes import smooth_noise
from promptzoo.inference.resample import Window
from promptzoo.inference.universal_view import grey, positions, step_for
from promptzoo.training.anatomy_sources import Source, open_bodies, phantom, procedural
from promptzoo.training.phrases import Phrases

POOL, SCENES_PER_BODY = 9, 20
REGIONS, REGION_SHARES = ("torso", "head", "knee"), (0.68, 0.22, 0.10)
LEAST_VOXELS, SIDE, LEAST_SIDE = 12, 16, 32
"""Sides are multiples of 16; with 16 alone the bottleneck is one voxel thin, and bfloat16 convolutions of oneDNN gave
NaN there."""

ABSENT_SHARE, BOX_SHARE, NAMED_SHARE = 0.2, 0.25, 0.7


@dataclass(frozen=True, eq=False)
class View:
    """A body seen on the network's voxels.

    Args:
        image: ``[4, X, Y, Z]`` float32: grey value and position.
        structure: ``[X, Y, Z]`` uint8, numbers of the source's names.
        inside: ``[X, Y, Z]`` bool, where there is image.
    """

    image: np.ndarray
    structure: np.ndarray
    inside: np.ndarray


class AnatomyScenes(Dataset):
    """Item ``n`` is always the same scene; bodies come and go, so that a run sees many.

    Args:
        length: number of scenes.
        phrases: names and text vectors of the classes.
        targets: classes per scene.
        seed: seed of the dataset; different seeds share no phantom.
        size: most voxels along x, y and z.
        datalist: CSV whose bodies of licence class ``open`` are mixed in; empty for phantoms alone.
        real_share: share of the scenes taken from there.
        without: cases of the datalist to leave out.
        procedural_share: share of the scenes from the generators of the sample studies.
        boxes: whether some classes come with a box, of these some without a text.
        voxels: about how many voxels of a scene are drawn to train heads on, which work voxel by voxel; 0 for all.

    Raises:
        PromptZooError: for an empty dataset, or a datalist without such bodies.
    """

    def __init__(self, length: int, phrases: Phrases, targets: int = 10, seed: int = 0,
                 size: Sequence[int] = (64, 56, 48), datalist: str = "", real_share: float = 0.4,
                 without: Sequence[str] = (), procedural_share: float = 0.12, boxes: bool = True,
                 voxels: int = 0) -> None:
        if length < 1 or targets < 1:
            raise PromptZooError(complain("scenes and targets", [length, targets], "1 or more of both"))
        self.length, self.phrases, self.targets, self.seed = length, phrases, targets, seed
        self.size, self.boxes, self.voxels, self.procedural_share = tuple(size), boxes, voxels, procedural_share
        self.numbers = {name: 1 + n for n, name in enumerate(phrases.classes)}
        self.real = open_bodies(datalist, without) if datalist else []
        self.real_share = real_share if self.real else 0.0

    def __len__(self) -> int:
        return self.length

    def source(self, index: int, rng: np.random.Generator) -> Source:
        """The body of a scene."""
        if rng.random() < self.real_share:
            return self.real[int(rng.integers(len(self.real)))]
        number = (1_000_003 * self.seed + index // SCENES_PER_BODY + POOL - int(rng.integers(POOL))) % 2 ** 31
        if rng.random() < self.procedural_share:
            return procedural("torso" if rng.random() < 0.75 else "head", number // 6)
        return phantom(str(generator(number, 0xB0D1).choice(REGIONS, p=REGION_SHARES)), number)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Scene ``index``.

        Returns:
            ``image`` ``[4, X, Y, Z]`` float32, ``chosen`` ``[N]`` (voxels drawn, indices into the flat grid),
            ``weight`` ``[N]`` float32 (for how many voxels each stands), ``classes`` ``[N]`` int64 (what each is: 1 +
            its number among the classes, 0 for none of them, -1 where that is not known), and for each of ``targets``
            classes ``text`` ``[C, T]``, ``spatial`` ``[C, 1, N]`` and ``label`` ``[C, N]`` float32.

        Raises:
            IndexError: beyond the last scene.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        rng = generator(self.seed, index)
        source = self.source(index, rng)
        view = seen(source, rng, self.size)
        names = self._chosen(source, view, rng)
        numbers = [source.names.index(n) if n in source.names else 255 for n in names]
        chosen, weight = self.voxels_of(view, numbers, rng)
        return {"image": torch.from_numpy(view.image), "chosen": torch.from_numpy(chosen),
                "weight": torch.from_numpy(weight), **self._told(source, view, names, chosen, rng)}

    def asked(self, source: Source, view: View, chosen: np.ndarray, rng: np.random.Generator
              ) -> dict[str, torch.Tensor]:
        """What is asked of some voxels of a view: ``classes``, ``text``, ``spatial`` and ``label`` of an item."""
        return self._told(source, view, self._chosen(source, view, rng), chosen, rng)

    def _told(self, source: Source, view: View, names: Sequence[str], chosen: np.ndarray, rng: np.random.Generator
              ) -> dict[str, torch.Tensor]:
        numbers = [source.names.index(n) if n in source.names else 255 for n in names]
        structure = view.structure.ravel()[chosen]
        spatial = np.zeros((len(names), 1, len(chosen)), np.float32)
        text = self.phrases.drawn(names, rng)
        for number, own, vector in zip(numbers, spatial, text):
            if self.boxes and rng.random() < BOX_SHARE and (view.structure == number).any():
                own[0] = boxed(view.structure == number, rng).ravel()[chosen]
                vector *= rng.random() < NAMED_SHARE
        classes = np.array([0 if source.phantom else -1] + [self.numbers.get(n, -1) for n in source.names[1:]])
        label = (structure[None] == np.asarray(numbers, np.uint8)[:, None]).astype(np.float32)
        return {"text": torch.from_numpy(text), "classes": torch.from_numpy(classes[structure]),
                "spatial": torch.from_numpy(spatial), "label": torch.from_numpy(label)}

    def voxels_of(self, view: View, numbers: Sequence[int], rng: np.random.Generator
                  ) -> tuple[np.ndarray, np.ndarray]:
        """Voxels to train on, more densely in small ones of some structures, and for how many each stands."""
        inside = np.flatnonzero(view.inside)
        if not self.voxels or len(inside) <= self.voxels:
            return inside, np.ones(len(inside), np.float32)
        counts = np.bincount(view.structure.ravel(), minlength=256)
        rates = np.full(256, 0.6 * self.voxels / len(inside), np.float32)
        asked = np.unique([n for n in numbers if n < 255])
        if len(asked):
            rates[asked] = np.clip(0.4 * self.voxels / len(asked) / np.maximum(counts[asked], 1), rates[0], 1.0)
        rate = rates[view.structure.ravel()[inside]]
        taken = rng.random(len(inside), np.float32) < rate
        return inside[taken], 1 / rate[taken]

    def _chosen(self, source: Source, view: View, rng: np.random.Generator) -> list[str]:
        """Structures that the view shows, and some of which it is known that it does not show them."""
        counts = np.bincount(view.structure.ravel(), minlength=len(source.names))
        here = [n for v, n in enumerate(source.names) if v and n in source.known and counts[v] >= LEAST_VOXELS]
        faint = {n for v, n in enumerate(source.names) if v and 0 < counts[v] < LEAST_VOXELS}
        gone = sorted(source.known - set(here) - faint)
        near = [n for n in gone if n not in absent_elsewhere("torso") or rng.random() < 0.4]
        n_gone = min(len(near), int(rng.binomial(self.targets, ABSENT_SHARE)) + max(0, self.targets - len(here)))
        chosen = list(rng.permutation(here)[:self.targets - n_gone]) + list(rng.permutation(near)[:n_gone])
        while len(chosen) < self.targets:
            chosen.append(str(rng.choice(chosen or list(gone) or list(ALL_STRUCTURES))))
        return [str(n) for n in chosen]


def seen(source: Source, rng: np.random.Generator, size: Sequence[int]) -> View:
    """A view of a body: part of it, turned and bent a little, with intensities drawn.

    Args:
        source: the body.
        rng: source of all draws.
        size: most voxels along x, y and z.
    """
    extent = np.asarray(source.structure.shape) * source.spacing_mm
    shares = np.ones(3)
    if rng.random() < 0.75:
        shares[2] = rng.uniform(0.25, 1.0)
    if rng.random() < 0.25:
        shares[:2] = rng.uniform(0.45, 1.0, 2)
    field = np.maximum(extent * shares, np.minimum(extent, 90.0))
    grown = np.exp(rng.normal(0, 0.07) + rng.normal(0, 0.04, 3))
    centre = extent / 2 + rng.uniform(-0.5, 0.5, 3) * (extent - field)
    step = step_for(field * grown) * np.exp(rng.uniform(-0.05, 0.05))
    span = np.maximum(field * grown / step, 8)
    room = np.maximum(span - size, 0)
    low = -span / 2 + rng.uniform(0, 1, 3) * room
    shape = np.minimum(np.ceil(span), size).astype(int)
    window = Window(tuple(low + 0.5), (1.0,) * 3, tuple(max(LEAST_SIDE, int(-(-n // SIDE) * SIDE)) for n in shape))
    places = _places(window.shape, low, step, grown, rng) + centre[:, None, None, None]
    index = places / source.spacing_mm[:, None, None, None] - 0.5
    structure = ndimage.map_coordinates(source.structure, index, order=0, mode="constant", output=np.uint8)
    inside = np.zeros(window.shape, bool)
    inside[tuple(slice(0, n) for n in shape)] = True
    value = _rendered(source, index, step, rng)
    if source.hounsfield or value.min() < -200:
        value = grey(value, True)
    else:
        value = grey(value, False)
    value = _varied(value, rng)
    value[~inside] = -1.0
    structure[~inside] = 0
    drift = rng.normal(0, 8.0 / step, 3)
    where = positions(window, (step,) * 3, drift)
    return View(np.concatenate([value[None], where]).astype(np.float32), structure, inside)


def _places(shape: Sequence[int], low: np.ndarray, step: float, grown: np.ndarray, rng: np.random.Generator
            ) -> np.ndarray:
    """Millimetres in the body of every voxel of a view, from its centre: turned, scaled, bent; ``[3, *S]``."""
    axes = [((o + 0.5 + np.arange(n)) * step).astype(np.float32) for o, n in zip(low, shape)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    a, b, c = rng.normal(0, 0.07, 3)
    turn = np.array([[1, -c, b], [c, 1, -a], [-b, a, 1]], np.float32)
    grid = np.tensordot(turn / grown[:, None].astype(np.float32), grid, 1)
    for scale, most in ((70.0, 7.0), (25.0, 1.6)):
        amount = abs(rng.normal(0, most)) * min(1.0, step / 3.0)
        for axis in range(3):
            grid[axis] += amount * smooth_noise(tuple(shape), (scale / step,) * 3, rng)
    return grid


def _rendered(source: Source, index: np.ndarray, step: float, rng: np.random.Generator) -> np.ndarray:
    if source.image is not None and rng.random() < 0.65:
        blur = np.maximum(step / source.spacing_mm - 1, 0) * 0.45
        image = ndimage.gaussian_filter(source.image, blur) if blur.max() > 0.3 else source.image
        return ndimage.map_coordinates(image, index, order=1, mode="nearest", output=np.float32)
    tissue = ndimage.map_coordinates(source.tissue, index, order=0, mode="constant", output=np.uint8)
    if source.imaging == "pet":
        return render_pet(tissue, rng, step)
    if source.imaging == "ct":
        return render_ct(tissue, rng, DARKER)
    if source.phantom and rng.random() < 0.5:
        return render_ct(tissue, rng)
    return render_random(tissue, rng, source.phantom)


def _varied(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other gamma, noise, and slices as thick as in a clinic; ``[*S]`` in [-1, 1] to the same."""
    value = np.clip((value + 1) / 2, 0, 1) ** np.exp(rng.normal(0, 0.15))
    if rng.random() < 0.3:
        thick = int(rng.integers(2, 4))
        axis = int(rng.choice(3, p=(0.15, 0.15, 0.7)))
        kept = ndimage.uniform_filter1d(value, thick, axis)
        pick = np.minimum(np.arange(value.shape[axis]) // thick * thick, value.shape[axis] - 1)
        value = np.take(kept, pick, axis)
    value = value + rng.standard_normal(value.shape, np.float32) * rng.uniform(0, 0.03)
    return (np.clip(value, 0, 1) * 2 - 1).astype(np.float32)


def boxed(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A box around a structure, drawn with an unsteady hand, ``[*S]`` float32."""
    maps = np.zeros(mask.shape, np.float32)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    sides = [b.stop - b.start for b in box]
    maps[tuple(slice(max(0, b.start + int(rng.normal(-0.3, 0.06 * n + 0.7))),
                     max(1, b.stop + int(rng.normal(0.3, 0.06 * n + 0.7)))) for b, n in zip(box, sides))] = 1.0
    return maps
