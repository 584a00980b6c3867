"""Episodes: some images of one task, each in turn the query and the finished case of the others."""
from __future__ import annotations

from typing import Mapping

import numpy as np
import torch
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.inference.looks import bounds
from promptzoo.inference.resample import Window
from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS, context_maps
from promptzoo.prompts.simulators.clicks import depth
from promptzoo.training.episode_sources import KINDS, Shown, Sources, task

ZOOMED, MARGINS = 0.45, (1.3, 3.5)
"""Share of the episodes that look at the structure from near by, and by how much wider than it the window is then."""
SHOWN_AS = {"mask": 0.6, "box": 0.14, "click": 0.14, "scribble": 0.12}
ASKED_AS = {"": 0.6, "box": 0.2, "click": 0.2}
_NONE = np.zeros((0, 2), np.float32)


class Episodes(Dataset):
    """Item ``n`` is always the same episode.

    Args:
        length: number of items.
        tasks: different tasks; later items show them again, turned, framed and told in another way.
        images: per episode.
        size: side of the images in pixels.
        kinds: shares of the kinds of task, see :data:`promptzoo.training.episode_sources.KINDS`.
        seed: of the dataset; different seeds share no task.
        spread: see :class:`promptzoo.training.episode_sources.Sources`.

    Raises:
        PromptZooError: for an empty dataset, fewer than two images, or unknown kinds.
    """

    def __init__(self, length: int, tasks: int = 1200, images: int = 4, size: int = 128,
                 kinds: Mapping[str, float] | None = None, seed: int = 0, spread: float = 1.0) -> None:
        self.kinds = dict(kinds or {"shapes": 0.5, "nuclei": 0.12, "studies": 0.16, "organs": 0.22})
        if length < 1 or tasks < 1 or images < 2 or set(self.kinds) - set(KINDS):
            raise PromptZooError(complain("episodes", [length, tasks, images, list(self.kinds)],
                                          f"at least 1 item, 1 task, 2 images; kinds {', '.join(KINDS)}"))
        self.length, self.tasks, self.images, self.size, self.seed = length, tasks, images, size, seed
        self.spread = spread
        self._sources: Sources | None = None
        self._known: dict[int, list[Shown]] = {}

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """One episode.

        Returns:
            ``image`` ``[K, 1, S, S]`` float32 in [-1, 1]; ``label`` ``[K, 1, S, S]`` bool; ``shown`` and ``asked``
            ``[K, 9, S, S]`` float32, how each image is told as a finished case, and what its user says when it is the
            query (mostly nothing).

        Raises:
            IndexError: beyond the last episode.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"episode {index} of {self.length}")
        rng = generator(self.seed, index, 0xE915)
        found = framed_all(self._task(index % self.tasks), rng, self.size)
        how = str(rng.choice(list(SHOWN_AS), p=list(SHOWN_AS.values())))
        asked_how = str(rng.choice(list(ASKED_AS), p=list(ASKED_AS.values())))
        shown = [told(mask, how, rng) for _, mask in found]
        asked = [told(mask, asked_how, rng) for _, mask in found]
        return {"image": torch.from_numpy(np.stack([image for image, _ in found])[:, None].astype(np.float32)),
                "label": torch.from_numpy(np.stack([mask for _, mask in found])[:, None]),
                "shown": torch.from_numpy(np.stack(shown)), "asked": torch.from_numpy(np.stack(asked))}

    def _task(self, number: int) -> list[Shown]:
        """The images of a task, kept in 8 bits."""
        if number not in self._known:
            self._sources = self._sources or Sources(self.seed, self.size, spread=self.spread)
            drawn = task(self._sources, self.kinds, self.seed, number, self.images)
            self._known[number] = [(np.rint((image + 1) * 127.5).astype(np.uint8), mask) for image, mask in drawn]
        return [(image.astype(np.float32) / 127.5 - 1, mask) for image, mask in self._known[number]]


def framed_all(found: list[Shown], rng: np.random.Generator, size: int) -> list[Shown]:
    """The images of an episode at ``size`` pixels: whole or near the structure, turned alike, each varied a little."""
    near = rng.random() < ZOOMED
    margin, flips, swap = rng.uniform(*MARGINS), rng.random(2) < 0.5, rng.random() < 0.5
    result = []
    for image, mask in found:
        image, mask = _framed(image, mask, margin if near else 0.0, rng, size)
        image, mask = (np.flip(one, tuple(np.flatnonzero(flips))) for one in (image, mask))
        image, mask = (image.T, mask.T) if swap else (image, mask)
        value = np.clip((image + 1) / 2, 0, 1) ** np.exp(rng.normal(0, 0.15)) * 2 - 1
        value = value * rng.uniform(0.85, 1.0) + rng.normal(0, 0.04)
        value = value + rng.standard_normal(value.shape) * rng.uniform(0, 0.06)
        result.append((np.clip(value, -1, 1).astype(np.float32), np.ascontiguousarray(mask)))
    return result


def _framed(image: np.ndarray, mask: np.ndarray, margin: float, rng: np.random.Generator, size: int) -> Shown:
    """An image through a window around its structure, or, with ``margin`` 0, around all of it."""
    shape, found = np.asarray(image.shape, float), bounds(mask)
    whole = shape.max()
    side, centre = whole * np.exp(rng.normal(0, 0.06)), (shape - 1) / 2
    if margin and found is not None:
        low, high = found
        side = np.clip((high - low).max() * margin * np.exp(rng.normal(0, 0.08)), whole / 5, whole)
        centre = (low + high) / 2 + rng.normal(0, 0.06, 2) * side
    else:
        centre = centre + rng.normal(0, 0.03, 2) * whole
    window = Window.around(centre, (side, side), (size, size))
    return window.sample(image), window.sample(mask.astype(np.float32)) >= 0.5


def told(mask: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """What a person gives of a mask ``[S, S]``: channels ``[9, S, S]``, see :data:`CONTEXT_CHANNELS`.

    Args:
        mask: of the structure.
        how: ``mask``, ``box``, ``click`` (one to three inside, up to two outside), ``scribble``, or nothing.
        rng: of all draws.
    """
    if not how or not mask.any():
        return np.zeros((len(CONTEXT_CHANNELS), *mask.shape), np.float32)
    if how == "mask":
        return context_maps(WindowPrompts(2, previous=mask.astype(np.float32)), mask.shape)
    if how == "box":
        low, high = bounds(mask)  # type: ignore[misc]
        loose = rng.normal(0, 0.03, (2, 2)) * (high - low)
        return context_maps(WindowPrompts(2, box=(low + loose[0], high + loose[1])), mask.shape)
    inside = _deep(mask, int(rng.integers(1, 4)), rng)
    outside = _deep(~mask, int(rng.integers(0, 3)), rng)
    if how == "click":
        return context_maps(WindowPrompts(2, inside, outside), mask.shape)
    strokes = [np.argwhere(region & (np.arange(len(mask)) == int(at[0, 0]))[:, None]) if len(at) else _NONE
               for region, at in ((mask, inside), (~mask, _deep(~mask, 1, rng)))]
    return context_maps(WindowPrompts(2, scribble_positive=strokes[0], scribble_negative=strokes[1]), mask.shape)


def _deep(mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels ``[count, 2]`` well inside a mask."""
    if not count or not mask.any():
        return _NONE
    depths = depth(mask)
    at = np.argwhere(depths >= 0.5 * depths.max() if count == 1 else depths >= min(3.0, depths.max()))
    return at[rng.integers(len(at), size=count)].astype(np.float32)
