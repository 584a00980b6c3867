"""Bundles that are told a clinical record, as a MONAI inferer."""
from __future__ import annotations

from functools import cached_property
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from monai.inferers import Inferer

from promptzoo.core.errors import BundleError, complain
from promptzoo.data.synthesis.clinical import STUDIES
from promptzoo.inference.clinical import Ask, ClinicalParts, ClinicalPredictor, click_map
from promptzoo.inference.clinical_region import RegionPredictor, RegionSettings
from promptzoo.inference.loader import load_predictor
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.sentences import torch_call
from promptzoo.text.ngrams import bags
from promptzoo.text.records import LENGTH, temporal_sentence


class Heads(torch.nn.Module):
    """The attribute heads."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *maps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Three encoder maps to logits of study, grade, segment and position."""
        return self.network.attributes(*maps)


class RecordDecoder(torch.nn.Module):
    """The part of the network that an edited record runs again."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What tells the record, and three encoder maps, to logits."""
        return self.network.decode(*inputs)


class ClinicalInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        window, studies, clicks: see :class:`promptzoo.inference.clinical.ClinicalPredictor`.
        region: arguments of :class:`promptzoo.inference.clinical_region.RegionSettings` with ``bundle``, the folder of
            a promptable bundle that lesions of a liver segment are handed to; None for the network's own masks.
        overlap: owner of pixels claimed by several objects: ``last``, ``first`` or ``probability``.

    Raises:
        BundleError: for unknown studies.
    """

    def __init__(self, window: int = 128, studies: Sequence[str] = STUDIES, clicks: bool = False,
                 region: Mapping[str, Any] | None = None, overlap: str = "last") -> None:
        Inferer.__init__(self)
        if not studies or set(studies) - set(STUDIES):
            raise BundleError(complain("studies", list(studies), ", ".join(STUDIES)))
        self.window, self.studies, self.clicks, self.overlap = window, tuple(studies), clicks, overlap
        self.region = dict(region or {})

    @cached_property
    def promptable(self) -> Any:
        """The bundle that takes region prompts, loaded once; its engine is torch."""
        return load_predictor(self.region["bundle"], "torch")

    def predictor(self, network: ClinicalParts, name: str = "clinical", engine: str = "torch"  # type: ignore[override]
                  ) -> ClinicalPredictor:
        """The predictor around the parts of a plain or compiled network."""
        if self.region:
            settings = RegionSettings(**{key: value for key, value in self.region.items() if key != "bundle"})
            return RegionPredictor(self.promptable, settings, network, self.window, self.studies, name=name,
                                   engine=engine)
        return ClinicalPredictor(network, self.window, self.studies, self.clicks, self.told(), name, engine)

    def told(self) -> Any:
        """How a record is told to the network; None for as a vector."""
        return None

    def example(self) -> tuple[torch.Tensor, ...]:
        """A record as the network's decoder takes it."""
        return torch.full((1, LENGTH), 0.2), torch.from_numpy(click_map((4, 4), self.window))[None]

    def wrap(self, network: Any) -> ClinicalParts:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.eval().parameters()).device
        heads = Heads(network)
        return ClinicalParts(lambda image: torch_call(network.image_encoder, place, image),
                             lambda *maps: torch_call(heads, place, *maps),
                             lambda *inputs: torch_call(network.decode, place, *inputs)[0])

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: encoder, attribute heads, decoder."""
        image = torch.zeros(1, 1, self.window, self.window)
        with torch.inference_mode():
            maps = tuple(one.clone() for one in network.eval().image_encoder(image)[:3])
        return {"image_encoder": Part(network.image_encoder, (image,), ()),
                "attributes": Part(Heads(network).eval(), maps, ()),
                "decoder": Part(RecordDecoder(network).eval(), (*self.example(), *maps), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> ClinicalParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return ClinicalParts(lambda image: compiled["image_encoder"](image),
                             lambda *maps: compiled["attributes"](*maps),
                             lambda *inputs: compiled["decoder"](*inputs)[0])


class TemporalInferer(ClinicalInferer):
    """The same for networks that are told the record in a sentence.

    Args:
        buckets, words: of the bags of n-grams, as the network has them.
        others: see :class:`ClinicalInferer`.
    """

    def __init__(self, buckets: int = 512, words: int = 20, **others: Any) -> None:
        super().__init__(**others)
        self.buckets, self.words = buckets, words

    def told(self) -> Any:
        """A record as the sentence of TP-UNet."""
        def sentence(ask: Ask, window: int) -> tuple[np.ndarray, ...]:
            text = temporal_sentence(ask.target, float(ask.shown.get("position", 0.5)))
            return (bags([text.split()], self.words, self.buckets),)

        return sentence

    def example(self) -> tuple[torch.Tensor, ...]:
        """A sentence as the network's decoder takes it."""
        return (torch.from_numpy(bags([temporal_sentence("stomach", 0.2).split()], self.words, self.buckets)),)
