"""Prompting networks with public weights: a slice is encoded once and kept, every prompt on it costs a decode.

Slices are shown to the network as to a reader (right of the patient on the left, front on top), prepared as its
authors do; see :mod:`promptzoo.networks.public.preprocess`.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch

from promptzoo.core.errors import ImageError, PromptError, complain
from promptzoo.core.protocols import Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.looks import Look, bounds
from promptzoo.inference.monai_inferer import Part
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import dice_of_iou
from promptzoo.inference.state import EncodedImage, StateCache
from promptzoo.inference.zoom import ZoomSettings
from promptzoo.networks.public.catalog import PublicWeights, get_public
from promptzoo.networks.public.preprocess import Frame, prepared, to_bytes
from promptzoo.networks.public.store import ready
from promptzoo.prompts.types import PromptSet

Arrays = Sequence[np.ndarray]
EVIDENCE = 8.0
"""Logit of a voxel that a mask to start from is sure of; networks were trained with their own logits to start from."""


@dataclass(frozen=True, eq=False)
class EncodedPicture:
    """What the encoder says of one image, and how the image lies in the network's.

    Args:
        parts: the encoder's outputs, with their batch axis.
        frame: see :class:`promptzoo.networks.public.preprocess.Frame`; None for cubes.
    """

    parts: tuple[np.ndarray, ...]
    frame: Frame | None = None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, eq=False)
class PublicParts:
    """A network with public weights as plain callables.

    Args:
        encode: image ``[1, C, *S]`` to the encoder's outputs.
        network: the torch network; its decoder always runs in torch, as the number of tokens varies.
    """

    encode: Callable[[np.ndarray], Arrays]
    network: Any

    @classmethod
    def of(cls, network: Any) -> "PublicParts":
        """Both halves in torch."""
        def encode(image: np.ndarray) -> Arrays:
            with torch.inference_mode():
                return [part.float().numpy() for part in network.image_encoder(torch.from_numpy(image))]

        return cls(encode, network)

    def decode(self, encoded: EncodedPicture, points: np.ndarray, labels: np.ndarray, mask: np.ndarray | None,
               candidates: bool) -> tuple[np.ndarray, float]:
        """The best mask's logits ``[*m]`` and its predicted IoU, for points ``[N, d]`` with labels ``[N]``."""
        told = [torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))[None] for x in (points, labels)]
        start = None if mask is None else torch.from_numpy(mask)[None, None]
        with torch.inference_mode():
            logits, ious = self.network.decode(*(torch.from_numpy(p) for p in encoded.parts), *told, start, candidates)
        best = int(ious[0].argmax())
        return logits[0, best].float().numpy(), float(ious[0, best])


class SliceSegmenter:
    """Segments one object on one slice.

    Args:
        parts: the network.
        weights: what its weights were trained for and how images are prepared.
        limit_bytes: most memory for encoded slices.
    """

    def __init__(self, parts: PublicParts, weights: PublicWeights, limit_bytes: int) -> None:
        self.parts, self.weights, self.encodings = parts, weights, StateCache(limit_bytes)

    def encoded(self, image: np.ndarray) -> EncodedPicture:
        """The encoding of a slice ``[u, v]`` of whole numbers 0 to 255, from memory if it was seen before."""
        picture = shown(image)

        def make() -> EncodedPicture:
            value, frame = prepared(picture, self.weights.preprocessing)
            return EncodedPicture(tuple(np.asarray(p) for p in self.parts.encode(value[None])), frame)

        return self.encodings.get((content_key(picture),), make)

    def many(self, image: np.ndarray, spacing: Sequence[float], objects: Sequence[ObjectPrompts],
             hounsfield: bool = False) -> list[Look]:
        """Segment several objects on one slice; they share its encoding."""
        return [self(image, spacing, prompts, hounsfield) for prompts in objects]

    def __call__(self, image: np.ndarray, spacing: Sequence[float], prompts: ObjectPrompts,
                 hounsfield: bool = False) -> Look:
        """Segment.

        Args:
            image: ``[u, v]`` whole numbers 0 to 255.
            spacing: not used: published networks see pixels.
            prompts: prompts of one object; not empty.
            hounsfield: not used, the image is windowed already.

        Returns:
            A look at the whole slice.
        """
        takes = self.weights.prompts
        box, points = prompts.box, np.concatenate([prompts.positive, prompts.negative])
        start = prompts.prior if "mask" in takes else None
        if box is None and not len(points):
            if prompts.prior is None or "box" not in takes:
                raise PromptError(complain(f"prompts for {self.weights.name}", "none on this slice", ", ".join(takes)))
            box = bounds(prompts.prior >= 0.5)  # a mask alone says little to SAM: its box goes with it
        encoded = self.encoded(image)
        frame, network = encoded.frame, self.parts.network
        corners = np.zeros((0, 2)) if box is None else np.array([box[0] + 0.5, box[1] - 0.5])  # first and last pixel
        places = np.concatenate([on_screen(points, image.shape), np.sort(on_screen(corners, image.shape), 0)])
        labels = np.concatenate([np.ones(len(prompts.positive)), np.zeros(len(prompts.negative)),
                                 [2.0, 3.0] if len(corners) else []])
        ambiguous = self.weights.multimask == "ambiguous" and len(places) == 1 and start is None
        low = None if start is None else frame.low_resolution(
            EVIDENCE * np.clip(2 * shown(start) - 1, -1, 1), network.mask_side)
        logits, iou = self.parts.decode(encoded, frame.places(places), labels, low,
                                        ambiguous or self.weights.multimask == "always")
        window = Window((0.0, 0.0), (1.0, 1.0), tuple(image.shape))
        return Look(window, np.ascontiguousarray(shown_back(frame.chance(logits))), dice_of_iou(iou),
                    (self.weights.name,))


