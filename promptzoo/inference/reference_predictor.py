"""Predictor that takes finished cases as prompts: it places the points that a person would, and shows them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.by_reference import ByReference
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.matching import CELLS, MATCHERS, Match, layers_of, match, spread
from promptzoo.inference.reference_cases import Plane, largest_plane, open_case, plane_of
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.sam_predictor import SamPredictor
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import MaskPrompt, Point, PromptSet, ReferencePrompt

MOST_SLICES = 24
"""Slices of a volume that are compared with a reference."""


@dataclass(frozen=True)
class Imitation:
    """How a finished case becomes prompts.

    Args:
        matcher: one of :data:`promptzoo.inference.matching.MATCHERS`.
        least_similarity: below it the case is refused as too unlike.
        positive, negative: points at most.
        nearness: see :func:`promptzoo.inference.matching.match`.
    """

    matcher: str = "forward-backward"
    least_similarity: float = 0.45
    positive: int = 6
    negative: int = 6
    nearness: float = 2.0

    def __post_init__(self) -> None:
        if self.matcher not in MATCHERS:
            raise BundleError(complain("matcher", self.matcher, ", ".join(MATCHERS)))


@dataclass(frozen=True, eq=False)
class Proposal:
    """Prompts for one object: in world space, empty if the case is too unlike; ``similarity`` to the reference."""

    prompts: PromptSet
    similarity: float
    reason: str = ""


class ReferencePredictor(ByReference, SamPredictor):
    """A :class:`SamPredictor` that also takes reference prompts.

    An object with reference prompts gets points and a rough mask where a slice is like the masked part of the most
    similar reference; its own clicks, boxes and masks are added to them. On a volume the slice most like the reference
    is prompted and the mask carried through the others.

    Args:
        imitation: how.
        others, named: arguments of :class:`SamPredictor`.
    """

    segmenter: SamSegmenter
    carried = True

    def __init__(self, *others: Any, imitation: Imitation = Imitation(), **named: Any) -> None:
        super().__init__(*others, **named)
        self.imitation = imitation

    def propose(self, state: EncodedImage, references: Sequence[ReferencePrompt]) -> Proposal:
        """The prompts that references of one object would be answered with, to be edited and decoded.

        Raises:
            NotFoundError, ImageError, PromptError: if a reference cannot be used, see
                :func:`promptzoo.inference.reference_cases.open_case`.
        """
        best: tuple[Match, Plane, Window] | None = None
        flat = state.canonical.is_2d
        axis = int(np.argmin(state.data.shape)) if flat else 2
        shown = [largest_plane(*open_case(reference), None if flat else axis) for reference in references]
        for case in shown:
            known, cells = self._features(case)[0], self._cells(case)
            count = state.data.shape[axis]
            for index in np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round().astype(int)):
                plane = plane_of(state, axis, int(index))
                seen, window = self._features(plane)
                found = match(known, cells, seen, self.imitation.matcher, self.imitation.nearness)
                if best is None or found.similarity > best[0].similarity:
                    best = found, plane, window
        if best is None or best[0].similarity < self.imitation.least_similarity or not best[0].found.any():
            similar = 0.0 if best is None else best[0].similarity
            return Proposal(PromptSet(), similar, f"too unlike the reference: similarity {similar:.2f}, needed "
                            f"{self.imitation.least_similarity:.2f}; give another reference, or click")
        return Proposal(self._made(state, best, references, shown), best[0].similarity)

    def _made(self, state: EncodedImage, best: tuple[Match, Plane, Window], references: Sequence[ReferencePrompt],
              shown: Sequence[Plane]) -> PromptSet:
        """The prompts, in world space, of what matched best; ``shown`` are the masked slices of all references."""
        return self._prompts(state, *best, references[0].object_id)

    def _features(self, plane: Plane) -> tuple[list[np.ndarray], Window]:
        window = self._window(plane)
        return layers_of(self.segmenter.encoded(slice_view(plane.image, window, plane.hounsfield)).parts), window

    def _window(self, plane: Plane) -> Window:
        return slice_window(plane.image.shape, plane.spacing, self.segmenter.settings.window)

    def _cells(self, plane: Plane) -> np.ndarray:
        """Share of the mask per cell of a reference."""
        mask = np.zeros(plane.image.shape) if plane.mask is None else plane.mask
        share = self._window(plane).sample(mask.astype(np.float32))
        step = share.shape[0] // CELLS
        return share.reshape(CELLS, step, CELLS, step).mean((1, 3)).ravel()

    def _prompts(self, state: EncodedImage, found: Match, plane: Plane, window: Window, number: int) -> PromptSet:
        """Points and a rough mask on the slice, in world space."""
        inside, shape = found.found, np.asarray(plane.image.shape)
        depth = np.minimum(ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], CELLS / 8)
        near = ndimage.binary_dilation(inside, iterations=CELLS // 6) & ~ndimage.binary_dilation(inside, iterations=2)
        step = window.shape[0] // CELLS
        prompts: list[Any] = []
        for score, allowed, count, sign in (
                (found.score * depth, inside & found.trusted, self.imitation.positive, True),
                (-found.score, near & found.trusted, self.imitation.negative, False)):
            cells = spread(score, allowed, count)
            if sign and not len(cells):
                cells = spread(score, inside, count)
            places = np.asarray(window.origin) + (cells * step + (step - 1) / 2) * np.asarray(window.step)
            for place in places[((places > -0.5) & (places < shape - 0.5)).all(1)]:
                prompts.append(Point(tuple(np.insert(place, plane.axis, plane.index)), sign, number, "voxel"))
        rough = np.kron(np.where(inside | near, found.score, -1.0), np.ones((step, step)))
        offset, region = window.restore(ndimage.gaussian_filter(rough, step / 2), plane.image.shape)
        layer = np.zeros(state.canonical.shape, bool)
        view = np.moveaxis(layer, plane.axis, 0)[plane.index]
        view[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region > 0
        if layer.any():
            prompts.append(MaskPrompt(layer, state.canonical, number))
        return PromptSet(tuple(prompts)).to_world(state.canonical)


class ReferenceInferer(SamInferer):
    """The predictor as a MONAI inferer.

    Args:
        imitation: arguments of :class:`Imitation`.
        others: see :class:`promptzoo.inference.sam_inferer.SamInferer`.
    """

    def __init__(self, imitation: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.imitation = Imitation(**(imitation or {}))

    def predictor(self, network: SamParts, name: str = "reference", engine: str = "torch") -> ReferencePredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return ReferencePredictor(network.decode, 2, self.settings, self.calibration, name, engine,
                                  SAM_KINDS | {"reference"}, segmenter=segmenter, propagation=self.propagation,
                                  imitation=self.imitation)
