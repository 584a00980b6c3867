"""Class prompts for networks that give all classes of a slice at once."""
from __future__ import annotations

import difflib
import time
from typing import Any, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from monai.inferers import Inferer
from scipy.special import softmax

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.zoom import BATCH
from promptzoo.prompts.types import PromptSet
from promptzoo.text.wording import read_wording

CT_LIMITS = (-500.0, 400.0)
"""Hounsfield units of black and white for whole slices: lungs and organs are both seen."""


def slice_window(shape: Sequence[int], spacing: Sequence[float], size: int, scale: Sequence[float] = (1.0, 1.0),
                 shift: Sequence[float] = (0.0, 0.0)) -> Window:
    """The square window of ``size`` pixels that holds a whole slice ``[*shape]`` of ``spacing``.

    Args:
        shape, spacing: of the slice.
        size: pixels per side.
        scale: factors of its sides.
        shift: of its centre, as a fraction of its sides.
    """
    extent = float((np.asarray(shape) * np.asarray(spacing)).max())
    sides = extent / np.asarray(spacing) * np.asarray(scale)
    centre = (np.asarray(shape) - 1) / 2 + np.asarray(shift) * sides
    return Window.around(centre, sides, (size, size))


def slice_view(image: np.ndarray, window: Window, hounsfield: bool) -> np.ndarray:
    """What the network sees of a slice ``[*N]``: ``[S, S]`` float32 in [-1, 1]."""
    seen = window.sample(image)
    return normalise(np.clip(seen, *CT_LIMITS) if hounsfield else seen)


