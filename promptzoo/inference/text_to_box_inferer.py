"""Bundles that look for words with another bundle, as a MONAI inferer."""
from __future__ import annotations

from functools import cached_property
from typing import Any, Mapping

from promptzoo.core.bundles import get_bundle
from promptzoo.core.protocols import Predictor
from promptzoo.inference.loader import load_network, load_predictor
from promptzoo.inference.saliency import SaliencySettings, ScoreCam
from promptzoo.inference.sam import SamParts
from promptzoo.inference.sam_inferer import SamInferer
from promptzoo.inference.text_to_box import TextToBox, TextToBoxPredictor


class TextToBoxInferer(SamInferer):
    """Inferer of SAM-like bundles that are told words.

    Args:
        localiser: folder of the bundle that finds where a text lies; its engine is torch.
        localiser_variant: variant overlay of that bundle.
        boxes: arguments of :class:`promptzoo.inference.text_to_box.TextToBox`.
        saliency: arguments of :class:`promptzoo.inference.saliency.SaliencySettings`: places are taken from a map of
            what the text's score hangs on, not from the localiser's boxes; for detectors. None for the boxes.
        others: see :class:`SamInferer`.

    Raises:
        NotFoundError: at the first use, if there is no such bundle or variant.
        BundleError: at the first use, if it takes no text.
    """

    def __init__(self, localiser: str, localiser_variant: str | None = None, boxes: Mapping[str, Any] | None = None,
                 saliency: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.saliency = None if saliency is None else SaliencySettings(**saliency)
        self.localiser, self.localiser_variant = localiser, localiser_variant
        self.boxes = TextToBox(**{**(boxes or {}), "against": tuple((boxes or {}).get("against", ()))})

    @cached_property
    def finder(self) -> Predictor:
        """The localiser, loaded once."""
        if self.saliency is None:
            return load_predictor(self.localiser, "torch", variant=self.localiser_variant)
        network, parser = load_network(get_bundle(self.localiser), self.localiser_variant)
        inferer = parser.get_parsed_content("inferer")
        return ScoreCam(network, inferer.predictor(inferer.wrap(network)), self.saliency)

    def predictor(self, network: SamParts, name: str = "text_to_box_to_sam", engine: str = "torch"
                  ) -> TextToBoxPredictor:  # type: ignore[override]
        """The predictor with these settings around a plain or compiled network."""
        return TextToBoxPredictor(self.finder, super().predictor(network, name, engine), self.boxes, name)
