"""What a bundle says of an image that nobody labelled: how sure it is, how its answers differ, what it looks like."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Callable, Generator, Mapping

import numpy as np

from promptzoo.active_learning.places import Place
from promptzoo.core.protocols import Predictor
from promptzoo.core.volume import Volume
from promptzoo.evaluation.metrics import dice

VIEWS = 4
"""Boxes that are asked with, each moved a little."""
SUPPORT = 0.05
"""Pixels below this mean probability do not count for the entropy."""
Embed = Callable[[Volume], np.ndarray]


@dataclass(frozen=True)
class Seen:
    """What was seen of one structure.

    Args:
        entropy: mean binary entropy in bits of the mean probability, where it is at least :data:`SUPPORT`.
        disagreement: 1 minus the mean Dice between the answers to moved boxes.
        estimated_dice: mean estimate of the bundle; None if it has none.
        found: share of the answers with a mask.
        doubt: mean of |probability − mask|, the size of the output gradient under the bundle's own mask.
    """

    entropy: float
    disagreement: float
    estimated_dice: float | None
    found: float
    doubt: float


@dataclass(frozen=True, eq=False)
class Scored:
    """An image with its scores.

    Args:
        image: its id.
        seen: by structure.
        embedding: ``[D]`` float32 of length 1.
    """

    image: str
    seen: Mapping[str, Seen]
    embedding: np.ndarray

    def mean(self, name: str) -> float:
        """Mean of a field of :class:`Seen` over the structures."""
        return float(np.mean([getattr(one, name) for one in self.seen.values()]))

    @property
    def estimated_dice(self) -> float:
        """Mean estimate over the structures; 1 minus the disagreement where the bundle has none."""
        return float(np.mean([1 - one.disagreement if one.estimated_dice is None else one.estimated_dice
                              for one in self.seen.values()]))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"image": self.image, "seen": {name: asdict(one) for name, one in self.seen.items()},
                "embedding": np.round(self.embedding.astype(float), 5).tolist()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Scored":
        """Inverse of :meth:`to_json`."""
        return cls(told["image"], {name: Seen(**one) for name, one in told["seen"].items()},
                   np.asarray(told["embedding"], np.float32))


def scoring(image: str, volume: Volume, predictor: Predictor, dimensions: int, places: Mapping[str, Place],
            embed: Embed, rng: np.random.Generator, state: Any = None) -> Generator[None, None, Scored]:
    """Score an image by asking for each structure where it usually lies, with boxes that are moved a little.

    It is a generator, so that others can use the device between its steps; see :func:`score`.

    Args:
        image: its id.
        volume: the image.
        predictor: a bundle that takes boxes.
        dimensions: of the bundle.
        places: where the structures usually lie.
        embed: image to a vector.
        rng: moves the boxes.
        state: the encoded image, if there is one.

    Returns:
        The scores, as the value of the generator.
    """
    state = predictor.encode(volume) if state is None else state
    seen = {}
    for name, place in places.items():
        answers = []
        for _ in range(VIEWS):
            yield
            answers.append(predictor.decode(state, place.prompt(volume.grid, dimensions, rng)).objects[0])
        chances = np.stack([answer.full_probability() for answer in answers])
        mean, masks = chances.mean(0), [answer.mask for answer in answers]
        area = mean >= SUPPORT
        p = np.clip(mean[area], 1e-6, 1 - 1e-6)
        entropy = float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()) if p.size else 0.0
        pairs = [dice(a, b) if a.any() or b.any() else 1.0 for a, b in combinations(masks, 2)]
        told = [answer.estimated_dice for answer in answers if answer.estimated_dice is not None]
        seen[name] = Seen(round(entropy, 5), round(1 - float(np.mean(pairs)), 5),
                          round(float(np.mean(told)), 5) if told else None,
                          float(np.mean([mask.any() for mask in masks])),
                          round(float(np.abs(p - (p >= 0.5)).mean()) if p.size else 0.0, 5))
    yield
    return Scored(image, seen, embed(volume))


def score(*arguments: Any, **named: Any) -> Scored:
    """All steps of :func:`scoring`, which see."""
    steps = scoring(*arguments, **named)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def encoder_embedding(encode: Callable[[np.ndarray], Any], side: int) -> Embed:
    """Mean and spread over the pixels of an image encoder's coarsest map of the middle slice, as a unit vector.

    Args:
        encode: ``[1, 1, side, side]`` float32 in [-1, 1] to maps ``[1, C, h, w]``, the coarsest first.
        side: pixels that it takes.
    """
    from promptzoo.inference.resample import Window, normalise

    def embed(volume: Volume) -> np.ndarray:
        move = volume.grid.orientation
        data, axis = move.array(volume.data), acquisition(volume)
        flat = data.take(data.shape[axis] // 2, axis)
        window = Window.around((np.asarray(flat.shape) - 1) / 2, np.full(2, float(max(flat.shape))), (side, side))
        told = encode(normalise(window.sample(flat))[None, None].astype(np.float32))
        pixels = np.asarray(told[0], np.float32)[0].reshape(np.asarray(told[0]).shape[1], -1)
        vector = np.concatenate([pixels.mean(1), pixels.std(1)])
        return vector / max(float(np.linalg.norm(vector)), 1e-9)

    return embed


def acquisition(volume: Volume) -> int:
    """The slice axis of a volume in canonical order."""
    from promptzoo.evaluation.datalist import acquisition_axis

    return acquisition_axis(volume.grid.orientation.grid(volume.grid))