class ClassPredictor:
    """Answers class and text prompts on images and, slice by slice, on volumes; one pass per slice gives all classes.

    Args:
        network: windows ``[B, 1, S, S]`` to logits ``[B, 1 + C, S/4, S/4]``.
        classes: names, in the order of the network's channels after the background.
        window: S.
        name, engine: for the answer.
    """

    prompt_kinds = frozenset({"class", "text"})
    ahead_part = "network"
    """The part that :meth:`ahead` asks; see :func:`promptzoo.inference.kept.keep_ahead`."""

    def __init__(self, network: Any, classes: Sequence[str], window: int = 256, name: str = "classes",
                 engine: str = "torch") -> None:
        self.network, self.classes, self.window = network, tuple(classes), window
        self.name, self.engine, self.dimensions = name, engine, 2
        self._known: WeakKeyDictionary[EncodedImage, Sequence[Any]] = WeakKeyDictionary()

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object, of the classes that its prompts name; several classes of one object are joined.

        Args:
            state: result of :meth:`encode`.
            prompts: class and text prompts; what a text leaves out is cut out of its object.
            previous: not used: the answer depends on image and classes alone.

        Raises:
            PromptError: for other kinds of prompt and for classes that the network does not know.
            UnclearTextError: for text that is not understood, or means nothing that the network knows.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        asked = [self._asked(info.object_id, prompts.for_object(info.object_id)) for info in prompts.objects]
        logits = self._logits(state) if asked else None
        answers = tuple(self._answer(state, *one, logits) for one in asked)
        return Prediction(state.source, answers, time.perf_counter() - started, self.engine)

    def _asked(self, object_id: int, prompts: PromptSet) -> tuple[int, list[int], list[int], str]:
        """Object, channels that are wanted, channels that are cut out, and a note on how texts were read."""
        read = [read_wording(prompt.text, self.classes) for prompt in prompts.of("text")]
        wanted = [self.channel(p.name) for p in prompts.of("class")]
        wanted += [self.channel(name) for wording in read for name in wording.classes]
        cut = [self.channel(name) for wording in read for name in wording.without]
        return object_id, list(dict.fromkeys(wanted)), cut, "; ".join(w.note for w in read if w.note)

    def channel(self, name: str) -> int:
        """The network's channel of a class.

        Raises:
            PromptError: if it has none, with the names that it knows.
        """
        wanted = " ".join(name.lower().replace("_", " ").split())
        if wanted not in self.classes:
            near = difflib.get_close_matches(wanted, self.classes, n=2, cutoff=0.6)
            raise PromptError(complain(f"class for {self.name}", name, ", ".join(self.classes),
                                       f"Did you mean {' or '.join(near)}?" if near else ""))
        return 1 + self.classes.index(wanted)

    def _slices(self, state: EncodedImage) -> tuple[int, Window]:
        axis = int(np.argmin(state.data.shape)) if state.canonical.is_2d else 2
        shape = np.delete(state.data.shape, axis)
        return axis, slice_window(shape, np.delete(state.canonical.spacing_mm, axis), self.window)

    def ahead(self, state: EncodedImage) -> Iterator[None]:
        """Compute all classes of all slices, some slices per step; nothing if that was done."""
        if state in self._known:
            return
        axis, window = self._slices(state)
        count, found = state.data.shape[axis], []
        for start in range(0, count, BATCH):
            views = [slice_view(np.take(state.data, k, axis), window, state.hounsfield)[None]
                     for k in range(start, min(start + BATCH, count))]
            found += self._seen(np.stack(views))
            yield
        self._known[state] = found

    def _seen(self, views: np.ndarray) -> list[Any]:
        """What is kept of each of some slices ``[B, 1, S, S]``: logits ``[1 + C, S/4, S/4]`` float16."""
        return list(np.asarray(self.network(views), np.float16))

    def _chance(self, values: Any, channels: Sequence[int], cut: Sequence[int]) -> np.ndarray:
        """Probability ``[S/4, S/4]`` of some channels together, from what is kept of a slice; 0 where ``cut`` wins."""
        each = softmax(values.astype(np.float32), 0)
        chance = each[list(channels)].sum(0)
        return np.where(each[list(cut)].sum(0) > chance, 0, chance) if cut else chance

    def _logits(self, state: EncodedImage) -> Sequence[Any]:
        """What is kept of the slices, as long as the encoded image is."""
        for _ in self.ahead(state):
            pass
        return self._known[state]

    def _answer(self, state: EncodedImage, object_id: int, channels: Sequence[int], cut: Sequence[int], note: str,
                logits: Sequence[Any] | None) -> ObjectPrediction:
        axis, window = self._slices(state)
        full = np.zeros(state.data.shape, np.float32)
        shape = np.delete(state.data.shape, axis)
        for k, values in enumerate(logits if logits is not None else ()):
            chance = self._chance(values, channels, cut)
            if chance.max() < 0.01:
                continue
            factor = self.window // chance.shape[0]
            coarse = Window(tuple(np.asarray(window.origin) + np.asarray(window.step) * (factor - 1) / 2),
                            tuple(np.asarray(window.step) * factor), chance.shape)
            offset, region = coarse.restore(chance, shape)
            np.moveaxis(full, axis, 0)[k][tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
        names = [self.classes[c - 1] for c in channels]
        info: dict[str, Any] = {"classes": names, **({"reading": note} if note else {})}
        if not (full >= 0.5).any():
            info["reason"] = f"not found: {', '.join(names)}"
        return ObjectPrediction(object_id, state.source, (0, 0, 0),
                                np.ascontiguousarray(state.move.inverse_array(full)), None, 0.5, info)


class ClassInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        classes: names of the classes.
        window: side of the network's window.
        overlap: owner of voxels claimed by several objects: ``last``, ``first`` or ``probability``.
    """

    def __init__(self, classes: Sequence[str], window: int = 256, overlap: str = "probability") -> None:
        Inferer.__init__(self)
        self.classes, self.window, self.overlap = tuple(classes), window, overlap

    def predictor(self, network: Any, name: str = "classes", engine: str = "torch") -> ClassPredictor:
        """The predictor around a plain or compiled network."""
        return ClassPredictor(network, self.classes, self.window, name, engine)

    def wrap(self, network: Any) -> Any:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.parameters()).device

        def call(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return network.eval()(torch.from_numpy(images).to(place)).float().cpu().numpy()

        return call

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: the network."""
        return {"network": Part(network.eval(), (torch.zeros(1, 1, self.window, self.window),), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> Any:
        """The compiled network as what :meth:`predictor` takes."""
        return lambda images: compiled["network"](images)[0]
