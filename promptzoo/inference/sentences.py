"""Sentences as prompts: what a report says of where opacities are, given by a person or retrieved from a bank."""
from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from monai.inferers import Inferer
from scipy.special import expit

from promptzoo.core.errors import BundleError, PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import ObjectInfo, PromptSet, TextPrompt
from promptzoo.text.ngrams import bags
from promptzoo.text.reports import Report, bank, check_sentence, clause_bank, from_attributes, sides_of, words_of

SOURCES = ("retrieved", "given")
Maps = Sequence[np.ndarray]


def check_flat(state: EncodedImage, name: str) -> None:
    """Raise PromptError for a volume: the bundle ``name`` sees one image."""
    if not state.canonical.is_2d:
        raise PromptError(complain(f"image for {name}", f"{state.source.shape} voxels", "one frontal radiograph",
                                   "Give one slice, or a bundle for volumes"))


def frontal(state: EncodedImage, size: int) -> tuple[Window, np.ndarray]:
    """The window that holds an image of one slice, and what the network sees, ``[size, size]``: the first axis grows to
    the patient's right, the second to the head (in pictures: to the top)."""
    axis = int(np.argmin(state.data.shape))
    image = np.take(state.data, 0, axis)
    window = slice_window(image.shape, np.delete(state.canonical.spacing_mm, axis), size)
    return window, slice_view(image, window, False)


