"""Structures found by where they lie in the body: an agent jumps to the places of finished cases, and looks around."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from promptzoo.core.seeding import generator
from promptzoo.inference.body_places import Cells, cells_of, patch_at
from promptzoo.inference.interactive import INTERACTIVE_KINDS
from promptzoo.inference.localise_predictor import LocaliseInferer, LocalisePredictor, Place
from promptzoo.inference.reference_cases import open_case
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.medlam import CELL_MM, PATCH, LocatedUNet, MedLam, distance_mm
from promptzoo.prompts.types import Box, PromptSet, ReferencePrompt

APART_MM = 100.0
"""Agents that come so far apart have found nothing."""


@dataclass(frozen=True)
class Searching:
    """How places are found.

    Args:
        starts: places from which an agent starts; the jumps from them are averaged.
        jumps: after the first one, from where the agent is then.
        around: half the side of the cube around a place that stands for it, in cells of the whole resolution.
        reach: how far a place is looked for around the last jump, in cells; 0 takes the jump as it is.
        seed: of the starts.
    """

    starts: int = 12
    jumps: int = 2
    around: int = 1
    reach: int = 2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Known:
    """The six places of a structure in finished cases: latent coordinates ``[6, 3]``, and the cubes of features around
    them, ``[6, C, r, r, r]`` per scale; means over the cases."""

    latent: torch.Tensor
    cubes: Sequence[torch.Tensor]


def extreme_points(mask: np.ndarray) -> np.ndarray:
    """Six voxels ``[6, 3]`` of a mask, of the lowest slice along each axis and then of the highest ones that which is
    nearest to the slice's middle."""
    at, found = np.argwhere(mask), []
    for side in (np.min, np.max):
        for axis in range(3):
            face = at[at[:, axis] == side(at[:, axis])]
            found.append(face[np.abs(face - face.mean(0)).sum(1).argmin()])
    return np.array(found, float)


def patches_at(cells: Cells, places: np.ndarray) -> torch.Tensor:
    """Patches ``[n, 1, P, P, P]`` around cells ``[n, 3]``."""
    return torch.from_numpy(np.stack([patch_at(cells, place) for place in places]))[:, None]


