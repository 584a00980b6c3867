"""Predictor that finds where finished volumes have their structure in a new one: box and points come by themselves."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.inference.by_reference import ByReference
from promptzoo.inference.interactive import INTERACTIVE_KINDS
from promptzoo.inference.monai_inferer import InteractiveInferer
from promptzoo.inference.reference_cases import open_case
from promptzoo.inference.registration import Aligned, Coarse, align
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import Box, MaskPrompt, Point, PromptSet, ReferencePrompt


@dataclass(frozen=True)
class Localising:
    """How finished volumes become prompts.

    Args:
        least_similarity: below it a volume is refused as too unlike the new one.
        margin: of the box, as a share of its sides.
        positive: points inside.
        mask: whether the voted mask is a prompt, too.
    """

    least_similarity: float = 0.9
    margin: float = 0.05
    positive: int = 1
    mask: bool = True


@dataclass(frozen=True, eq=False)
class Place:
    """Where a structure is thought to be: prompts in world space (empty if unknown), the ``similarity`` of the best
    reference, and the ``voted`` mask ``[i, j, k]`` on the canonical grid."""

    prompts: PromptSet
    similarity: float
    voted: np.ndarray | None = None
    reason: str = ""


class LocalisePredictor(ByReference):
    """An :class:`InteractivePredictor` for volumes that also takes reference prompts.

    Finished volumes are registered to the new one; those that are alike vote, and where half of them agree a box, a
    click in its middle and the voted mask are given. They are handed out, to be edited; own prompts of the same object
    are added. (Chen et al., 2024, title: five references registered to a knee, warped masks prompt SAM.)

    Args:
        localising: how.
        others, named: arguments of :class:`InteractivePredictor`.
    """

    def __init__(self, *others: Any, localising: Localising = Localising(), **named: Any) -> None:
        super().__init__(*others, **named)
        self.localising = localising

    def propose(self, state: EncodedImage, references: Sequence[ReferencePrompt]) -> Place:
        """Where the structure of finished volumes lies in an encoded one.

        Raises:
            NotFoundError, ImageError, PromptError: if a reference cannot be used.
        """
        target, found = Coarse.of(state), []
        for reference in references:
            volume, mask = open_case(reference)
            known = EncodedImage.of(volume)
            coarse = Coarse.of(known)
            share = coarse.window.sample(known.move.array(mask).astype(np.float32))
            found.append(align(coarse, share, target))
        most = max(one.similarity for one in found)
        alike = [one for one in found if one.similarity >= self.localising.least_similarity]
        if not alike:
            return Place(PromptSet(), most, None, f"too unlike the finished cases: similarity {most:.2f}, needed "
                         f"{self.localising.least_similarity:.2f}; draw the box yourself")
        voted = self._voted(state, target, alike)
        if not voted.any():
            return Place(PromptSet(), most, None, "the finished cases do not agree where it is; draw the box yourself")
        return Place(self._prompts(state, voted, references[0].object_id), most, voted)

    @staticmethod
    def _voted(state: EncodedImage, target: Coarse, alike: Sequence[Aligned]) -> np.ndarray:
        """Voxels of the canonical grid that half of the references claim."""
        share = np.mean([one.mask for one in alike], 0)
        offset, region = target.window.restore(share, state.data.shape)
        voted = np.zeros(state.data.shape, bool)
        level = min(0.5, 0.5 * float(share.max()))  # small structures fill no coarse cell
        voted[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region >= max(level, 0.05)
        return voted

    def _prompts(self, state: EncodedImage, voted: np.ndarray, number: int) -> PromptSet:
        at = np.argwhere(voted)
        low, high = at.min(0), at.max(0) + 1
        grow = np.ceil((high - low) * self.localising.margin)
        low, high = np.maximum(low - grow, 0), np.minimum(high + grow, voted.shape)
        prompts: list[Any] = [Box(tuple(low), tuple(high), number, "voxel")]
        depth = ndimage.distance_transform_edt(np.pad(voted, 1), sampling=state.canonical.spacing_mm)[1:-1, 1:-1, 1:-1]
        for _ in range(self.localising.positive):
            middle = np.unravel_index(int(depth.argmax()), depth.shape)
            prompts.append(Point(tuple(map(float, middle)), True, number, "voxel"))
            depth[sum((g - m) ** 2 for g, m in zip(np.indices(depth.shape, sparse=True), middle))
                  < depth[middle] ** 2] = 0
        if self.localising.mask:
            prompts.append(MaskPrompt(voted, state.canonical, number))
        return PromptSet(tuple(prompts)).to_world(state.canonical)


class LocaliseInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        localising: arguments of :class:`Localising`.
        others: see :class:`promptzoo.inference.monai_inferer.InteractiveInferer`.
    """

    def __init__(self, localising: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.localising = Localising(**(localising or {}))

    def predictor(self, network: Any, name: str = "localise", engine: str = "torch") -> LocalisePredictor:
        """The predictor with these settings around a plain or compiled network."""
        return LocalisePredictor(network, self.dimensions, self.settings, self.calibration, name, engine,
                                 INTERACTIVE_KINDS | {"reference"}, priors=self.priors, localising=self.localising)
