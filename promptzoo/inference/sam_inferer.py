"""SAM-like bundles as a MONAI inferer."""
from __future__ import annotations

from functools import partial
from typing import Any, Mapping, Sequence

import torch

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.calibration_windows import calibration_windows
from promptzoo.inference.candidates import check_selection
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.multibox import MultiBox, MultiBoxSegmenter
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_predictor import SamPredictor, SelectingSegmenter
from promptzoo.networks.sam import DecoderForward
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, TOKENS

SAM_KINDS = frozenset({"point", "box", "lasso", "mask"})
"""Kinds of prompt that SAM-like bundles take; a lasso is a dense prompt, as a mask is."""


class SamInferer(InteractiveInferer):
    """Inferer of the SAM-like 2D bundles; volumes are segmented on the slices that carry prompts.

    Args:
        settings, calibration, overlap, propagation: see :class:`InteractiveInferer`.
        embedding_mb: most memory for encoded windows.
        multibox: arguments of :class:`promptzoo.inference.multibox.MultiBox`; None answers the given box alone.
        selection: which candidate is the answer, see :data:`promptzoo.inference.candidates.SELECTIONS`; None: the one
            predicted best for a prompt that leaves doubt, else the decoder's mask for prompts that leave none.
    """

    stack_size = 1
    """Slices of a volume that the network sees together."""

    def __init__(self, settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 embedding_mb: int = 128, multibox: Mapping[str, Any] | None = None,
                 selection: str | None = None, propagation: Mapping[str, Any] | None = None) -> None:
        super().__init__(2, settings, calibration, overlap, propagation=propagation)
        self.embedding_mb = embedding_mb
        self.multibox = None if multibox is None else MultiBox(**multibox)
        if multibox is not None and selection is not None:
            raise BundleError(complain("selection of candidates beside many boxes", selection, "one of the two"))
        self.selection = None if selection is None else check_selection(selection)

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> SamPredictor:
        """The predictor with these settings around a plain or compiled network."""
        limit = self.embedding_mb << 20
        if self.multibox is not None:
            segmenter: SamSegmenter = MultiBoxSegmenter(network, self.settings, self.multibox, limit)
        elif self.selection is not None:
            segmenter = SelectingSegmenter(network, self.settings, self.selection, limit)
        else:
            segmenter = SamSegmenter(network, self.settings, limit)
        return SamPredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS,
                            segmenter=segmenter, propagation=self.propagation)

    def wrap(self, network: Any) -> SamParts:
        """A torch network as what :meth:`predictor` takes."""
        return SamParts.of(network)

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder and decoder, which engines compile apart."""
        side = self.settings.window
        image = torch.zeros(1, self.stack_size, side, side)
        with torch.inference_mode():
            encoded = [part.clone() for part in network.eval().image_encoder(image)]
        labels = torch.full((1, TOKENS), -1.0)
        labels[0, :2] = torch.tensor([2.0, 3.0])
        points = torch.zeros(1, TOKENS, 2)
        points[0, 1] = side / 2
        dense = torch.zeros(1, len(DENSE_CHANNELS), side // 2, side // 2)
        samples = partial(calibration_windows, side) if self.stack_size == 1 else None
        return {"image_encoder": Part(network.image_encoder.eval(), (image,), (), samples),
                "mask_decoder": Part(DecoderForward(network).eval(), (*encoded, points, labels, dense), (0, 2),
                                     float_only=True)}

    def assemble(self, compiled: Mapping[str, Any]) -> SamParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return SamParts(compiled["image_encoder"], compiled["mask_decoder"])