def _cube(features: torch.Tensor, around: int) -> torch.Tensor:
    """The middle of features ``[n, C, s, s, s]`` of a patch, an odd number of cells wide."""
    stride, middle = PATCH // features.shape[2], features.shape[2] // 2
    half = max(around // stride, 0)
    part = slice(middle - half, middle + half + 1)
    return features[:, :, part, part, part]


def learn_places(locator: MedLam, cases: Sequence[tuple[Cells, np.ndarray]], settings: Searching) -> Known:
    """What finished cases say of six places ``[6, 3]``, in cells of each."""
    latents, cubes = [], []
    with torch.inference_mode():
        for cells, places in cases:
            latent, levels = locator.encode(patches_at(cells, places))
            latents.append(latent)
            cubes.append([_cube(one, settings.around) for one in locator.features(levels)])
    return Known(torch.stack(latents).mean(0), [torch.stack(scale).mean(0) for scale in zip(*cubes)])


def find_places(locator: MedLam, cells: Cells, known: Known, settings: Searching) -> tuple[np.ndarray, float]:
    """Look for known places in another volume.

    Returns:
        Cells ``[6, 3]``, and how far the agents that started elsewhere came apart, millimetres.
    """
    size = np.asarray(cells.data.shape)
    starts = generator(settings.seed, 0x3ED1C).uniform(0.15, 0.85, (settings.starts, 3)) * (size - 1)
    with torch.inference_mode():
        away = distance_mm(locator(patches_at(cells, starts))[:, None], known.latent[None]).numpy() / CELL_MM
        arrived = np.round(starts)[:, None] + away
        apart = float(np.linalg.norm(arrived - np.median(arrived, 0), axis=2).mean() * CELL_MM)
        places = np.clip(np.median(arrived, 0), 0, size - 1)
        for _ in range(settings.jumps):
            told = distance_mm(locator(patches_at(cells, places)), known.latent).numpy() / CELL_MM
            places = np.clip(np.round(places) + told, 0, size - 1)
        levels = locator.encode(patches_at(cells, places))[1]
        maps = [_alike(one, cube, settings.reach) for one, cube in zip(locator.features(levels), known.cubes)]
    near = torch.stack(maps).mean(0).numpy()
    best = np.array([np.unravel_index(int(one.argmax()), one.shape) for one in near]) - settings.reach
    return np.clip(places + best, 0, size - 1), apart


def _alike(features: torch.Tensor, cube: torch.Tensor, reach: int) -> torch.Tensor:
    """Mean cosine of a cube ``[n, C, r, r, r]`` with the places of features ``[n, C, s, s, s]`` up to ``reach`` cells
    around the middle, ``[n, R, R, R]`` with R = 2 * reach + 1."""
    count, side, cells = cube.shape[0], cube.shape[2], features.shape[2]
    found = F.conv3d(features.flatten(0, 1)[None], cube, padding=side // 2, groups=count)[0] / side ** 3
    steps = (torch.arange(-reach, reach + 1) * cells / PATCH + cells // 2) * 2 / (cells - 1) - 1
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")[::-1], -1)
    return F.grid_sample(found[:, None], grid.expand(count, -1, -1, -1, -1), align_corners=True)[:, 0]


class MedlamPredictor(LocalisePredictor):
    """A :class:`LocalisePredictor` that finds structures by a learned coordinate of the body instead of registration.

    Args:
        network_: the torch network with the locator.
        searching: how.
        others, named: arguments of :class:`LocalisePredictor`. The similarity of a volume is 1 less how far, in units
            of :data:`APART_MM`, agents come apart that start elsewhere.
    """

    def __init__(self, *others: Any, network_: LocatedUNet, searching: Searching = Searching(), **named: Any) -> None:
        super().__init__(*others, **named)
        self.locator, self.searching = network_.locator.eval(), searching

    def propose(self, state: EncodedImage, references: Sequence[ReferencePrompt]) -> Place:
        """Where the structure of finished volumes lies in an encoded one: its box.

        Raises:
            NotFoundError, ImageError, PromptError: if a reference cannot be used.
        """
        cases = []
        for reference in references:
            volume, mask = open_case(reference)
            own = EncodedImage.of(volume)
            body = cells_of(own.data, np.asarray(own.canonical.spacing_mm), own.hounsfield)
            cases.append((body, body.window.to_window(extreme_points(own.move.array(mask)))))
        known = learn_places(self.locator, cases, self.searching)
        target = cells_of(state.data, np.asarray(state.canonical.spacing_mm), state.hounsfield)
        places, apart = find_places(self.locator, target, known, self.searching)
        similar = max(0.0, 1 - apart / APART_MM)
        if similar < self.localising.least_similarity:
            return Place(PromptSet(), similar, None, f"too unlike the finished cases: similarity {similar:.2f}, needed "
                         f"{self.localising.least_similarity:.2f}; draw the box yourself")
        at = np.asarray(target.window.origin) + places * np.asarray(target.window.step)
        low = np.minimum(np.diag(at[:3]), np.diag(at[3:]))
        high = np.maximum(np.diag(at[:3]), np.diag(at[3:])) + 1
        grow = (high - low) * self.localising.margin
        low, high = np.maximum(np.floor(low - grow), 0), np.minimum(np.ceil(high + grow), state.data.shape)
        number = references[0].object_id
        box = Box(tuple(map(float, low)), tuple(map(float, np.maximum(high, low + 1))), number, "voxel")
        return Place(PromptSet((box,)).to_world(state.canonical), similar)


class MedlamInferer(LocaliseInferer):
    """The predictor as a MONAI inferer.

    Args:
        searching: arguments of :class:`Searching`.
        others: see :class:`promptzoo.inference.localise_predictor.LocaliseInferer`.
    """

    def __init__(self, searching: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.searching = Searching(**(searching or {}))
        self._network: LocatedUNet | None = None

    def wrap(self, network: Any) -> Any:
        """A torch network as what :meth:`predictor` takes; its locator is kept."""
        self._network = network
        return super().wrap(network)

    def parts(self, network: Any) -> dict[str, Any]:
        """What engines compile; the locator stays in torch."""
        self._network = network
        return super().parts(network)

    def predictor(self, network: Any, name: str = "medlam", engine: str = "torch") -> MedlamPredictor:
        """The predictor around the network last given to :meth:`wrap` or :meth:`parts`."""
        return MedlamPredictor(network, self.dimensions, self.settings, self.calibration, name, engine,
                               INTERACTIVE_KINDS | {"reference"}, priors=self.priors, localising=self.localising,
                               network_=self._network, searching=self.searching)