def on_image(state: EncodedImage, chance: np.ndarray, window: Window) -> np.ndarray:
    """Probabilities ``[N, N]`` over a window as an array on the image's own grid, float32."""
    factor = window.shape[0] // chance.shape[0]
    coarse = Window(tuple(np.asarray(window.origin) + np.asarray(window.step) * (factor - 1) / 2),
                    tuple(np.asarray(window.step) * factor), chance.shape)
    full = np.zeros(state.data.shape, np.float32)
    plane = np.moveaxis(full, int(np.argmin(full.shape)), 0)[0]
    offset, region = coarse.restore(chance, plane.shape)
    plane[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
    return np.ascontiguousarray(state.move.inverse_array(full))


def torch_call(function: Callable[..., Any], place: torch.device, *inputs: np.ndarray) -> list[np.ndarray]:
    """The outputs of a torch function on arrays, as arrays."""
    with torch.inference_mode():
        found = function(*(torch.from_numpy(np.ascontiguousarray(one)).to(place) for one in inputs))
    return [one.float().cpu().numpy() for one in (found if isinstance(found, tuple) else (found,))]


class BankScores(torch.nn.Module):
    """How well each report of the bank fits an image: the sum over the scales of its clauses' log-probabilities.

    Args:
        network: a :class:`promptzoo.networks.text_guided.TextGuided`.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        scales, index = clause_bank()
        self.network = network
        self.register_buffer("index", torch.tensor(index))
        for n, clauses in enumerate(scales):
            told = bags([words_of(clause) for clause in clauses], network.length, network.buckets)
            place = next(network.parameters()).device
            with torch.no_grad():
                self.register_buffer(f"clauses{n}", network.clauses(torch.from_numpy(told).to(place)))

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Encoder maps to ``[B, reports of the bank]``."""
        seen = self.network.seen(*maps)
        chances = [(seen[:, n] @ getattr(self, f"clauses{n}").T).log_softmax(1) for n in range(3)]
        return sum(chance[:, self.index[:, n]] for n, chance in enumerate(chances))  # type: ignore[return-value]


class Decoder(torch.nn.Module):
    """The part of the network that a new sentence runs again.

    Args:
        network: a :class:`promptzoo.networks.text_guided.TextGuided`.
        progressive: see :class:`SentencePredictor`.
    """

    def __init__(self, network: Any, progressive: bool = False) -> None:
        super().__init__()
        self.network, self.progressive = network, progressive

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Bags of n-grams (coarse and whole, if progressive) and encoder maps to logits."""
        return self.network.progress(*inputs) if self.progressive else self.network.decode(*inputs)


@dataclass(frozen=True)
class SentenceParts:
    """The network as plain functions of arrays.

    Args:
        encode: ``[1, 1, S, S]`` to the maps of the encoder.
        decode: bags ``[1, L, buckets]`` (two if progressive) and three maps to logits ``[1, 1, S/2, S/2]``.
        score: three maps to ``[1, reports of the bank]``.
    """

    encode: Callable[..., Maps]
    decode: Callable[..., np.ndarray]
    score: Callable[..., np.ndarray]


class SentencePredictor:
    """Answers sentences and attributes on frontal radiographs; without any, with a sentence that it retrieves.

    Args:
        parts: the network.
        classes: names of the class prompts that ask for the retrieved sentence.
        window: side in pixels of what the network sees.
        length, buckets: of the bags of n-grams.
        source: ``retrieved`` (without text a sentence is retrieved) or ``given`` (text is needed; a class is taken as
            the text of its name, which names no place).
        progressive: whether the coarsest scale is told the sides alone, and the next one the whole sentence.
        name, engine: for the answer.
    """

    prompt_kinds = frozenset({"class", "text", "attribute"})

    def __init__(self, parts: SentenceParts, classes: Sequence[str], window: int, length: int, buckets: int,
                 source: str = "retrieved", name: str = "sentences", engine: str = "torch", progressive: bool = False
                 ) -> None:
        self.parts, self.classes, self.window, self.source = parts, tuple(classes), window, source
        self.length, self.buckets, self.progressive = length, buckets, progressive
        self.name, self.engine, self.dimensions = name, engine, 2
        self._known: WeakKeyDictionary[EncodedImage, tuple[Window, Maps, Report]] = WeakKeyDictionary()

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object.

        The sentence used is in ``info["sentence"]``, where it came from in ``info["source"]`` (``given``,
        ``attributes`` or ``retrieved``); one that nobody typed is in ``info["generated"]``, too, as the JSON of a
        prompt set to edit and to give back. An empty prompt set asks for the retrieved sentence. A new sentence costs a
        pass of the decoder; the image is encoded once.

        Args:
            state: result of :meth:`encode`.
            prompts: text, attribute and class prompts.
            previous: not used.

        Raises:
            PromptError: for a volume, other kinds of prompt, unknown classes, attributes or values; without text or
                attributes if ``source`` is ``given``.
            UnclearTextError: for a text that says nothing of opacities or places.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        check_flat(state, self.name)
        asked = prompts.objects or ((ObjectInfo(1),) if self.source == "retrieved" else ())
        told = [(info.object_id, *self._sentence(state, prompts.for_object(info.object_id) if prompts.objects
                                                 else prompts)) for info in asked]
        answers = tuple(self._answer(state, *one) for one in told)
        return Prediction(state.source, answers, time.perf_counter() - started, self.engine)

    def retrieved(self, state: EncodedImage) -> Report:
        """The report of the bank that fits an image best."""
        return self._seen(state)[2]

    def _seen(self, state: EncodedImage) -> tuple[Window, Maps, Report]:
        """Window, encoder maps and retrieved report of an image, kept as long as the encoded image."""
        if state not in self._known:
            window, view = frontal(state, self.window)
            maps = list(self.parts.encode(view[None, None]))[:3]
            self._known[state] = window, maps, bank()[int(np.argmax(self.parts.score(*maps)[0]))]
        return self._known[state]

    def _sentence(self, state: EncodedImage, prompts: PromptSet) -> tuple[str, str]:
        """The sentence for one object, and where it comes from."""
        for prompt in prompts.of("class"):
            if prompt.name.strip().lower() not in self.classes:
                raise PromptError(complain(f"class for {self.name}", prompt.name, ", ".join(self.classes)))
        texts = [prompt.text.strip() for prompt in prompts.of("text")]
        for text in texts:
            check_sentence(text)
        wanted = {prompt.name: prompt.value for prompt in prompts.of("attribute")}
        if texts:
            return ", ".join([*texts, *([from_attributes(wanted).sentence] if wanted else [])]), "given"
        if wanted:
            start = self.retrieved(state) if self.source == "retrieved" else None
            return from_attributes(wanted, start).sentence, "attributes"
        if self.source == "given" and prompts.of("class"):
            return prompts.of("class")[0].name, "given"
        if self.source == "given":
            raise PromptError(complain(f"prompt for {self.name}", "no text", "a sentence or attributes",
                                       "Say where the opacities are: upper left lung"))
        return self.retrieved(state).sentence, "retrieved"

    def _answer(self, state: EncodedImage, object_id: int, sentence: str, source: str) -> ObjectPrediction:
        window, maps, _ = self._seen(state)
        told = [sides_of(sentence), sentence] if self.progressive else [sentence]
        given = [bags([words_of(one)], self.length, self.buckets) for one in told]
        chance = expit(self.parts.decode(*given, *maps)[0, 0].astype(np.float32))
        full = on_image(state, chance, window)
        info: dict[str, Any] = {"sentence": sentence, "source": source, **({"scales": told} if len(told) > 1 else {})}
        if source != "given":
            edit = PromptSet((TextPrompt(sentence, object_id),))
            info |= {"reading": f'{source}: "{sentence}"', "generated": json.dumps(edit.to_json())}
        if not (full >= 0.5).any():
            info["reason"] = f"nothing found for: {sentence}"
        return ObjectPrediction(object_id, state.source, (0, 0, 0), full, None, 0.5, info)


class SentenceInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        classes: see :class:`SentencePredictor`.
        window: side in pixels of what the network sees.
        source: ``retrieved`` or ``given``, see :class:`SentencePredictor`.
        length, buckets: of the bags of n-grams, as the network has them.
        overlap: owner of pixels claimed by several objects: ``last``, ``first`` or ``probability``.
        progressive: see :class:`SentencePredictor`.

    Raises:
        BundleError: for an unknown source.
    """

    def __init__(self, classes: Sequence[str] = ("pulmonary infection",), window: int = 160, source: str = "retrieved",
                 length: int = 24, buckets: int = 1024, overlap: str = "last", progressive: bool = False) -> None:
        Inferer.__init__(self)
        self.progressive = progressive
        if source not in SOURCES:
            raise BundleError(complain("source of sentences", source, ", ".join(SOURCES)))
        self.classes, self.window, self.source, self.overlap = tuple(classes), window, source, overlap
        self.length, self.buckets = length, buckets

    def predictor(self, network: Any, name: str = "sentences", engine: str = "torch") -> SentencePredictor:
        """The predictor around the parts of a plain or compiled network."""
        return SentencePredictor(network, self.classes, self.window, self.length, self.buckets, self.source, name,
                                 engine, self.progressive)

    def wrap(self, network: Any) -> SentenceParts:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.parameters()).device
        scores, decoder = BankScores(network.eval()).to(place), Decoder(network, self.progressive)
        return SentenceParts(lambda image: torch_call(network.image_encoder, place, image),
                             lambda *inputs: torch_call(decoder, place, *inputs)[0],
                             lambda *maps: torch_call(scores, place, *maps)[0])

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: encoder, decoder with words, retrieval."""
        image = torch.zeros(1, 1, self.window, self.window)
        with torch.inference_mode():
            maps = tuple(one.clone() for one in network.eval().image_encoder(image))
        words = torch.from_numpy(bags([["upper", "left", "lung"]], self.length, self.buckets))
        told = (words, words) if self.progressive else (words,)
        return {"image_encoder": Part(network.image_encoder, (image,), ()),
                "decoder": Part(Decoder(network, self.progressive).eval(), (*told, *maps[:3]), (0,)),
                "retrieval": Part(BankScores(network).eval(), maps[:3], ())}

    def assemble(self, compiled: Mapping[str, Any]) -> SentenceParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return SentenceParts(lambda image: compiled["image_encoder"](image),
                             lambda *inputs: compiled["decoder"](*inputs)[0],
                             lambda *maps: compiled["retrieval"](*maps)[0])
