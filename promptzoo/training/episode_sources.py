"""Tasks for learning from examples: images that show the same structure, each another time.

Butoi et al., UniverSeg, ICCV 2023, section 3.3 and 4.2: many tasks, among them synthetic ones made of random label maps
that are warped and drawn again, and augmentation of the task itself (all images mirrored or inverted, masks turned into
their complements or edges), so that no label can be learned by heart.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Callable, Mapping

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.clinical import TARGETS, clinical
from promptzoo.data.synthesis.fields import FieldBank
from promptzoo.data.synthesis.nuclei import ProceduralNuclei
from promptzoo.data.synthesis.render import render
from promptzoo.data.synthesis.scenes2d import LabelMap, scene
from promptzoo.data.synthesis.targets import visible
from promptzoo.inference.classes import CT_LIMITS
from promptzoo.inference.resample import normalise
from promptzoo.training.organs import ORGANS, torso
from promptzoo.training.radiographs import radiograph

Shown = tuple[np.ndarray, np.ndarray]
"""An image in [-1, 1] and a mask bool, both ``[*N]``."""

HELD_OUT = ("liver", "kidney left", "glomerulus", "large bowel")
"""Structures that training never asks for; so are all those of radiographs, see :func:`radiographs`."""
LEAST, MOST = 0.003, 0.6
"""Share of the image that a structure covers."""


@dataclass(eq=False)
class Sources:
    """Where tasks come from; built in the process that uses it.

    Args:
        seed: of the fields and of the pool of torsos; different seeds share no torso.
        size: side of drawn images in pixels.
        torsos: in the pool.
        spread: how unlike the images of a task are; above 1 examples differ much in use, as a selector needs it.
    """

    seed: int = 0
    size: int = 128
    torsos: int = 10
    spread: float = 1.0

    def __post_init__(self) -> None:
        self.bank = FieldBank(self.size, self.seed, 64, 48)
        self.nuclei_source = ProceduralNuclei(self.size, self.seed, 0.0)

    def draw(self, kind: str, rng: np.random.Generator, count: int, structure: str = "") -> list[Shown] | None:
        """``count`` images of one task of a kind of :data:`KINDS`; None if this draw shows too little.

        Args:
            kind: of task.
            rng: of all draws.
            count: images.
            structure: the structure of ``organs`` and ``studies``; by default one that is not held out.
        """
        found = KINDS[kind](self, rng, count, structure)
        if found is None or any(not LEAST <= mask.mean() <= MOST for _, mask in found):
            return None
        return found

    def shapes(self, rng: np.random.Generator, count: int, _: str) -> list[Shown] | None:
        """A random label map, warped anew for each image and drawn with nearly the same intensities and textures."""
        world = scene(self.bank, rng)
        sizes = np.bincount(world.labels.ravel(), minlength=world.count) / world.labels.size
        chance = np.where((sizes > LEAST) & (sizes < MOST), np.clip(sizes, 0.003, 0.1) ** 0.4, 0)
        if not chance.any():
            return None
        name = int(rng.choice(world.count, p=chance / chance.sum()))
        group = world.alike.get(name)
        wanted = {name} if group is None else {n for n, other in world.alike.items() if other == group}
        if rng.random() < 0.6:
            wanted |= {child for child, parent in world.parents.items() if parent in wanted}
        seed, amount = int(rng.integers(2 ** 31)), rng.uniform(0.3, 1.0)
        found: list[Shown] = []
        for _ in range(count):
            warped = self._warped(world, rng, amount * (1.0 if self.spread <= 1 else rng.uniform(0.2, self.spread)))
            image = render(warped, self.bank.texture, self.bank.smooth, np.random.default_rng(seed))
            mask = np.isin(warped.labels, list(wanted))
            if not LEAST <= mask.mean() <= MOST or (not found and not visible(image, mask, rng)):
                return None
            found.append((image, mask))
        return found

    def _warped(self, world: LabelMap, rng: np.random.Generator, amount: float) -> LabelMap:
        side = self.size
        turn, zoom = rng.normal(0, 0.25) * amount, np.exp(rng.normal(0, 0.15) * amount)
        c, s = np.cos(turn) * zoom, np.sin(turn) * zoom
        grid = np.arange(side) - side / 2
        shift = rng.normal(0, 0.07 * amount, 2) * side + side / 2
        bend = rng.uniform(0.01, 0.045) * amount * side
        at = np.stack([grid[:, None] * c + grid[None] * s + shift[0] + self.bank.smooth(rng) * bend,
                       -grid[:, None] * s + grid[None] * c + shift[1] + self.bank.smooth(rng) * bend])
        near = np.clip(np.rint(at).astype(int), 0, side - 1)
        return LabelMap(world.labels[near[0], near[1]], world.parents, world.alike, world.count, world.air)

    def nuclei(self, rng: np.random.Generator, count: int, _: str) -> list[Shown] | None:
        """Nuclei of one look in each image."""
        bright = [bool(rng.random() < 0.55)] * count if self.spread <= 1 else list(rng.random(count) < 0.5)
        found = [self.nuclei_source.sample(rng, False, bool(one)) for one in bright]
        return [(normalise(image), labels > 0) for image, labels in found]

    def studies(self, rng: np.random.Generator, count: int, structure: str) -> list[Shown] | None:
        """Structures of the drawn clinical studies."""
        known = [(study, name) for study, names in TARGETS.items() for name in names
                 if name not in ("liver segment", "liver lesion")
                 and (name == structure if structure else name not in HELD_OUT)]
        study, name = known[int(rng.integers(len(known)))]
        drawn = [clinical(rng, self.size, study) for _ in range(count)]
        return [(normalise(one.image), one.truth(name)) for one in drawn]

    def organs(self, rng: np.random.Generator, count: int, structure: str) -> list[Shown] | None:
        """An organ at about the same height in different procedural torsos."""
        name = structure or str(rng.choice([organ for organ in ORGANS if organ not in HELD_OUT]))
        height, found = rng.uniform(0.15, 0.85), []
        for n in rng.choice(self.torsos, count, replace=self.torsos < count):
            data, labels, _ = torso_of(1_000_003 * self.seed + int(n))
            mask = labels == ORGANS.index(name) + 1
            there = np.flatnonzero(mask.any((0, 1)))
            if not len(there):
                return None
            at = float(np.clip(height + rng.normal(0, 0.08 * self.spread), 0.05, 0.95))
            k = int(there[int(at * (len(there) - 1))])
            found.append((normalise(np.clip(data[..., k], *CT_LIMITS)), mask[..., k]))
        return found


@lru_cache(maxsize=24)
def torso_of(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The torso of a pool, kept longer than :func:`promptzoo.training.organs.torso` does."""
    return torso(seed)


