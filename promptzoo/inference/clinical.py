"""Clinical records as prompts: predicted from the image, shown, and corrected by a person; told in fields or words."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from scipy.special import expit, softmax

from promptzoo.core.errors import PromptError, UnclearTextError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.clinical import SEGMENTS, STUDIES, TARGETS
from promptzoo.inference.resample import Window
from promptzoo.inference.sentences import check_flat, frontal, on_image
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import AttributePrompt, ClassPrompt, ObjectInfo, PromptSet
from promptzoo.text.records import (
    CLASSES,
    FIELD_OF,
    SIZES,
    STUDY_OF,
    Record,
    chances_of,
    checked,
    read_request,
    value_of,
    vector,
)

STRIDE, CLICK_RADIUS = 4, 1.5
"""Pixels of the window per cell of a click's map, and the click's radius in cells."""


@dataclass(frozen=True)
class ClinicalParts:
    """The network as plain functions of arrays.

    Args:
        encode: ``[1, 1, S, S]`` to the maps of the encoder.
        attributes: three maps to logits of study, grade, segment and position, ``[1, n]`` each.
        decode: what :attr:`ClinicalPredictor.told` makes of a record, and three maps, to logits ``[1, 1, S/2, S/2]``.
    """

    encode: Callable[..., Sequence[np.ndarray]]
    attributes: Callable[..., Sequence[np.ndarray]]
    decode: Callable[..., np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """What an image gave: its window, the encoder's maps, probabilities of the attributes by name."""

    window: Window
    maps: Sequence[np.ndarray]
    chances: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Ask:
    """A record for one object: ``chances`` of its attribute, ``shown`` values, the window's pixel of a click."""

    target: str
    chances: Mapping[str, np.ndarray]
    shown: Mapping[str, str]
    given: frozenset[str]
    click: tuple[int, int] | None = None


def click_map(at: Sequence[int] | None, size: int) -> np.ndarray:
    """A click at a pixel of a window as a map ``[1, size/4, size/4]`` float32; zeros without one."""
    count = size // STRIDE
    if at is None:
        return np.zeros((1, count, count), np.float32)
    cells = np.indices((count, count))
    away = [(axis - (place + 0.5) / STRIDE + 0.5) / CLICK_RADIUS for axis, place in zip(cells, at)]
    return np.exp(-(away[0] ** 2 + away[1] ** 2)).astype(np.float32)[None]


