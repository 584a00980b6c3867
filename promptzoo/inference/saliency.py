"""Where a text lies, by what of the picture its score hangs on: gScoreCAM on a network that scores texts.

Chen et al., "gScoreCAM: What objects is CLIP looking at?", ACCV 2022: the channels with the largest gradients of the
text's score are kept; each, as a mask on the picture, is scored again, and the scores weigh the channels. Koleilat et
al., "MedCLIP-SAM", MICCAI 2024, and its public code take boxes from such a map of BiomedCLIP. Here the network is the
detector of ``grounded_attribute_detection``, of which only texts' scores are used, not the boxes.
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.detector import squared
from promptzoo.inference.detector_predictor import NOTHING, DetectionPredictor
from promptzoo.inference.picture import Picture
from promptzoo.networks.open_vocabulary import STRIDE, phrase_logits
from promptzoo.prompts.types import PromptSet


@dataclass(frozen=True)
class SaliencySettings:
    """How a map is made.

    Args:
        channels: how many are scored.
        tokens: a text's score is the mean of its best ones.
        threshold: share of the largest value from which the map counts.
    """

    channels: int = 16
    tokens: int = 20
    threshold: float = 0.3


@dataclass(frozen=True, eq=False)
class SaliencyState:
    """A picture, and what the detector makes of it."""

    picture: Picture
    detected: Any

    @property
    def source(self) -> Grid:
        """The image's own grid."""
        return self.picture.source

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(self.picture.rgb.nbytes + self.detected.nbytes)


class ScoreCam:
    """Text in, a map out.

    Args:
        network: an :class:`promptzoo.networks.open_vocabulary.OpenVocabularyDetector`.
        detector: the predictor around it, which knows words and says whether a text is there at all.
        settings: how a map is made.
    """

    prompt_kinds = frozenset({"text"})
    dimensions = 2

    def __init__(self, network: Any, detector: DetectionPredictor, settings: SaliencySettings = SaliencySettings()
                 ) -> None:
        self.network, self.detector, self.settings = network.eval(), detector, settings
        self.name, self.engine = detector.name, "torch fp32"

    def encode(self, volume: Volume) -> SaliencyState:
        """Prepare a picture.

        Raises:
            ImageError: for a volume of several slices.
        """
        state = self.detector.encode(volume)
        return SaliencyState(state.picture, state)

    def decode(self, state: SaliencyState, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """The map of each object's first text, in [0, 1]; empty with ``info["reason"]`` where the detector sees
        nothing of the kind.

        Raises:
            PromptError: for other prompts than text.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        answers = tuple(self._answer(state, info.object_id, prompts.of("text", info.object_id)[0].text)
                        for info in prompts.objects if prompts.of("text", info.object_id))
        return Prediction(state.source, answers, time.perf_counter() - started, self.engine)

    def _answer(self, state: SaliencyState, object_id: int, text: str) -> ObjectPrediction:
        reason = self.detector.unknown(text)
        if reason is None:
            found, _ = self.detector.find(state.detected, text)
            reason = None if len(found.above(self.detector.detector.settings.threshold)) else NOTHING
        if reason is not None:
            nothing = np.zeros((1, 1, 1), np.float32)
            return ObjectPrediction(object_id, state.source, (0, 0, 0), nothing, None, self.settings.threshold,
                                    {"reason": reason})
        shown = state.picture.map(self.saliency(state.picture, text))
        return ObjectPrediction(object_id, state.source, (0, 0, 0), shown, None, self.settings.threshold)

    def saliency(self, picture: Picture, text: str) -> np.ndarray:
        """The map of a text on a picture, ``[rows, columns]`` float32 in [0, 1]."""
        square, scale = squared(picture.rgb, self.detector.detector.settings)
        image, held = torch.from_numpy(square), {}
        layer = self.network.image_encoder.merge
        hook = layer.register_forward_hook(lambda module, given, made: held.update(made=made))
        try:
            with torch.enable_grad():
                vector = self.network.text_encoder([text]).detach()
                score = self._score(self.network.image_encoder(image.requires_grad_()), vector)
                pull = torch.autograd.grad(score.sum(), held["made"])[0].mean((2, 3))[0]
            made = held["made"].detach()[:, pull.topk(self.settings.channels).indices]
            with torch.inference_mode():
                masks = F.interpolate(made, size=image.shape[2:], mode="bilinear")[0]
                low, high = masks.amin((1, 2), True), masks.amax((1, 2), True)
                masks = (masks - low) / (high - low + 1e-6)
                blank = self._score(self.network.image_encoder(0 * image), vector)
                gain = torch.cat([self._score(self.network.image_encoder(image * mask), vector) - blank
                                  for mask in masks])
                seen = F.relu((gain.clamp(min=0)[:, None, None] * made[0]).sum(0))
        finally:
            hook.remove()
        rows, columns = (int(np.ceil(n * scale / STRIDE)) for n in picture.rgb.shape[:2])
        seen = seen[:rows, :columns] / seen[:rows, :columns].max().clamp(min=1e-6)
        full = F.interpolate(seen[None, None], size=picture.rgb.shape[:2], mode="bilinear")[0, 0]
        return full.clamp(0, 1).numpy().astype(np.float32)

    def _score(self, tokens: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
        logits = phrase_logits(tokens, vector[None].expand(len(tokens), -1, -1)).flatten(1)
        return logits.topk(self.settings.tokens, 1).values.mean(1)