def radiographs(seed: int, count: int, structure: int) -> list[Shown]:
    """Procedural chest radiographs with one structure; none of them is ever trained on.

    Args:
        seed: of the first.
        count: images.
        structure: index of :data:`promptzoo.training.radiographs.TARGETS`.
    """
    drawn = [radiograph(seed + n) for n in range(count)]
    return [(normalise(np.log1p(image)), masks[structure]) for image, masks in drawn]


KINDS: Mapping[str, Callable[[Sources, np.random.Generator, int, str], list[Shown] | None]] = {
    "shapes": Sources.shapes, "nuclei": Sources.nuclei, "studies": Sources.studies, "organs": Sources.organs}


def edged(mask: np.ndarray) -> np.ndarray:
    """The edge of a mask, three pixels wide."""
    return ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask, iterations=2)


def task(sources: Sources, kinds: Mapping[str, float], seed: int, index: int, count: int) -> list[Shown]:
    """Images of task ``index``: drawn until one is usable, and changed as a task.

    Args:
        sources: where tasks come from.
        kinds: shares of the kinds.
        seed, index: of the task.
        count: images.
    """
    rng = generator(seed, index, 0x7A5C)
    names, shares = list(kinds), np.asarray(list(kinds.values()), float)
    found = None
    while found is None:
        found = sources.draw(names[int(rng.choice(len(names), p=shares / shares.sum()))], rng, count)
    if rng.random() < 0.06:
        thin = [(image, edged(mask)) for image, mask in found]
        found = thin if all(mask.mean() >= LEAST for _, mask in thin) else found
    elif rng.random() < 0.06:
        found = [(image, ~mask) for image, mask in found]
    if rng.random() < 0.25:
        found = [(-image, mask) for image, mask in found]
    return found
