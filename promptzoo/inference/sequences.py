"""Several sequences of one slice, stacked in one image, as the input of one network."""
from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from scipy.special import expit

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.inference.classes import ClassInferer, ClassPredictor, slice_view
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage

Call = Callable[[np.ndarray], np.ndarray]
FLAT = 1e-6
"""A sequence whose intensities spread no more than this is missing."""


class SequencePredictor(ClassPredictor):
    """Answers a class prompt on a slice that is given in several sequences: the image's slices, in a fixed order.

    A sequence that is missing is a slice of one value, or is left out at the end. The mask comes back on every slice.

    Args:
        fill: ``[1, C, S, S]`` to the same with something in the place of what is missing.
        network: ``[1, C, S, S]`` to logits ``[1, 1, S, S]``.
        sequences: names, in the order of the slices.
        classes: name of the one structure.
        side: S.
        name, engine: for the answer.
    """

    prompt_kinds = frozenset({"class"})

    def __init__(self, fill: Call, network: Call, sequences: Sequence[str], classes: Sequence[str], side: int,
                 name: str = "sequences", engine: str = "torch") -> None:
        super().__init__(network, classes, side, name, engine)
        self.fill, self.sequences = fill, tuple(sequences)

    def _slices(self, state: EncodedImage) -> tuple[int, Window]:
        axis, window = super()._slices(state)
        count = state.data.shape[axis]
        if count > len(self.sequences):
            raise PromptError(complain(f"sequences for {self.name}", f"{count} slices",
                                       f"at most {len(self.sequences)}: {', '.join(self.sequences)}",
                                       "Stack the sequences of one slice, in this order"))
        return axis, window

    def views(self, state: EncodedImage) -> tuple[np.ndarray, list[str]]:
        """Sequences ``[C, S, S]`` in [-1, 1] as the network wants them, 0 where one is missing; the names of these."""
        axis, window = self._slices(state)
        index = int(np.argmin(state.source.shape))
        numbers = np.arange(state.source.shape[index]).reshape([-1 if a == index else 1 for a in range(3)])
        order = state.move.array(np.ascontiguousarray(np.broadcast_to(numbers, state.source.shape)))
        found, missing = np.zeros((len(self.sequences), self.window, self.window), np.float32), set(self.sequences)
        for k in range(state.data.shape[axis]):
            image = np.take(state.data, k, axis)
            own = int(np.take(order, k, axis).flat[0])
            if np.ptp(image) > FLAT:
                found[own] = slice_view(image, window, False)
                missing.discard(self.sequences[own])
        return found, [name for name in self.sequences if name in missing]

    def ahead(self, state: EncodedImage) -> Iterator[None]:
        """One pass for all sequences; nothing if that was done."""
        if state not in self._known:
            logits = self.network(self.fill(self.views(state)[0][None]))[0]
            self._known[state] = [logits] * state.data.shape[self._slices(state)[0]]
            yield

    def _chance(self, values: Any, channels: Sequence[int], cut: Sequence[int]) -> np.ndarray:
        return expit(np.asarray(values[0], np.float32))

    def _answer(self, state: EncodedImage, object_id: int, channels: Sequence[int], cut: Sequence[int], note: str,
                logits: Sequence[Any] | None) -> ObjectPrediction:
        answer = super()._answer(state, object_id, channels, cut, note, logits)
        answer.info["missing"] = self.views(state)[1]
        return answer


class SequenceInferer(ClassInferer):
    """The predictor as a MONAI inferer.

    Args:
        sequences, classes, side: see :class:`SequencePredictor`.
        overlap: owner of voxels claimed by several objects.
    """

    def __init__(self, sequences: Sequence[str], classes: Sequence[str], side: int = 96,
                 overlap: str = "probability") -> None:
        super().__init__(classes, side, overlap)
        self.sequences = tuple(sequences)
        self._fill: Call = lambda image: image

    def predictor(self, network: Call, name: str = "sequences", engine: str = "torch") -> SequencePredictor:
        """The predictor around a plain or compiled network, with what :meth:`wrap` or :meth:`parts` saw filling in."""
        return SequencePredictor(self._fill, network, self.sequences, self.classes, self.window, name, engine)

    def wrap(self, network: Any) -> Call:
        """A torch network as what :meth:`predictor` takes."""
        self._fill = _call(network.filled, network)
        return _call(network.segment, network)

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: the segmenter. What fills in is tiny and stays in torch."""
        self._fill = _call(network.filled, network)
        image = torch.zeros(1, len(self.sequences), self.window, self.window)
        return {"network": Part(Segment(network).eval(), (image,), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> Call:
        """The compiled segmenter as what :meth:`predictor` takes."""
        return lambda images: compiled["network"](images)[0]


class Segment(torch.nn.Module):
    """The segmenter of a :class:`promptzoo.networks.sequence_unetr.SequenceUnetr`, without what fills in."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Sequences to logits."""
        return self.network.segment(image)


def _call(function: Callable[[torch.Tensor], torch.Tensor], network: torch.nn.Module) -> Call:
    """A method of a torch network on arrays."""
    def call(images: np.ndarray) -> np.ndarray:
        network.eval()
        with torch.inference_mode():
            return function(torch.from_numpy(images).to(next(network.parameters()).device)).float().cpu().numpy()

    return call
