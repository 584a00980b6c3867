"""Detection bundles as a MONAI inferer."""
from __future__ import annotations

from functools import partial
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import Predictor
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import luminance
from promptzoo.data.synthesis.attribute_scenes import AttributeScenes
from promptzoo.inference.detector import Detector, DetectorParts, DetectorSettings, text_part
from promptzoo.inference.detector_predictor import DetectionPredictor
from promptzoo.inference.monai_inferer import Part
from promptzoo.prompts.types import PromptSet
from promptzoo.text.attributes.builder import PromptBuilder

SEED = 516
"""Of the pictures on which int8 engines are calibrated; no training and no test uses it."""


class DetectionInferer(Inferer):
    """Inferer of open-vocabulary detectors.

    Args:
        settings: arguments of :class:`promptzoo.inference.detector.DetectorSettings`.
        prompts: arguments of :class:`promptzoo.text.attributes.builder.PromptBuilder`.
        names: words beyond those of attributes that the weights were trained with.
        overlap: owner of pixels claimed by several objects: ``last``, ``first`` or ``probability``.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None, prompts: Mapping[str, Any] | None = None,
                 names: Sequence[str] = (), overlap: str = "last") -> None:
        super().__init__()
        self.settings, self.builder = DetectorSettings(**(settings or {})), PromptBuilder(**(prompts or {}))
        self.names, self.overlap = tuple(names), overlap
        self._text: Callable[[Sequence[str]], np.ndarray] | None = None

    def predictor(self, network: DetectorParts, name: str = "grounded_attribute_detection", engine: str = "torch"
                  ) -> DetectionPredictor:
        """The predictor with these settings around a plain or compiled network."""
        return DetectionPredictor(Detector(network, self.settings), self.builder, self.names, name, engine)

    def wrap(self, network: Any) -> DetectorParts:
        """A torch network as what :meth:`predictor` takes."""
        return DetectorParts.of(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """The image encoder, which engines compile; the text encoder stays in torch."""
        self._text = text_part(network)
        image = torch.zeros(1, 3, self.settings.size, self.settings.size)
        return {"image_encoder": Part(network.image_encoder.eval(), (image,), (),
                                      partial(calibration_pictures, self.settings.size))}

    def assemble(self, compiled: Mapping[str, Any]) -> DetectorParts:
        """The compiled parts as what :meth:`predictor` takes; after :meth:`parts`."""
        if self._text is None:
            raise EngineError(complain("assemble", "no text encoder yet", "after parts(network)"))
        return DetectorParts(compiled["image_encoder"], self._text)

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, prompts: Sequence[str] | None = None,
                 **kwargs: Any) -> torch.Tensor:
        """Detect in pictures.

        Args:
            inputs: ``[B, C, i, j, k]`` or ``[B, C, i, j]``, one slice each; C is 1 (grey) or 3 (colours from 0 to 255).
            network: the bundle's network.
            prompts: JSON of one prompt set per picture; None for pictures without prompts.

        Returns:
            Label maps ``[B, 1, *N]`` float32 of the filled boxes on the images' own grids, voxel value = object id.
        """
        return label_maps(self.predictor(self.wrap(network)), inputs, prompts, self.overlap)


def label_maps(predictor: Predictor, inputs: torch.Tensor, prompts: Sequence[str] | None, overlap: str
               ) -> torch.Tensor:
    """Label maps of grey or colour images, see :meth:`DetectionInferer.__call__`."""
    results = []
    for n, image in enumerate(inputs):
        data = np.asarray(image.detach().cpu().numpy(), dtype=np.float32)
        affine = np.eye(4)
        if isinstance(inputs, MetaTensor):
            stacked = np.asarray(inputs.affine, dtype=float)
            affine = stacked[n] if stacked.ndim == 3 else stacked
        chosen = PromptSet.from_json(prompts[n]) if prompts is not None else PromptSet()
        labels = predictor.decode(predictor.encode(_volume(data, affine)), chosen).labelmap(overlap)
        results.append(torch.from_numpy(labels.reshape(data.shape[1:]).astype(np.float32))[None])
    stacked_out = torch.stack(results).to(inputs.device)
    return MetaTensor(stacked_out).copy_meta_from(inputs) if isinstance(inputs, MetaTensor) else stacked_out


def _volume(data: np.ndarray, affine: np.ndarray) -> Volume:
    """An image ``[C, i, j(, k)]``."""
    shaped = data.reshape(*(*data.shape, 1)[:4])
    grid = Grid(shaped.shape[1:], affine)  # type: ignore[arg-type]
    if len(shaped) != 3:
        return Volume(shaped[0], grid)
    colours = np.clip(np.rint(np.moveaxis(shaped, 0, -1)), 0, 255).astype(np.uint8)
    grey, _ = luminance(colours)
    return Volume(grey, grid, {"rgb": colours[:, :, 0], "format": "raster"})


def calibration_pictures(size: int, count: int = 32) -> list[tuple[np.ndarray]]:
    """``count`` procedural pictures ``[1, 3, size, size]`` float32 in [-1, 1]."""
    scenes = AttributeScenes(size, SEED)
    return [(np.ascontiguousarray(scenes.sample(generator(SEED, n))[0].transpose(2, 0, 1)[None] * 2 - 1),)
            for n in range(count)]
