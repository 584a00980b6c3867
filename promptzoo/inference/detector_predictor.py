"""Predictor that answers text with boxes."""
from __future__ import annotations

import difflib
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.attribute_words import FILLERS, SYNONYMS, meaning, tokens
from promptzoo.inference.box_fusion import Boxes
from promptzoo.inference.detector import Detector
from promptzoo.inference.object_answers import Seen
from promptzoo.inference.picture import Picture
from promptzoo.networks.question_head import objects_of
from promptzoo.prompts.types import ObjectInfo, PromptSet
from promptzoo.text.attributes.builder import Caption, PromptBuilder, known_words, lint
from promptzoo.text.attributes.knowledge import concept_of, concepts
from promptzoo.text.attributes.sorting import relevance

NOTHING = "nothing found"


@dataclass(frozen=True, eq=False)
class DetectionState:
    """An encoded picture: token map, scale of the network's square, a key of the content, and what was asked."""

    picture: Picture
    tokens: np.ndarray
    scale: float
    key: str
    asked: dict[str, Boxes] = field(default_factory=dict)

    @property
    def source(self) -> Grid:
        """The image's own grid."""
        return self.picture.source

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(self.tokens.nbytes + self.picture.rgb.nbytes)


def picture_key(picture: Picture) -> str:
    """A hash of what a picture shows, colours included."""
    return hashlib.sha256(np.ascontiguousarray((picture.rgb * 255).astype(np.uint8)).tobytes()).hexdigest()


