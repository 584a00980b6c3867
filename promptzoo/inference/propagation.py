"""Carrying the mask of one slice to its neighbours, so that a 2D network answers for a volume.

The mask of a slice becomes the prompt of the next one: its box, its inner point, the mask itself. That is how an
annotator with a 2D tool works, and how video predictors work that have no memory; propagation between annotated slices
of a volume is described by Zhou et al., "Volumetric memory network for interactive medical image segmentation", Med.
Image Anal. 83, 2023 (propagation forward and backward from interactively segmented slices). Stop rules, blending and
shape interpolation are ours. Nothing here knows networks, files or axes: a slice is an index.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.slice_answers import SliceAnswer, between_shapes, prompts_of


@dataclass(frozen=True)
class Propagation:
    """How masks are carried.

    Args:
        margin: how far the box of the mask is widened at each face, as a fraction of its side.
        points: whether the inner point of the mask is given too.
        mask: whether the mask itself is given too.
        min_overlap: stop where the Dice with the slice before falls below this.
        min_quality: stop where the network's estimate falls below this fraction of the anchor's.
        most_growth: stop where the area grows by more than this factor from one slice to the next.
        least_area: stop where the area falls below this fraction of the slice before.
        tissue: stop where the mean intensity inside the mask is further from the anchor's than this many standard
            deviations of the anchor's object, and further than half its contrast to the surroundings.
        kept_share: a slice with negative prompts alone ends the object unless this share of the carried mask remains.
        fade: the estimated Dice falls by this factor per slice from the nearest anchor.

    Raises:
        BundleError: for a value that is out of range.
    """

    margin: float = 0.03
    points: bool = False
    mask: bool = False
    min_overlap: float = 0.4
    min_quality: float = 0.8
    most_growth: float = 2.0
    least_area: float = 0.1
    tissue: float = 2.0
    kept_share: float = 0.5
    fade: float = 0.94

    def __post_init__(self) -> None:
        shares = [self.min_overlap, self.min_quality, self.least_area, self.kept_share, self.fade]
        if min(self.margin, self.tissue) < 0 or self.most_growth <= 1 or min(shares) < 0 or max(shares) > 1:
            raise BundleError(complain("propagation settings", [self.margin, self.tissue, self.most_growth, *shares],
                                       "margin and tissue at least 0, most_growth above 1, all others from 0 to 1"))


Ask = Callable[[int, ObjectPrompts, float], SliceAnswer]
"""Answer to the prompts of a carried mask on a slice; the number is the typical intensity of the object."""


@dataclass(frozen=True)
class Stop:
    """Where carrying ended: at slice ``at``, coming from the anchor ``anchor``, and why."""

    anchor: int
    at: int
    reason: str


@dataclass(eq=False)
class Carried:
    """What was found on the slices that are no anchors.

    Attributes:
        answers: by slice.
        distance: slices to the nearest anchor that the answer comes from, by slice.
        interpolated: slices between two anchors that neither could be carried to; their shape is interpolated.
        stops: where carrying ended.
    """

    answers: dict[int, SliceAnswer] = field(default_factory=dict)
    distance: dict[int, int] = field(default_factory=dict)
    interpolated: list[int] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)


@dataclass(frozen=True)
class Appearance:
    """Mean and standard deviation of the intensities of an object on its slice, and the mean of a rim of three pixels
    around it."""

    inside: float
    spread: float
    outside: float

    @classmethod
    def of(cls, image: np.ndarray, mask: np.ndarray) -> "Appearance":
        """Of a mask that is not empty."""
        rim = ndimage.binary_dilation(mask, iterations=3) & ~mask
        inside = float(image[mask].mean())
        return cls(inside, float(image[mask].std()), float(image[rim].mean()) if rim.any() else inside)

    def other(self, image: np.ndarray, mask: np.ndarray, tissue: float) -> bool:
        """Whether a mask on another slice holds something else, see :class:`Propagation`."""
        far = abs(float(image[mask].mean()) - self.inside)
        return far > max(tissue * self.spread, 0.5 * abs(self.outside - self.inside))


def propagate(ask: Ask, image: np.ndarray, anchors: Mapping[int, SliceAnswer],
              corrections: Mapping[int, ObjectPrompts] | None = None, limits: tuple[int, int] | None = None,
              settings: Propagation = Propagation()) -> Carried:
    """Carry the masks of anchors to all other slices of the object.

    From the outer anchors the mask is carried outwards until a rule stops it. Between two anchors it is carried from
    both; where both arrive they are blended by distance, and where neither does, the shape is interpolated, so that
    there is no gap. An anchor with an empty answer ends the object; so does a slice that has negative prompts alone,
    unless enough of the mask carried there remains.

    Args:
        ask: answers the prompts of a carried mask.
        image: intensities ``[n, a, b]``, slices first.
        anchors: answers to the slices that have prompts of their own.
        corrections: negative prompts of slices that have no others.
        limits: first slice and slice behind the last that may be reached; None for the whole image.
        settings: see :class:`Propagation`.
    """
    first, end = (0, len(image)) if limits is None else limits
    run, keys = _Run(ask, image, dict(corrections or {}), settings), sorted(anchors)
    for place, key in enumerate(keys):
        if not anchors[key].mask.any():
            continue
        if place == 0:
            run.outwards(anchors, key, -1, first - 1)
        elif not anchors[keys[place - 1]].mask.any():
            run.outwards(anchors, key, -1, keys[place - 1])
        if place == len(keys) - 1:
            run.outwards(anchors, key, 1, end)
        elif not anchors[keys[place + 1]].mask.any():
            run.outwards(anchors, key, 1, keys[place + 1])
        else:
            run.between(anchors, key, keys[place + 1])
    return run.found


@dataclass(eq=False)
class _Run:
    ask: Ask
    image: np.ndarray
    corrections: Mapping[int, ObjectPrompts]
    settings: Propagation
    found: Carried = field(default_factory=Carried)

    def outwards(self, anchors: Mapping[int, SliceAnswer], key: int, step: int, end: int) -> None:
        """From an anchor up to, not including, slice ``end``."""
        answers, stop = self.chain(anchors[key], key, step, end)
        for index, answer in answers.items():
            self.found.answers[index], self.found.distance[index] = answer, abs(index - key)
        at = end if 0 <= end < len(self.image) else end - step
        self.found.stops.append(stop or Stop(key, at, "an empty anchor" if end in anchors else "the end of the image"
                                             if end in (-1, len(self.image)) else "the end of the box"))

    def between(self, anchors: Mapping[int, SliceAnswer], low: int, high: int) -> None:
        """Between two anchors that both hold the object."""
        up, stop_up = self.chain(anchors[low], low, 1, high)
        down, stop_down = self.chain(anchors[high], high, -1, low)
        self.found.stops += [stop for stop in (stop_up, stop_down) if stop is not None]
        for index in range(low + 1, high):
            near, far = up.get(index), down.get(index)
            if near is not None and far is not None:
                share = (index - low) / (high - low)
                blend = (1 - share) * near.plane + share * far.plane
                quality = (1 - share) * near.quality + share * far.quality
                self.found.answers[index] = SliceAnswer.full(blend, quality)
                self.found.distance[index] = min(index - low, high - index)
            elif near is not None:
                self.found.answers[index], self.found.distance[index] = near, index - low
            elif far is not None:
                self.found.answers[index], self.found.distance[index] = far, high - index
        if not any(stop is not None and stop.reason.startswith("negative") for stop in (stop_up, stop_down)):
            self.bridge({**anchors, **up, **down}, low, high)

    def bridge(self, known: Mapping[int, SliceAnswer], low: int, high: int) -> None:
        """Interpolate the shape where neither of two anchors could be carried to."""
        missing = [index for index in range(low + 1, high) if index not in self.found.answers]
        if not missing:
            return
        below = max(n for n in range(low, missing[0]) if n == low or n in self.found.answers)
        above = min(n for n in range(missing[-1] + 1, high + 1) if n == high or n in self.found.answers)
        first, last = known[below], known[above]
        for index in missing:
            share = (index - below) / (above - below)
            plane = between_shapes(first.mask, last.mask, share)
            self.found.answers[index] = SliceAnswer.full(plane, min(first.quality, last.quality))
            self.found.distance[index] = min(index - low, high - index)
            self.found.interpolated.append(index)

    def chain(self, anchor: SliceAnswer, key: int, step: int, end: int) -> tuple[dict[int, SliceAnswer], Stop | None]:
        """The answers from an anchor on, and what stopped it; None if it came up to slice ``end``."""
        s = self.settings
        looks, last, answers = Appearance.of(self.image[key], anchor.mask), anchor, {}
        for index in range(key + step, end, step):
            answer = self.ask(index, prompts_of(last, s.margin, s.points, s.mask), looks.inside)
            reason = self.why_stop(index, answer, last, anchor, looks)
            if not reason and index in self.corrections:
                carried, told = answer, self.corrections[index]
                answer = self.ask(index, told.with_prior(carried.plane), looks.inside)
                if answer.mask.sum() < s.kept_share * carried.mask.sum() or not answer.mask.any():
                    reason = "negative prompts"
            if reason:
                return answers, Stop(key, index, reason)
            answers[index] = last = answer
        return answers, None

    def why_stop(self, index: int, answer: SliceAnswer, last: SliceAnswer, anchor: SliceAnswer, looks: Appearance
                 ) -> str:
        """Which rule an answer breaks; empty if none."""
        s, mask, before = self.settings, answer.mask, last.mask
        area, former = int(mask.sum()), int(before.sum())
        if not area:
            return "nothing found"
        if answer.quality < s.min_quality * anchor.quality:
            return f"estimated quality {answer.quality:.2f}"
        if area > s.most_growth * former:
            return f"area grows {area / former:.1f} times"
        if area < s.least_area * former:
            return f"area falls to {area / former:.2f}"
        overlap = 2 * int((mask & before).sum()) / (area + former)
        if overlap < s.min_overlap:
            return f"overlap {overlap:.2f} with the slice before"
        if looks.other(self.image[index], mask, s.tissue):
            return "another intensity"
        return ""


def faded(carried: Carried, anchors: Mapping[int, SliceAnswer], estimate: Callable[[float], float],
          settings: Propagation) -> tuple[float, dict[int, float]]:
    """Estimated Dice of the object and of each slice.

    Args:
        carried: what was found between and beyond the anchors.
        anchors: their answers.
        estimate: from the network's estimate to expected Dice.
        settings: ``fade`` counts.

    Returns:
        The mean over slices, each weighted with its area; 0 if there is none. And the estimate of each slice.
    """
    each, areas = {}, {}
    for index, answer in (*anchors.items(), *carried.answers.items()):
        areas[index] = float((answer.region >= 0.5).sum())
        each[index] = estimate(answer.quality) * settings.fade ** carried.distance.get(index, 0)
    total = sum(areas.values())
    return (sum(each[n] * areas[n] for n in each) / total if total else 0.0), each
