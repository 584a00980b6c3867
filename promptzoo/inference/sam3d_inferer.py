"""SAM-like bundles for volumes as a MONAI inferer."""
from __future__ import annotations

from typing import Any, Mapping, Sequence

import torch

from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS
from promptzoo.networks.sam import DecoderForward
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, TOKENS


class VolumeInferer(InteractiveInferer):
    """Inferer of the SAM-like 3D bundles: clicks, boxes, lassos and masks in volumes, an encoding per window kept.

    Args:
        settings, calibration, overlap: see :class:`InteractiveInferer`.
        embedding_mb: most memory for encoded windows; a window of 64 voxels per side takes 13 MB.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 embedding_mb: int = 256) -> None:
        super().__init__(3, settings, calibration, overlap)
        self.embedding_mb = embedding_mb

    def predictor(self, network: SamParts, name: str = "sam_3d", engine: str = "torch") -> InteractivePredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return InteractivePredictor(network.decode, 3, self.settings, self.calibration, name, engine, SAM_KINDS,
                                    segmenter=segmenter)

    def wrap(self, network: Any) -> SamParts:
        """A torch network as what :meth:`predictor` takes."""
        return SamParts.of(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder and decoder, which engines compile apart."""
        side = self.settings.window
        image = torch.zeros(1, 1, side, side, side)
        with torch.inference_mode():
            encoded = [part.clone() for part in network.eval().image_encoder(image)]
        labels = torch.full((1, TOKENS), -1.0)
        labels[0, :2] = torch.tensor([2.0, 3.0])
        points = torch.zeros(1, TOKENS, 3)
        points[0, 1] = side / 2
        dense = torch.zeros(1, len(DENSE_CHANNELS), *(side // 2,) * 3)
        return {"image_encoder": Part(network.image_encoder.eval(), (image,), ()),
                "mask_decoder": Part(DecoderForward(network).eval(), (*encoded, points, labels, dense), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> SamParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return SamParts(compiled["image_encoder"], compiled["mask_decoder"])
