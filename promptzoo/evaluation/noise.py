"""Dice against the noise of prompts: boxes moved off the object, clicks anywhere in it; several predictors at once."""
from __future__ import annotations

from collections import defaultdict
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from promptzoo.core.geometry import box_iou
from promptzoo.core.protocols import Predictor
from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Case, Datalist, Row, acquisition_axis
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.protocols import reference_box
from promptzoo.prompts.simulators.boxes import moved
from promptzoo.prompts.types import Box, Point, PromptSet

SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4)
"""By how much a box is moved along each of its axes, as a fraction of its side there."""
FAR = 1.25
"""Shift, along each axis, of a box that misses the object."""

Progress = Callable[[int, int, str], None]
Bounds = tuple[np.ndarray, np.ndarray]


def shifted_box(case: Case, level: float, rng: np.random.Generator) -> Bounds:
    """The object's tight box, moved by ``level`` sides along every axis, each way at random, cut to the image."""
    low, high = reference_box(case.mask, acquisition_axis(case.grid), "tight")
    thick = np.asarray(case.grid.shape) > 1
    shift = np.where(rng.random(3) < 0.5, -level, level) * (high - low) * thick
    return moved(low, high, case.grid.shape, np.stack([shift, shift]))


def noise_curves(datalist: Datalist, predictors: Mapping[str, Predictor], *, limit: int | None = 40, seed: int = 0,
                 draws: int = 1, by: Callable[[Row], str] = lambda row: "all",
                 progress: Progress | None = None) -> dict:
    """Give all predictors the same poor prompts.

    Args:
        datalist: what to measure on; objects of flat images or slices.
        predictors: name to predictor; all take boxes and points.
        limit, seed: at most this many cases, drawn with the seed, which also draws the noise.
        draws: poor boxes per case and level, and clicks per case.
        by: group of a row; every group is reported apart, too.
        progress: called as ``progress(done, total, id)``.

    Returns:
        ``{"n", "shifts", "draws", "seed", "groups": {group: n}, "dice": {name: {group: [per shift]}}, "estimated_dice":
        {name: [per shift]}, "far_box": {name: estimated Dice of a box that misses the object}, "click": {name: {group:
        Dice of a click anywhere in the object}}, "box_iou": {"given": [...], name: [...]}}``, means over cases and
        draws; ``box_iou`` has the predictors that return a corrected box.
    """
    rows = datalist.select(limit, seed)[0]
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    groups: dict[str, int] = defaultdict(int)
    for number, row in enumerate(rows):
        group = by(row)
        groups[group] += 1
        _case(datalist.load(row), predictors, generator(seed, number), draws, lambda key, value: [
            found[key][g].append(value) for g in {group, "all"}])
        if progress is not None:
            progress(number + 1, len(rows), row.id)

    def curve(kind: str, name: str, group: str = "all") -> list[float]:
        return [_mean(found[kind, name, str(level)][group]) for level in SHIFTS]

    parts = ["all", *sorted(set(groups) - {"all"})]
    return {
        "n": len(rows), "shifts": list(SHIFTS), "draws": draws, "seed": seed, "groups": dict(sorted(groups.items())),
        "dice": {name: {part: curve("dice", name, part) for part in parts} for name in predictors},
        "estimated_dice": {name: curve("estimate", name) for name in predictors},
        "far_box": {name: _mean(found["far", name]["all"]) for name in predictors},
        "click": {name: {part: _mean(found["click", name][part]) for part in parts} for name in predictors},
        "box_iou": {"given": curve("box", "given"), **{name: curve("box", name) for name in predictors
                                                       if ("box", name, str(SHIFTS[0])) in found}}}


def _case(case: Case, predictors: Mapping[str, Predictor], rng: np.random.Generator, draws: int,
          keep: Callable[[tuple[str, ...], float], Any]) -> None:
    """All prompts on one case; ``keep(key, value)`` takes what is measured."""
    states = {name: predictor.encode(case.volume) for name, predictor in predictors.items()}
    tight = shifted_box(case, 0.0, rng)

    def ask(name: str, prompt: Any) -> Any:
        return predictors[name].decode(states[name], PromptSet((prompt,)).to_world(case.grid)).objects[0]

    for level in SHIFTS:
        for _ in range(draws if level else 1):
            low, high = shifted_box(case, level, rng)
            keep(("box", "given", str(level)), box_iou((low, high), tight))
            for name in predictors:
                answer = ask(name, Box(tuple(low), tuple(high), 1, "voxel"))
                keep(("dice", name, str(level)), dice(answer.mask, case.mask))
                keep(("estimate", name, str(level)), float(answer.estimated_dice or 0.0))
                used = answer.info.get("corrected_box")
                if used is not None:
                    keep(("box", name, str(level)), box_iou((used.low, used.high), tight))
    far = shifted_box(case, FAR, rng)
    places = np.argwhere(case.mask)
    clicks = [tuple(map(float, places[rng.integers(len(places))])) for _ in range(draws)]
    for name in predictors:
        if box_iou(far, tight) == 0:  # at the image's border a box cannot get away
            answer = ask(name, Box(tuple(far[0]), tuple(far[1]), 1, "voxel"))
            keep(("far", name), float(answer.estimated_dice or 0.0))
        for click in clicks:
            keep(("click", name), dice(ask(name, Point(click, True, 1, "voxel")).mask, case.mask))


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if len(values) else float("nan")
