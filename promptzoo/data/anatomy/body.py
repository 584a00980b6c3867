"""The phantoms as label maps."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy.head import paint_head
from promptzoo.data.anatomy.knee import paint_knee
from promptzoo.data.anatomy.sculpture import Sculpture
from promptzoo.data.anatomy.torso import paint_torso

LIKELY_ABSENT: Mapping[str, float] = {
    "gallbladder": 0.18, "spleen": 0.06, "kidney_left": 0.06, "kidney_right": 0.06, "stomach": 0.05, "prostate": 0.5,
    "urinary_bladder": 0.05, "pancreas": 0.05, "colon": 0.04, "eye_left": 0.03, "eye_right": 0.03, "patella": 0.03,
    "adrenal_gland_left": 0.05, "adrenal_gland_right": 0.05, "meniscus": 0.04}
"""How often a structure was taken out."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A body part without intensities.

    Args:
        tissue: ``[x, y, z]`` uint8 in RAS order, numbers of :data:`promptzoo.data.anatomy.tissues.TISSUES`.
        structure: ``[x, y, z]`` uint8, numbers of ``names``; 0 is none of them.
        names: of the structures, by value; the first is empty.
        spacing_mm: voxel size.
        region: ``torso``, ``head`` or ``knee``.
    """

    tissue: np.ndarray
    structure: np.ndarray
    names: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    region: str

    def mask(self, name: str) -> np.ndarray:
        """Where a structure is, ``[x, y, z]`` bool; all False for one that is not there."""
        return self.structure == self.names.index(name) if name in self.names else np.zeros(self.structure.shape, bool)

    def present(self) -> tuple[str, ...]:
        """The structures that have voxels."""
        return tuple(self.names[v] for v in np.unique(self.structure) if v)


def _made(region: str, paint: Callable[[Sculpture], None], seed: int, low: Sequence[float], high: Sequence[float],
          spacing_mm: float, absent: Sequence[str] | None, wobble_mm: float) -> Anatomy:
    if not 0.5 <= spacing_mm <= 8:
        raise PromptZooError(complain("voxel size of a phantom in mm", spacing_mm, "0.5 to 8"))
    rng = generator(seed, 0xA7A70)
    grown = np.exp(rng.normal(0, 0.05, 3) + rng.normal(0, 0.06))
    gone = absent if absent is not None else [n for n, p in LIKELY_ABSENT.items() if rng.random() < p]
    span = (np.asarray(high, float) - low)
    shape = tuple(int(n) for n in np.ceil(span / spacing_mm))
    sculpture = Sculpture(shape, (spacing_mm,) * 3, (np.asarray(high) + low) / 2, rng, gone,  # type: ignore[arg-type]
                          wobble_mm)
    paint(sculpture)
    names = tuple(sculpture.names)
    return Anatomy(sculpture.tissue, sculpture.structure, names,
                   tuple(float(spacing_mm * g) for g in grown), region)  # type: ignore[arg-type]


def torso(seed: int = 0, spacing_mm: float = 3.5, absent: Sequence[str] | None = None) -> Anatomy:
    """A torso from the neck to the thighs.

    Args:
        seed: anatomy follows from it.
        spacing_mm: voxel size before the body's own size is applied (about 10 % either way).
        absent: structures taken out; default: drawn by :data:`LIKELY_ABSENT`.

    Raises:
        PromptZooError: for an unusable voxel size.
    """
    return _made("torso", paint_torso, seed, (-196, -128, -330), (196, 122, 250), spacing_mm, absent, 4.0)


def head(seed: int = 0, spacing_mm: float = 2.0, absent: Sequence[str] | None = None) -> Anatomy:
    """A head with skull, brain and eyes; one in five without what is around the brain. See :func:`torso`."""
    return _made("head", paint_head, seed, (-90, -112, -112), (90, 116, 104), spacing_mm, absent, 2.0)


def knee(seed: int = 0, spacing_mm: float = 2.0, absent: Sequence[str] | None = None) -> Anatomy:
    """A right or left knee. See :func:`torso`."""
    outer = 1 if generator(seed, 0xA7A71).random() < 0.5 else -1
    return _made("knee", lambda s: paint_knee(s, outer), seed, (-78, -82, -96), (78, 72, 104), spacing_mm, absent, 2.0)