class DetectionPredictor:
    """Text in, boxes out; an object's mask is the union of its boxes.

    Args:
        detector: finds the boxes.
        builder: makes captions from texts.
        names: words beyond those of attributes that the weights were trained with.
        name: of the bundle.
        engine: what runs it.
    """

    prompt_kinds = frozenset({"text"})

    def __init__(self, detector: Detector, builder: PromptBuilder, names: Sequence[str] = (),
                 name: str = "grounded_attribute_detection", engine: str = "torch") -> None:
        self.detector, self.builder, self.name, self.engine = detector, builder, name, engine
        self.names = frozenset(word for text in names for word in tokens(text))

    def asking(self, builder: PromptBuilder) -> "DetectionPredictor":
        """The same detector with captions made in another way; states may be shared."""
        other = DetectionPredictor(self.detector, builder, (), self.name, self.engine)
        other.names = self.names
        return other

    def encode(self, volume: Volume) -> DetectionState:
        """Prepare a picture.

        Raises:
            ImageError: for a volume of several slices.
        """
        picture = Picture.of(volume)
        found, scale = self.detector.tokens(picture)
        return DetectionState(picture, found, scale, picture_key(picture))

    def unknown(self, text: str) -> str | None:
        """Why a text means nothing to the detector, with near words; None if any of its words does."""
        words = [word for word in tokens(text) if word not in FILLERS]
        if concept_of(text) is not None or any(meaning(w) is not None or w in self.names for w in words):
            return None
        vocabulary = sorted({*known_words(), *SYNONYMS, *self.names,
                             *(name for one in concepts() for name in (one.name, *one.aliases))})
        near = list(dict.fromkeys(n for w in [*words, text.lower()]
                                  for n in difflib.get_close_matches(w, vocabulary, 3, 0.7)))
        ask = f"Did you mean {', '.join(near[:4])}?" if near else (
            "Describe it with words of colour, shape, size, texture or place, for example: large purple round cell")
        return f"no word of {text.strip()!r} is known to this detector. {ask}"

    def captions(self, state: DetectionState, text: str) -> list[Caption]:
        """The captions that a text is asked with, see :class:`PromptBuilder`."""
        return self.builder.captions(text, state.picture.rgb, state.key, lambda: self.regions(state, text),
                                     lambda: self.seen(state), lambda texts: self.relevance(state, texts))

    def relevance(self, state: DetectionState, texts: Sequence[str]) -> list[float]:
        """How well captions fit a picture, see :func:`promptzoo.text.attributes.sorting.relevance`."""
        return [relevance(found.scores) for found in self._ask(state, texts)]

    def regions(self, state: DetectionState, text: str) -> np.ndarray:
        """Boxes ``[n, 4]`` in pixels, at most twenty, that a text as it is finds."""
        return self._ask(state, [text])[0].above(self.detector.settings.threshold).boxes[:20]

    def seen(self, state: DetectionState) -> Seen | None:
        """What the shipped question answerer goes by; None of a detector without token maps."""
        if state.tokens.ndim != 3:
            return None
        rows, columns = (n * state.scale for n in state.picture.rgb.shape[:2])
        return Seen(objects_of(state.tokens, rows, columns), self.detector.parts.text_encoder)

    def find(self, state: DetectionState, text: str) -> tuple[Boxes, list[Caption]]:
        """Boxes of a text in pixels of the shown picture, from the least score on, and the captions asked."""
        asked = self.captions(state, text)
        sets = self._ask(state, [one.text for one in asked])
        return self.detector.fused(sets, [one.weight for one in asked]), asked

    def lint(self, state: DetectionState, text: str) -> list[tuple[str, float]]:
        """How much each word of a phrase adds to the best score on a picture, see :func:`lint`."""

        def best(texts: Sequence[str]) -> list[float]:
            maps = self.detector.scores(state.tokens, state.scale, state.picture.rgb.shape, texts)
            return [float(one.max()) for one in maps]

        return lint(best, text)

    def decode(self, state: DetectionState, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Find what each object's text says; several texts of one object are captions of the same thing.

        Each answer carries in ``info``: ``boxes`` (half-open voxel bounds and score, best first), ``instances`` (how
        many reach the threshold), ``generated`` (those as JSON of a prompt set of boxes, to be edited), ``captions``
        and, if there is none, ``reason``.

        Raises:
            PromptError: for other prompts than text.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        answers = [self._answer(state, info, [p.text for p in prompts.of("text", info.object_id)])
                   for info in prompts.objects if prompts.of("text", info.object_id)]
        return Prediction(state.source, tuple(answers), time.perf_counter() - started, self.engine)

    def _ask(self, state: DetectionState, texts: Sequence[str]) -> list[Boxes]:
        """Boxes of each text, kept with the state."""
        fresh = [text for text in dict.fromkeys(texts) if text not in state.asked]
        if fresh:
            found = self.detector.boxes(state.tokens, state.scale, state.picture.rgb.shape, fresh)
            state.asked.update(zip(fresh, found))
        return [state.asked[text] for text in texts]

    def _answer(self, state: DetectionState, info: ObjectInfo, texts: Sequence[str]) -> ObjectPrediction:
        settings, said = self.detector.settings, [self.unknown(text) for text in texts]
        known = [text for text, why in zip(texts, said) if why is None]
        told: dict[str, Any] = {"boxes": [], "instances": 0, "captions": []}
        if not known:
            told["reason"] = str(next(why for why in said if why))
            return _empty(info.object_id, state.source, settings.threshold, told)
        each = [self.find(state, text) for text in known]
        found = each[0][0] if len(each) == 1 else self.detector.fused([boxes for boxes, _ in each])
        told["captions"] = [one.text for _, asked in each for one in asked]
        told["boxes"] = [{"low": low, "high": high, "score": round(float(score), 4)} for (low, high), score in
                         ((state.picture.voxels(box), score) for box, score in zip(found.boxes, found.scores))]
        sure = found.above(settings.threshold)
        told["instances"] = len(sure)
        if not len(sure):
            told["reason"] = NOTHING
            return _empty(info.object_id, state.source, settings.threshold, told)
        names = info.name or known[0]
        drawn = tuple(state.picture.prompt(box, number) for number, box in enumerate(sure.boxes, 1))
        shown = tuple(ObjectInfo(number, f"{names} {number}") for number in range(1, len(sure) + 1))
        told["generated"] = json.dumps(PromptSet(drawn, shown).to_json())
        return _filled(info.object_id, state, sure, settings.threshold, told)


def _empty(number: int, grid: Grid, threshold: float, told: dict[str, Any]) -> ObjectPrediction:
    return ObjectPrediction(number, grid, (0, 0, 0), np.zeros((1, 1, 1), np.float32), None, threshold, told)


def _filled(number: int, state: DetectionState, found: Boxes, threshold: float, told: dict[str, Any]
            ) -> ObjectPrediction:
    """Every pixel inside a box carries the best score of those around it."""
    shown = np.zeros(state.picture.rgb.shape[:2], np.float32)
    for box, score in zip(found.boxes[::-1], found.scores[::-1]):
        x0, y0, x1, y1 = np.rint(box).astype(int)
        shown[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)] = min(float(score), 1.0)
    return ObjectPrediction(number, state.source, (0, 0, 0), state.picture.map(shown), None, threshold, told)