def shown(image: np.ndarray) -> np.ndarray:
    """A slice ``[u, v]`` of canonical axes as a picture ``[row, column]``, see :mod:`promptzoo.data.planes`."""
    return np.ascontiguousarray(image[::-1, ::-1].T)


def shown_back(picture: np.ndarray) -> np.ndarray:
    """The inverse of :func:`shown`."""
    return picture.T[::-1, ::-1]


def on_screen(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Places ``[..., 2]`` of a slice ``[u, v]`` as (x, y) of its picture."""
    return np.asarray(shape) - 1.0 - points


def content_key(array: np.ndarray) -> str:
    """A short digest of an array's content and shape."""
    return hashlib.blake2b(array.tobytes() + repr(array.shape).encode(), digest_size=16).hexdigest()


class PublicPredictor(InteractivePredictor):
    """Predictor of a network with public weights.

    Args:
        weights: their description.
        segmenter: segments one object on one slice or volume.
        engine: name of the engine, for the answer.
    """

    def __init__(self, weights: PublicWeights, segmenter: Any, engine: str) -> None:
        super().__init__(segmenter, weights.dimensions, ZoomSettings(), None, weights.name, engine,
                         frozenset(weights.prompts), segmenter=segmenter)
        self.weights = weights

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image; a 2D network sees it in whole numbers from 0 to 255, a single slice is encoded at once.

        Raises:
            ImageError: for a 3D network and a single slice.
        """
        state = EncodedImage.of(volume)
        if self.dimensions == 3:
            if state.canonical.is_2d:
                raise ImageError(complain(f"image for {self.name}", "a single slice", "a volume"))
            return state
        how, data = self.weights.preprocessing, state.data
        picture = volume.meta.get("format") == "raster" and data.min() >= 0 and data.max() <= 255
        grey = np.rint(data) if picture else to_bytes(data, state.hounsfield, tuple(how["window_hu"]),
                                                      tuple(how["percentiles"]))
        state = replace(state, data=np.ascontiguousarray(grey, dtype=np.float32), hounsfield=False)
        if state.canonical.is_2d:
            self.segmenter.encoded(np.squeeze(state.data, int(np.argmin(state.data.shape))))
        return state

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """As :meth:`InteractivePredictor.decode`; without estimated Dice where the weights' own was not trained."""
        answer = super().decode(state, prompts, previous)
        if self.weights.estimates:
            return answer
        return replace(answer, objects=tuple(replace(o, estimated_dice=None) for o in answer.objects))


def load_public_predictor(name: str, engine: str = "auto", precision: str = "auto",
                          compile_engine: Callable[..., Any] | None = None, embedding_mb: int = 256) -> PublicPredictor:
    """Load public weights for prompting.

    Args:
        name: of the weights, see ``promptzoo weights list``.
        engine: of the image encoder: ``auto``, ``torch``, ``openvino`` …; without ``compile_engine`` torch.
        precision: of the image encoder; ``auto`` is fp32, as nothing was measured with these weights.
        compile_engine: :func:`promptzoo.engines.compile_module`, which this floor may not import.
        embedding_mb: most memory for encoded images.

    Returns:
        A predictor (contract 3).

    Raises:
        NotFoundError: for unknown weights, or a file that is not here; the message says how to get it.
        BundleError: for a damaged or foreign file.
        EngineError: for an unknown engine or precision.
    """
    from promptzoo.networks.public.loading import load_public

    weights = get_public(name)
    network = load_public(weights, ready(weights))
    told = "torch fp32"
    parts = PublicParts.of(network)
    if compile_engine is not None and (engine != "torch" or precision not in ("auto", "fp32")):
        part = example_part(network, weights.preprocessing, weights.dimensions)
        compiled = compile_engine(part.module, part.example, engine=engine, precision=precision,
                                  mask_outputs=part.masks, key=f"{weights.name}-image_encoder")
        parts, told = PublicParts(lambda image: compiled(image), network), f"{compiled.name} {compiled.precision}"
    return predictor_of(weights, parts, told, embedding_mb)


def predictor_of(weights: PublicWeights, parts: PublicParts, engine: str = "torch fp32",
                 embedding_mb: int = 256) -> PublicPredictor:
    """The predictor around a network that is loaded already; see :func:`load_public_predictor`."""
    if weights.dimensions == 3:
        from promptzoo.inference.public_sam3d import CubeSegmenter

        return PublicPredictor(weights, CubeSegmenter(parts, weights, embedding_mb << 20), engine)
    return PublicPredictor(weights, SliceSegmenter(parts, weights, embedding_mb << 20), engine)


def example_part(network: Any, how: Mapping[str, Any], dimensions: int) -> Part:
    """The image encoder as what an engine compiles."""
    channels = 3 if dimensions == 2 else 1
    return Part(network.image_encoder.eval(), (torch.zeros(1, channels, *(how["size"],) * dimensions),), ())
