"""Measuring bundles that find their objects by themselves, on procedural nuclei and on rows of a datalist."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterator

import numpy as np
from scipy import ndimage

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.nuclei import ProceduralNuclei
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.instances import Counts, f1, match
from promptzoo.prompts import ClassPrompt, PromptSet

HELD_OUT_SEED = 2_000_003
"""Of procedural images that no training draws."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image with labels of its objects.

    Args:
        name: for tables.
        volume: 2D image.
        labels: ``[i, j, 1]``, one number per object.
        apart: whether objects that touch have different numbers, so that counting them is meaningful.
    """

    name: str
    volume: Volume
    labels: np.ndarray
    apart: bool = True


def procedural_scenes(count: int, size: int = 192, empty: bool = False, seed: int = HELD_OUT_SEED) -> list[Scene]:
    """Held-out procedural nuclei, fluorescence and stained in turn; ``empty`` for images without any."""
    source, found = ProceduralNuclei(size, seed), []
    for n in range(count):
        image, labels = source.sample(generator(seed, n), empty, n % 2 == 0)
        volume = Volume((255 * image[..., None]).round().astype(np.float32), Grid((size, size, 1), np.eye(4)))
        found.append(Scene(f"procedural {n}", volume, labels[..., None]))
    return found


def listed_scenes(datalist: str, label: str, limit: int | None = None) -> Iterator[Scene]:
    """Rows of a datalist whose label has this name; its masks are unions, so touching objects count as one."""
    source = Datalist.read(datalist)
    rows = [row for row in source.rows if row.id.endswith(f":{label}")][:limit]
    for row in rows:
        case = source.load(row)
        yield Scene(row.id, case.volume, ndimage.label(case.mask, np.ones((3, 3, 3)))[0], apart=False)


@dataclass
class Tally:
    """Sums over scenes."""

    dice: list[float] = field(default_factory=list)
    counts: list[Counts] = field(default_factory=list)
    found: list[int] = field(default_factory=list)

    def add(self, scene: Scene, mask: np.ndarray, labels: np.ndarray) -> None:
        """One answer: union mask and instance labels."""
        truth = scene.labels > 0
        total = mask.sum() + truth.sum()
        self.dice.append(1.0 if not total else float(2 * (mask & truth).sum() / total))
        self.counts.append(match(labels, scene.labels))
        self.found.append(len(np.unique(labels)) - 1)

    def summary(self, apart: bool = True) -> dict[str, Any]:
        """Numbers rounded to four digits."""
        right, false, missed = (int(v) for v in np.sum(self.counts, 0))
        told = {"n": len(self.dice), "dice": round(float(np.mean(self.dice)), 4),
                "dice_least": round(float(np.min(self.dice)), 4), "objects_found": int(np.sum(self.found))}
        if apart:
            told |= {"f1_at_0.5": round(f1(self.counts), 4), "right": right, "false": false, "missed": missed}
        return told


def automatic(predictor: Any, scenes: list[Scene], name: str) -> Tally:
    """Class prompts on scenes: the union, and the instances behind it."""
    tally = Tally()
    for scene in scenes:
        state = predictor.encode(scene.volume)
        union = predictor.decode(state, PromptSet((ClassPrompt(name),))).objects[0]
        labels = predictor.instances(state, name).labelmap("first")
        if predictor.finder.settings.source == "dense":  # all objects are one answer: its parts are the instances
            labels = ndimage.label(union.mask)[0]
        tally.add(scene, union.mask, labels)
    return tally


def oracle(predictor: Any, scenes: list[Scene]) -> Tally:
    """The tight box of every object as prompts, answered on the same windows as automatic prompts are."""
    tally = Tally()
    for scene in scenes:
        state = predictor.encode(scene.volume)
        axis = int(np.argmin(state.data.shape))
        image, labels = (np.take(a, 0, axis) for a in (state.data, state.move.array(scene.labels)))
        places = [p for p in ndimage.find_objects(labels) if p is not None]
        drawn, sure = np.zeros(labels.shape, np.int32), np.full(labels.shape, 0.5, np.float32)
        spacing = np.delete(np.asarray(state.canonical.spacing_mm), axis)
        for number, one in enumerate(predictor.finder.at_boxes(image, spacing, [
                (np.array([s.start for s in p]) - 0.5, np.array([s.stop for s in p]) - 0.5) for p in places]), 1):
            view, best = drawn[one.region], sure[one.region]
            claim = one.probability >= best
            view[claim], best[claim] = number, one.probability[claim]
        native = state.move.inverse_array(np.expand_dims(drawn, axis))
        tally.add(scene, native > 0, native)
    return tally
