"""Boxes that are corrected before they are used; the corrected box goes back to the person who drew the poor one.

Huang et al., "Robust Box Prompt based SAM for Medical Image Segmentation" (arXiv 2407.21284): the prompt refinement
module and its repetition from where it arrived. Their point prompts and self-information extractor are not here.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.looks import in_window
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import normalise
from promptzoo.inference.sam import Arrays, SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.sam_predictor import SamPredictor
from promptzoo.inference.tissue_window import ct_window
from promptzoo.inference.zoom import Course, ZoomSettings
from promptzoo.networks.desam import BoxForward
from promptzoo.prompts.encoders.tokens import sam_prompt

Faces = tuple[np.ndarray, np.ndarray]
LOOK_MARGIN = 2.0
"""Side of the window in which a box is corrected, over the box's side."""


@dataclass(frozen=True, eq=False)
class RobustParts(SamParts):
    """The parts of a :class:`promptzoo.networks.desam.NoiseRobustSam` as plain callables.

    Args:
        encode, decode: see :class:`SamParts`.
        correct: encoder outputs, dense maps and faces ``[B, 4]`` to corrected faces; None if boxes are not corrected.
    """

    correct: Callable[..., Arrays] | None = None

    @classmethod
    def of(cls, network: Any, device: torch.device | str | None = None) -> "RobustParts":
        """Those of a torch network."""
        plain = SamParts.of(network, device)
        place = torch.device(device) if device is not None else next(network.parameters()).device

        def correct(*inputs: np.ndarray) -> Arrays:
            with torch.inference_mode():
                return [network.correct(*(torch.from_numpy(i).to(place) for i in inputs))[0].float().cpu().numpy()]

        return cls(plain.encode, plain.decode, None if network.box_refiner is None else correct)


class RobustBoxSegmenter(SamSegmenter):
    """A :class:`SamSegmenter` that corrects the given box first and then answers as if that had been given.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`.
        passes: how often the box is corrected, each time from where it arrived; 0 takes boxes as they are.

    Raises:
        BundleError: for a negative number of passes, or passes with parts that cannot correct.
    """

    def __init__(self, parts: RobustParts, settings: ZoomSettings, passes: int = 1,
                 limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        if passes < 0 or (passes and parts.correct is None):
            raise BundleError(complain("passes of the box correction", passes, "0, or more with a network that was "
                                       "made with refine_box"))
        self.passes, self.correct = passes, parts.correct

    def _course(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts, hounsfield: bool) -> Course:
        """All looks at one object; the last tells the corrected box."""
        if prompts.box is None or not self.passes:
            return (yield from super()._course(image, spacing, prompts, hounsfield))
        moved = prompts
        for _ in range(self.passes):
            seen = ct_window(image, moved) if hounsfield else image
            moved = replace(moved, box=self.corrected(seen, spacing, moved))
        look = yield from super()._course(image, spacing, moved, hounsfield)
        return replace(look, box=moved.box)

    def corrected(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts) -> Faces:
        """The box of prompts on ``image`` ``[*N]``, moved onto the object, within the image and around all positive
        clicks; faces in the image's indices."""
        low, high = prompts.box  # type: ignore[misc]
        window = self._window(low, high, LOOK_MARGIN, spacing, image.shape)
        view = normalise(window.sample(image))
        dense = sam_prompt(in_window(prompts, window, None), view).dense
        box = np.concatenate([window.to_window(face) for face in (low, high)]).astype(np.float32)
        inputs = [part[None] for part in self.encoded(view).parts]
        found = self.correct(*inputs, dense[None], box[None])[0][0].astype(float)  # type: ignore[misc]
        low, high = (np.asarray(window.origin) + face * np.asarray(window.step) for face in (found[:2], found[2:]))
        if len(prompts.positive):
            low, high = np.minimum(low, prompts.positive.min(0)), np.maximum(high, prompts.positive.max(0))
        top = np.asarray(image.shape) - 0.5
        low = np.clip(low, -0.5, top - 0.5)
        return low, np.clip(high, low + 0.5, top)


class RobustBoxInferer(SamInferer):
    """Inferer of the bundles whose boxes are corrected.

    Args:
        settings, calibration, overlap, embedding_mb, propagation: see :class:`SamInferer`.
        passes: see :class:`RobustBoxSegmenter`.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 embedding_mb: int = 128, passes: int = 1, propagation: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, calibration, overlap, embedding_mb, propagation=propagation)
        self.passes = passes

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> SamPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = RobustBoxSegmenter(network, self.settings, self.passes,  # type: ignore[arg-type]
                                       self.embedding_mb << 20)
        return SamPredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS,
                            segmenter=segmenter, propagation=self.propagation)

    def wrap(self, network: Any) -> SamParts:
        """A torch network as what :meth:`predictor` takes."""
        return RobustParts.of(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder, decoder and, if boxes are corrected, the correction, which engines compile apart."""
        found = super().parts(network)
        if self.passes:
            *encoded, _, _, dense = found["mask_decoder"].example
            side = self.settings.window
            box = torch.tensor([[side / 4, side / 4, side * 0.75, side * 0.75]])
            found["box_refiner"] = Part(BoxForward(network).eval(), (*encoded, dense, box), ())
        return found

    def assemble(self, compiled: Mapping[str, Any]) -> SamParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return RobustParts(compiled["image_encoder"], compiled["mask_decoder"], compiled.get("box_refiner"))