class ClinicalPredictor:
    """Structures of an image under a record that is predicted, given in fields, or told in words.

    Args:
        parts: the network.
        window: side in pixels of what the network sees.
        studies: kinds of study that are answered; with one, it is taken for granted.
        clicks: whether a click may say which part is meant.
        told: makes what the decoder is given, from an :class:`Ask` and the window's side.
        name, engine: for the answer.
    """

    def __init__(self, parts: ClinicalParts, window: int, studies: Sequence[str] = STUDIES, clicks: bool = False,
                 told: Callable[[Ask, int], tuple[np.ndarray, ...]] | None = None, name: str = "clinical",
                 engine: str = "torch") -> None:
        self.parts, self.window, self.studies, self.told = parts, window, tuple(studies), told or as_vector
        self.prompt_kinds = frozenset({"class", "text", "attribute"} | ({"point"} if clicks else set()))
        self.classes = tuple(name for name in CLASSES if STUDY_OF[name] in self.studies)
        self.name, self.engine, self.dimensions = name, engine, 2
        self._known: WeakKeyDictionary[EncodedImage, Seen] = WeakKeyDictionary()
        self._segments: WeakKeyDictionary[EncodedImage, str] = WeakKeyDictionary()

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object.

        The record used is in ``info["attributes"]`` with the target, what of it was predicted in
        ``info["predicted"]``, and all of it in ``info["generated"]`` as the JSON of a prompt set to edit and to give
        back. An empty prompt set asks for the first target of the predicted study. Another record costs a pass of the
        decoder; the image is encoded once.

        Args:
            state: result of :meth:`encode`.
            prompts: class, text and attribute prompts; clicks where they are taken.
            previous: not used.

        Raises:
            PromptError: for a volume, other kinds of prompt, unknown classes, attributes or values, and attributes that
                the asked structure does not have.
            UnclearTextError: for a text that names nothing.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        check_flat(state, self.name)
        answers = []
        for info in prompts.objects or (ObjectInfo(1),):
            own = prompts.for_object(info.object_id) if prompts.objects else prompts
            answers.append(self._answer(state, info.object_id, self.ask(state, own), own))
        return Prediction(state.source, tuple(answers), time.perf_counter() - started, self.engine)

    def seen(self, state: EncodedImage) -> Seen:
        """What an image gave, kept as long as the encoded image."""
        if state not in self._known:
            window, view = frontal(state, self.window)
            maps = list(self.parts.encode(view[None, None]))[:3]
            told = [softmax(np.asarray(one[0], np.float32)) for one in self.parts.attributes(*maps)]
            self._known[state] = Seen(window, maps, dict(zip(("study", *SIZES), told)))
        return self._known[state]

    def ask(self, state: EncodedImage, prompts: PromptSet) -> Ask:
        """The record that prompts mean on an image; what they leave open is predicted."""
        record = self.read(prompts)
        found = self.seen(state)
        target = record.target or TARGETS[self._study(found, record)][0]
        field = FIELD_OF[STUDY_OF[target]]
        if wrong := set(record.given()) - {field}:
            raise PromptError(complain(f"attribute of {target}", ", ".join(sorted(wrong)), field or "none",
                                       "Ask for another structure, or leave it out"))
        value = getattr(record, field) if field else ""
        if field and not value:
            guess = self.main_segment(state) if field == "segment" else value_of(field, found.chances[field])
            shown = {field: guess}
        else:
            shown = {field: value} if field else {}
        chances = {name: chances_of(name, one) for name, one in shown.items()}
        given = frozenset({field} if value else ()) | ({"target"} if record.target else set())
        return Ask(target, chances, shown, given, self._click(state, found, prompts))

    def read(self, prompts: PromptSet) -> Record:
        """The record that prompts tell, fields before words.

        Raises:
            PromptError: for unknown classes, attributes and values, and for several structures in one object.
            UnclearTextError: for a text that names nothing.
        """
        record = Record()
        for text in prompts.of("text"):
            one = read_request(text.text)
            record = replace(record, **{name: value for name, value in vars(one).items() if value})
        for prompt in prompts.of("attribute"):
            name = prompt.name.strip().lower()
            record = replace(record, **{name: checked(name, prompt.value)})
        named = [" ".join(prompt.name.lower().replace("_", " ").split()) for prompt in prompts.of("class")]
        for name in named:
            if name not in self.classes:
                raise PromptError(complain(f"class for {self.name}", name, ", ".join(self.classes)))
        if len(set(named)) > 1:
            raise PromptError(complain("classes of one object", ", ".join(named), "one",
                                       "Make them objects of their own"))
        record = replace(record, target=named[0]) if named else record
        if record.target and record.target not in self.classes:
            raise UnclearTextError(f"{self.name} does not know {record.target}. Which of {', '.join(self.classes)}?",
                                   list(self.classes[:4]))
        return record

    def _study(self, found: Seen, record: Record) -> str:
        """The study: the one that has the given attributes, else the likeliest."""
        known = [study for study in self.studies if set(record.given()) <= {FIELD_OF[study]}] or list(self.studies)
        return max(known, key=lambda study: float(found.chances["study"][STUDIES.index(study)]))

    def _click(self, state: EncodedImage, found: Seen, prompts: PromptSet) -> tuple[int, int] | None:
        """The window's pixel of the last positive click."""
        places = [prompt.moved(state.canonical, "voxel").position for prompt in prompts.of("point") if prompt.positive]
        if not places:
            return None
        at = found.window.to_window(np.delete(np.asarray(places[-1]), int(np.argmin(state.data.shape))))
        return tuple(int(n) for n in np.clip(np.rint(at), 0, self.window - 1))  # type: ignore[return-value]

    def chance(self, state: EncodedImage, ask: Ask) -> np.ndarray:
        """Probabilities of what a record asks for, on the image's own grid, float32."""
        return on_image(state, expit(self.logits(state, ask)), self.seen(state).window)

    def logits(self, state: EncodedImage, ask: Ask) -> np.ndarray:
        """The decoder's answer to a record, ``[S/2, S/2]`` float32."""
        return np.asarray(self.parts.decode(*self.told(ask, self.window), *self.seen(state).maps)[0, 0], np.float32)

    def main_segment(self, state: EncodedImage) -> str:
        """The liver segment in which most of the lesions lie that the decoder marks without a segment; what the head
        says where it marks none. Kept as long as the encoded image."""
        if state not in self._segments:
            lesions = self.logits(state, Ask("liver lesion", {}, {}, frozenset())) > 0
            regions = np.stack([self.logits(state, Ask("liver segment", {"segment": chances_of("segment", n)}, {},
                                                       frozenset())) for n in SEGMENTS])
            inside = regions.argmax(0)[lesions]
            self._segments[state] = (SEGMENTS[int(np.bincount(inside, minlength=len(SEGMENTS)).argmax())] if len(inside)
                                     else value_of("segment", self.seen(state).chances["segment"]))
        return self._segments[state]

    def _answer(self, state: EncodedImage, object_id: int, ask: Ask, prompts: PromptSet) -> ObjectPrediction:
        full = self.chance(state, ask)
        edit = PromptSet((*prompts.of("point"), ClassPrompt(ask.target, object_id), *(
            AttributePrompt(name, value, object_id) for name, value in ask.shown.items())))
        names = {"target": ask.target, **ask.shown}
        info: dict[str, Any] = {
            "attributes": dict(ask.shown), "target": ask.target, "generated": json.dumps(edit.to_json()),
            "predicted": sorted(set(names) - ask.given), "source": "given" if set(names) <= ask.given else "predicted",
            "reading": ", ".join([ask.target, *(f"{name} {value}" for name, value in ask.shown.items())])}
        if not (full >= 0.5).any():
            info["reason"] = f"nothing found under {info['reading']}"
        return ObjectPrediction(object_id, state.source, (0, 0, 0), full, None, 0.5, info)


def as_vector(ask: Ask, window: int) -> tuple[np.ndarray, ...]:
    """A record and a click as :class:`promptzoo.networks.attribute_film.AttributeFilm` takes them."""
    return vector(ask.target, ask.chances)[None], click_map(ask.click, window)[None]
