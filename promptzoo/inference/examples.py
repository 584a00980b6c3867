"""Finished cases as a network sees them: windows of their slices, what is meant there, and which are worth showing."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.looks import bounds
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.reference_cases import Plane, largest_plane, plane_of
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.through import prompted_slices, slice_axis
from promptzoo.prompts.encoders.context import context_maps
from promptzoo.prompts.types import PromptSet

CROP_OBJECTS = 6.0
"""Side of a crop over the side of a square as large as a typical object."""
SELECTORS = ("meta", "nearest", "random", "first")
"""How examples are chosen where there are more than are shown: by the learned scores, by the likeness of the whole
images, at random, in the order in which they are given."""


@dataclass(frozen=True)
class ContextParts:
    """The network as plain functions of arrays.

    Args:
        encode: ``[1, 1, S, S]`` to the four maps of the encoder.
        decode: four maps and the prompts ``[1, 9, S, S]`` of a query, four maps and the prompts ``[N, 9, S, S]`` of
            its examples, to logits ``[1, 1, S/2, S/2]``.
        select: embedding of a query ``[N, …]`` repeated, embeddings and prompts of N examples, to scores ``[N, 1]``.
    """

    encode: Callable[..., Sequence[np.ndarray]]
    decode: Callable[..., np.ndarray]
    select: Callable[..., np.ndarray]


@dataclass(frozen=True)
class ContextSettings:
    """How a query is seen beside its examples.

    Args:
        window: side in pixels of what the network sees.
        most: examples shown at most.
        selector: one of :data:`SELECTORS`.
        margin: side of a window over the longest side of a structure that is seen from near by.
        second_look: whether a structure that is found is looked at again from near by, if it is small.
        crop: whether examples are small annotated crops: the query is seen in tiles of their scale.
        most_tiles: tiles at most; beyond, they are coarser than the crops.

    Raises:
        BundleError: for an unknown selector or a number that is not positive.
    """

    window: int = 128
    most: int = 16
    selector: str = "meta"
    margin: float = 2.0
    second_look: bool = True
    crop: bool = False
    most_tiles: int = 36

    def __post_init__(self) -> None:
        if self.selector not in SELECTORS or min(self.most, self.window, self.most_tiles) < 1 or self.margin < 1:
            raise BundleError(complain("settings of examples", [self.selector, self.most, self.window, self.margin],
                                       f"selector {', '.join(SELECTORS)}; positive numbers, a margin of 1 or more"))


@dataclass(frozen=True, eq=False)
class Example:
    """One slice of a finished case, and what is meant on it in its own indices."""

    name: str
    plane: Plane
    prompts: ObjectPrompts

    @classmethod
    def of(cls, name: str, volume: Volume, meant: np.ndarray | PromptSet, axis: int) -> "Example":
        """The slice with most of a mask, or the first that carries a prompt.

        Args:
            name: for the answer.
            volume: the image.
            meant: mask on its grid, or prompts.
            axis: of the slices of a volume, in canonical order.
        """
        nothing = np.zeros((0, 2))
        if not isinstance(meant, PromptSet):
            plane = largest_plane(volume, meant, axis)
            return cls(name, plane, ObjectPrompts(nothing, nothing, None, nothing, nothing,
                                                  prior=np.asarray(plane.mask, np.float32)))
        state = EncodedImage.of(volume)
        own = ObjectPrompts.of(meant, state.canonical)
        across = slice_axis(state.canonical, own)
        index = prompted_slices(own, across, state.data.shape[across])[0]
        return cls(name, plane_of(state, across, index), own.on_slice(across, index))

    @property
    def faces(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Lower and upper faces of the structure; None if they are not known."""
        if self.prompts.prior is not None:
            return bounds(self.prompts.prior >= 0.5)
        return self.prompts.box

    def window(self, size: int, margin: float = 0.0) -> Window:
        """All of the slice; with a margin, the structure from near by; with a negative one, a crop that holds a few
        objects of many."""
        if margin < 0:
            return near(self.plane, self._crop(), size, 1.0)
        return near(self.plane, self.faces, size, margin)

    def _crop(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Faces of the part with most objects, :data:`CROP_OBJECTS` typical ones wide; of all if they are few."""
        if self.prompts.prior is None:
            return self.faces
        labels, count = ndimage.label(self.prompts.prior >= 0.5)
        if not count:
            return None
        areas = np.bincount(labels.ravel())[1:]
        side = CROP_OBJECTS * float(np.sqrt(np.median(areas[areas >= 0.1 * areas.max()])))
        low, high = self.faces  # type: ignore[misc]
        if (high - low).max() <= side:
            middle, half = (low + high) / 2, 0.6 * (high - low).max()
            return middle - half, middle + half
        centres = np.zeros(labels.shape, np.float32)
        places = np.rint(ndimage.center_of_mass(labels > 0, labels, np.arange(1, count + 1))).astype(int)
        centres[tuple(places.T)] = 1
        crowded = ndimage.uniform_filter(centres, max(3, int(side)), mode="constant")
        middle = np.clip(np.array(np.unravel_index(int(crowded.argmax()), crowded.shape), float), side / 2 - 0.5,
                         np.maximum(np.asarray(labels.shape) - side / 2 - 0.5, side / 2 - 0.5))
        return middle - side / 2, middle + side / 2

    def shown(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Image ``[1, 1, S, S]`` and prompts ``[1, 9, S, S]`` in a window."""
        return view_of(self.plane, window), maps_of(self.prompts, window)


def near(plane: Plane, faces: tuple[np.ndarray, np.ndarray] | None, size: int, margin: float) -> Window:
    """A square window of ``size`` pixels on a slice: around faces, ``margin`` times as wide as they are far apart; all
    of the slice where either is missing, or where less would not do."""
    whole = slice_window(plane.image.shape, plane.spacing, size)
    if not margin or faces is None:
        return whole
    low, high = faces
    side = float(((high - low) * plane.spacing).max()) * margin
    limit = float((np.asarray(plane.image.shape) * plane.spacing).max())
    return whole if side >= limit else Window.around((low + high) / 2, side / plane.spacing, (size, size))


def view_of(plane: Plane, window: Window) -> np.ndarray:
    """What the network sees of a slice, ``[1, 1, S, S]``."""
    return slice_view(plane.image, window, plane.hounsfield)[None, None]


def maps_of(prompts: ObjectPrompts, window: Window) -> np.ndarray:
    """Prompts as the network is told them, ``[1, 9, S, S]``."""
    prior = None if prompts.prior is None else window.sample(prompts.prior)
    shape = (window.shape[0], window.shape[1])
    return context_maps(prompts.in_window(window, prior), shape)[None]


def chosen(selector: str, most: int, query: Sequence[np.ndarray], examples: Sequence[Sequence[np.ndarray]],
           shown: Sequence[np.ndarray], select: Callable[..., np.ndarray]) -> tuple[list[int], list[float]]:
    """Which examples to show, best first, and the score of each of all.

    Args:
        selector: one of :data:`SELECTORS`.
        most: examples at most.
        query: maps of the encoder.
        examples: maps of each example.
        shown: prompts of each, ``[1, 9, S, S]``.
        select: see :class:`ContextParts`.
    """
    count = len(examples)
    if selector == "meta":
        embeddings = np.concatenate([maps[0] for maps in examples])
        scores = select(np.repeat(query[0], count, 0), embeddings, np.concatenate(shown))[:, 0]
    elif selector == "nearest":
        flat = [maps[0].reshape(-1) / (np.linalg.norm(maps[0]) + 1e-6) for maps in (query, *examples)]
        scores = np.array([float(flat[0] @ one) for one in flat[1:]])
    elif selector == "random":
        scores = generator(count, int(abs(float(query[0].sum())) * 1000) % 2 ** 31).random(count)
    else:
        scores = -np.arange(count, dtype=float)
    order = np.argsort(-scores, kind="stable")[:most]
    return [int(n) for n in order], [float(one) for one in scores]
