"""All objects of a class on a slice: tiles are encoded once, a head says where to prompt, the decoder answers."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from promptzoo.inference.auto_maps import Candidate, HeadMaps
from promptzoo.inference.auto_prompts import SOURCES, AutoPrompt
from promptzoo.inference.auto_tiles import AutoParts, Tile, cover, only_own
from promptzoo.inference.looks import as_chance, keep_promises
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.sam import SamSegmenter, dice_of_iou
from promptzoo.inference.zoom import BATCH
from promptzoo.networks.auto_prompt import HEAD_STRIDE
from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.encoders.tokens import sam_prompt


@dataclass(frozen=True, eq=False)
class Found:
    """One object: the prompts that were made for it and the answer to them.

    Args:
        candidate: prompts in window pixels.
        prompts: the same in image indices, with the coarse mask as ``prior`` on the image, if any.
        offset: first image voxel of ``probability``.
        probability: ``[*M]`` float32.
        quality: estimated Dice of the decoder.
    """

    candidate: Candidate
    prompts: ObjectPrompts
    offset: tuple[int, ...]
    probability: np.ndarray
    quality: float

    @property
    def region(self) -> tuple[slice, ...]:
        """Slices of the image that ``probability`` covers."""
        return tuple(slice(o, o + n) for o, n in zip(self.offset, self.probability.shape))


class PromptFinder:
    """Proposes prompts for all objects of a class and answers them on the windows that the head saw.

    Args:
        segmenter: encodes and decodes.
        parts: the network with its head.
        settings: how prompts are read off the head's maps.
    """

    def __init__(self, segmenter: SamSegmenter, parts: AutoParts, settings: AutoPrompt) -> None:
        self.segmenter, self.parts, self.settings = segmenter, parts, settings

    def __call__(self, image: np.ndarray, spacing: Sequence[float]) -> list[Found]:
        """All objects on an image ``[H, W]`` with pixels of ``spacing`` millimetres, surest first."""
        found: list[Found] = []
        for tile in self.tiles(image, np.asarray(spacing, dtype=float)):
            raw = self.parts.propose(*(part[None] for part in tile.encoded.parts))[0][0]
            maps = HeadMaps.of(raw, tile.view)
            own = [c for c in SOURCES[self.settings.source](maps, self.settings) if c.whole or self._owns(tile, c)]
            found += self.answers(tile, own, image.shape, maps.foreground)
        return self._apart(found)

    def tiles(self, image: np.ndarray, spacing: np.ndarray) -> list[Tile]:
        """Windows at the image's own resolution, or finer for small images, that cover it."""
        side = self.segmenter.settings.window
        extent = np.asarray(image.shape) * spacing / spacing.min()
        step = float(np.clip(extent.max() / side, 0.5, 1.0)) * spacing.min() / spacing
        spans = [cover(size, one, side) for size, one in zip(image.shape, step)]
        found = []
        for row in spans[0]:
            for column in spans[1]:
                origin = tuple(span[0] for span in (row, column))
                window = Window(origin, tuple(float(s) for s in step), (side, side))
                view = normalise(window.sample(image))
                found.append(Tile(window, np.array([row[1], column[1]]), np.array([row[2], column[2]]), view,
                                  self.segmenter.encoded(view)))
        return found

    def answers(self, tile: Tile, candidates: Sequence[Candidate], shape: Sequence[int],
                foreground: np.ndarray | None = None) -> list[Found]:
        """The decoder's answers to candidates of a tile; those that the head contradicts or that are tiny are left out.

        Args:
            tile: where.
            candidates: prompts in its pixels.
            shape: of the image.
            foreground: the head's map ``[h, w]``, or None to keep all.
        """
        found = []
        for first in range(0, len(candidates), BATCH):
            group = list(candidates[first:first + BATCH])
            chances, qualities = self._decoded(tile, group)
            for candidate, chance, quality in zip(group, chances, qualities):
                mask = chance >= 0.5
                if foreground is not None and mask.any():
                    share = mask.reshape(foreground.shape[0], HEAD_STRIDE, -1, HEAD_STRIDE).mean((1, 3))
                    if (share * foreground).sum() < self.settings.agreement * share.sum():
                        continue
                offset, region = tile.window.restore(chance, shape)
                if candidate.whole:
                    region = only_own(region, offset, tile)
                if np.count_nonzero(region >= 0.5) < self.settings.least_pixels:
                    continue
                offset, region = _trimmed(offset, region)
                found.append(Found(candidate, in_image(candidate, tile, shape), offset, region, float(quality)))
        return found

    def at_clicks(self, image: np.ndarray, spacing: np.ndarray, clicks: Sequence[np.ndarray],
                  negative: np.ndarray) -> list[Found]:
        """An object for each click ``[2]`` in image indices, whatever the head says; ``negative`` counts for all."""
        found: list[Found] = []
        for tile in self.tiles(image, spacing) if len(clicks) else []:
            inside = [tile.window.to_window(click) for click in clicks
                      if (click >= tile.low).all() and (click < tile.high).all()]
            away = tile.window.to_window(negative).reshape(-1, 2)
            found += self.answers(tile, [Candidate(1.0, at, at[None], away) for at in inside], image.shape)
        return found

    def at_boxes(self, image: np.ndarray, spacing: np.ndarray, boxes: Sequence[tuple[np.ndarray, np.ndarray]]
                 ) -> list[Found]:
        """An object for each box, faces ``[2]`` in image indices, on the windows of automatic prompts."""
        found: list[Found] = []
        for tile in self.tiles(image, spacing):
            inside = [Candidate(1.0, (box[0] + box[1]) / 2, box=box) for box in (
                (tile.window.to_window(low), tile.window.to_window(high)) for low, high in boxes)]
            found += self.answers(tile, [one for one in inside if self._owns(tile, one)], image.shape)
        return found

    def _decoded(self, tile: Tile, candidates: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities ``[B, S, S]`` and estimated Dice ``[B]`` after the loops with the own mask fed back."""
        masks = [None if c.mask is None else np.kron(c.mask, np.ones((HEAD_STRIDE,) * 2)).astype(np.float32)
                 for c in candidates]
        for _ in range(1 + self.settings.loops):
            told = [sam_prompt(WindowPrompts(2, c.positive, c.negative, c.box, previous=mask), tile.view)
                    for c, mask in zip(candidates, masks)]
            logits, ious = self.segmenter.ask([tile.encoded] * len(told), told)
            chances = np.stack([keep_promises(as_chance(one), in_image(c, tile), tile.window)
                                for one, c in zip(logits[:, 0], candidates)])
            masks = list(chances)
        return chances, np.array([dice_of_iou(float(iou)) for iou in ious[:, 0]])

    @staticmethod
    def _owns(tile: Tile, candidate: Candidate) -> bool:
        at = np.asarray(tile.window.origin) + candidate.at * np.asarray(tile.window.step)
        return bool((at >= tile.low).all() and (at < tile.high).all())

    def _apart(self, found: list[Found]) -> list[Found]:
        """Without answers that overlap a surer one (non-maximum suppression on masks)."""
        kept: list[Found] = []
        for one in sorted(found, key=lambda entry: -entry.candidate.score):
            if all(one.candidate.whole or _shared(one, other) <= self.settings.overlap for other in kept):
                kept.append(one)
        return kept


def in_image(candidate: Candidate, tile: Tile, shape: Sequence[int] | None = None) -> ObjectPrompts:
    """A candidate's prompts in image indices; with its mask on the image if the shape is given."""
    origin, step = np.asarray(tile.window.origin), np.asarray(tile.window.step)

    def moved(points: np.ndarray) -> np.ndarray:
        return origin + np.asarray(points).reshape(-1, 2) * step

    box = None if candidate.box is None else tuple(moved(face)[0] for face in candidate.box)
    prior = None
    if candidate.mask is not None and shape is not None:
        offset, region = tile.window.restore(np.kron(candidate.mask, np.ones((HEAD_STRIDE,) * 2)), shape)
        region = only_own(region, offset, tile) if candidate.whole else region
        prior = np.zeros(shape, np.float32)
        prior[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
    empty = np.zeros((0, 2))
    return ObjectPrompts(moved(candidate.positive), moved(candidate.negative), box, empty, empty, (), prior)


def _trimmed(offset: Sequence[int], region: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """The part of a region where the probability is not negligible, with its offset."""
    where = np.argwhere(region >= 0.05)
    low, high = where.min(0), where.max(0) + 1
    return tuple(int(o + n) for o, n in zip(offset, low)), region[tuple(slice(a, b) for a, b in zip(low, high))].copy()


def _shared(first: Found, second: Found) -> float:
    """Common pixels over those of the smaller mask."""
    low = np.maximum(first.offset, second.offset)
    high = np.minimum(*(np.add(one.offset, one.probability.shape) for one in (first, second)))
    if (low >= high).any():
        return 0.0
    parts = [one.probability[tuple(slice(a - o, b - o) for a, b, o in zip(low, high, one.offset))] >= 0.5
             for one in (first, second)]
    least = min(np.count_nonzero(one.probability >= 0.5) for one in (first, second))
    return float((parts[0] & parts[1]).sum()) / max(least, 1)
