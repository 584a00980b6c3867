"""Number and size of lesions as prompts: predicted, shown, and overwritten by a person."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from monai.inferers import Inferer
from scipy.special import expit, softmax

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.resample import Window
from promptzoo.inference.sentences import check_flat, frontal, on_image, torch_call
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.attribute_gated import WORDS
from promptzoo.prompts.types import AttributePrompt, ObjectInfo, PromptSet

NAMES = ("count", "size")
"""Attributes, in the order of the network's heads."""


@dataclass(frozen=True)
class GatedParts:
    """The network as plain functions of arrays.

    Args:
        encode: ``[1, 1, S, S]`` to the maps of the encoder.
        attributes: the coarsest map to logits of number and size.
        decode: probabilities ``[1, 7]`` and three maps to logits ``[1, 1, S/2, S/2]``.
    """

    encode: Callable[..., Sequence[np.ndarray]]
    attributes: Callable[..., Sequence[np.ndarray]]
    decode: Callable[..., np.ndarray]


class Attributes(torch.nn.Module):
    """The attribute heads."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The coarsest map to logits of number and size."""
        return self.network.attributes(embedding)


class GatedDecoder(torch.nn.Module):
    """The part of the network that an edited attribute runs again."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, chances: torch.Tensor, *maps: torch.Tensor) -> torch.Tensor:
        """Probabilities and encoder maps to logits."""
        return self.network.decode(chances, *maps)


class GatedPredictor:
    """All lesions of an image, under the number and the size that are predicted or given.

    Args:
        parts: the network.
        classes: names of the class prompts that ask for the answer.
        window: side in pixels of what the network sees.
        name, engine: for the answer.
    """

    prompt_kinds = frozenset({"class", "attribute"})

    def __init__(self, parts: GatedParts, classes: Sequence[str], window: int, name: str = "gated",
                 engine: str = "torch") -> None:
        self.parts, self.classes, self.window = parts, tuple(classes), window
        self.name, self.engine, self.dimensions = name, engine, 2
        self._known: WeakKeyDictionary[EncodedImage, tuple[Window, Sequence[np.ndarray], list[np.ndarray]]] = \
            WeakKeyDictionary()

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object.

        The values used are in ``info["attributes"]``, and in ``info["generated"]`` as the JSON of a prompt set to edit
        and to give back.

        Args:
            state: result of :meth:`encode`.
            prompts: class and attribute prompts; an empty set asks for the answer under predicted attributes.
            previous: not used.

        Raises:
            PromptError: for a volume, other kinds of prompt, unknown classes, attributes or values.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        check_flat(state, self.name)
        for prompt in prompts.of("class"):
            if prompt.name.strip().lower() not in self.classes:
                raise PromptError(complain(f"class for {self.name}", prompt.name, ", ".join(self.classes)))
        answers = tuple(self._answer(state, info.object_id, prompts.of("attribute", info.object_id))
                        for info in prompts.objects or (ObjectInfo(1),))
        return Prediction(state.source, answers, time.perf_counter() - started, self.engine)

    def _seen(self, state: EncodedImage) -> tuple[Window, Sequence[np.ndarray], list[np.ndarray]]:
        """Window, encoder maps and probabilities of the attributes, kept as long as the encoded image."""
        if state not in self._known:
            window, view = frontal(state, self.window)
            maps = list(self.parts.encode(view[None, None]))[:3]
            self._known[state] = window, maps, [softmax(one[0].astype(np.float32))
                                                for one in self.parts.attributes(maps[0])]
        return self._known[state]

    def _answer(self, state: EncodedImage, object_id: int, given: Sequence[AttributePrompt]) -> ObjectPrediction:
        window, maps, predicted = self._seen(state)
        chances = [one.copy() for one in predicted]
        for prompt in given:
            if prompt.name not in NAMES:
                raise PromptError(complain(f"attribute for {self.name}", prompt.name, ", ".join(NAMES)))
            words = WORDS[NAMES.index(prompt.name)]
            if prompt.value not in words:
                raise PromptError(complain(f"value of the attribute {prompt.name}", prompt.value, ", ".join(words)))
            chances[NAMES.index(prompt.name)] = np.eye(len(words), dtype=np.float32)[words.index(prompt.value)]
        told = np.concatenate(chances)[None].astype(np.float32)
        full = on_image(state, expit(self.parts.decode(told, *maps)[0, 0].astype(np.float32)), window)
        used = {name: words[int(one.argmax())] for name, words, one in zip(NAMES, WORDS, chances)}
        edit = PromptSet(tuple(AttributePrompt(name, value, object_id) for name, value in used.items()))
        source = "given" if len({prompt.name for prompt in given}) == len(NAMES) else "predicted"
        info: dict[str, Any] = {"attributes": used, "source": source, "generated": json.dumps(edit.to_json()),
                                "reading": ", ".join(f"{name} {value}" for name, value in used.items())}
        if not (full >= 0.5).any():
            info["reason"] = f"nothing found under {info['reading']}"
        return ObjectPrediction(object_id, state.source, (0, 0, 0), full, None, 0.5, info)


class GatedInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        classes, window: see :class:`GatedPredictor`.
        overlap: owner of pixels claimed by several objects: ``last``, ``first`` or ``probability``.
    """

    def __init__(self, classes: Sequence[str] = ("pulmonary infection",), window: int = 160,
                 overlap: str = "last") -> None:
        Inferer.__init__(self)
        self.classes, self.window, self.overlap = tuple(classes), window, overlap

    def predictor(self, network: Any, name: str = "gated", engine: str = "torch") -> GatedPredictor:
        """The predictor around the parts of a plain or compiled network."""
        return GatedPredictor(network, self.classes, self.window, name, engine)

    def wrap(self, network: Any) -> GatedParts:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.eval().parameters()).device
        return GatedParts(lambda image: torch_call(network.image_encoder, place, image),
                          lambda embedding: torch_call(network.attributes, place, embedding),
                          lambda *inputs: torch_call(network.decode, place, *inputs)[0])

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: encoder, attribute heads, decoder."""
        image = torch.zeros(1, 1, self.window, self.window)
        with torch.inference_mode():
            maps = tuple(one.clone() for one in network.eval().image_encoder(image)[:3])
        chances = torch.full((1, sum(len(words) for words in WORDS)), 0.25)
        return {"image_encoder": Part(network.image_encoder, (image,), ()),
                "attributes": Part(Attributes(network).eval(), (maps[0],), ()),
                "decoder": Part(GatedDecoder(network).eval(), (chances, *maps), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> GatedParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return GatedParts(lambda image: compiled["image_encoder"](image),
                          lambda embedding: compiled["attributes"](embedding),
                          lambda *inputs: compiled["decoder"](*inputs)[0])
