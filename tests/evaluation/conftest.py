"""Synthetic cases and a predictor that knows the answer, but only tells what it is asked."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
from PIL import Image

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import Case, Row, count_components


class Oracle:
    """Takes the image itself as truth (voxels over 0.5) and reveals it near the prompts.

    A positive click or scribble shows the truth within ``reach`` voxels, a negative one hides everything there; a box
    shows the truth inside it. ``estimated_dice`` is the true one.
    """

    name = "oracle"
    prompt_kinds = frozenset({"point", "box", "scribble", "mask"})

    def __init__(self, reach: float = 6.0, kinds: frozenset[str] | None = None, fail_on: float | None = None) -> None:
        self.reach, self.fail_on = reach, fail_on
        if kinds is not None:
            self.prompt_kinds = kinds

    def encode(self, volume: Volume) -> Volume:
        if self.fail_on is not None and float(volume.data.max()) == self.fail_on:
            raise RuntimeError("no picture")
        return volume

    def decode(self, state: Volume, prompts: Any, previous: Prediction | None = None) -> Prediction:
        truth, grid = state.data > 0.5, state.grid
        index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
        objects = []
        for info in prompts.objects:
            mask = np.zeros(grid.shape, dtype=bool)
            for prompt in prompts.for_object(info.object_id).to_voxel(grid).prompts:
                if prompt.kind == "box":
                    mask |= truth & (index >= np.round(prompt.low)).all(-1) & (index < np.round(prompt.high)).all(-1)
                elif prompt.kind == "mask":
                    mask |= prompt.mask
                elif prompt.kind == "class":
                    mask |= truth & (prompt.name == "disk")
                else:
                    for place in np.atleast_2d(prompt.position if prompt.kind == "point" else prompt.points):
                        near = np.linalg.norm(index - place, axis=-1) <= self.reach
                        mask = mask | (truth & near) if prompt.positive else mask & ~near
            overlap = 2 * (mask & truth).sum() / max(1, mask.sum() + truth.sum())
            objects.append(ObjectPrediction(info.object_id, grid, (0, 0, 0), mask.astype(np.float32), float(overlap)))
        return Prediction(grid, tuple(objects), engine="oracle")


def disk_case(shape: tuple[int, int, int] = (48, 40, 1), center: tuple[float, ...] = (22, 19, 0),
              radii: tuple[float, ...] = (12, 9, 1), spacing: tuple[float, ...] = (1, 1, 1), noise: float = 0.0,
              seed: int = 0) -> Case:
    """An ellipsoid of value 1 on 0, with noise."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    mask = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, center, radii)) <= 1
    data = mask + noise * np.random.default_rng(seed).normal(size=shape)
    volume = Volume(data, Grid(shape, np.diag([*spacing, 1.0])))
    row = Row("disk", "seg3d", Path("none.png"), Path("none.png"), 1, "CT")
    return Case(row, volume, mask, count_components(mask))


@pytest.fixture
def oracle() -> type[Oracle]:
    return Oracle


@pytest.fixture
def make_case() -> Callable[..., Case]:
    return disk_case


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A datalist of pictures: two good rows, a tiny object, five parts, an empty label, a missing file, and two rows of
    other tasks; the images are their masks in grey."""
    rows = [("id", "task", "image", "mask", "label_value", "modality")]

    def add(name: str, mask: np.ndarray, modality: str, value: str = "255", task: str = "seg2d") -> None:
        Image.fromarray((mask * 255).astype(np.uint8)).save(tmp_path / f"{name}_mask.png")
        Image.fromarray((mask * 200 + 20).astype(np.uint8)).save(tmp_path / f"{name}.png")
        rows.append((name, task, f"{name}.png", f"{name}_mask.png", value, modality))

    blank = np.zeros((40, 50), dtype=bool)
    round_, square, tiny, parts = (blank.copy() for _ in range(4))
    y, x = np.ogrid[:40, :50]
    round_[(y - 18) ** 2 + (x - 22) ** 2 <= 100] = True
    square[5:25, 30:45] = True
    tiny[3:6, 3:6] = True
    for n in range(5):
        parts[4:12, 2 + 9 * n:8 + 9 * n] = True
    add("round", round_, "CT")
    add("square", square, "MR")
    add("tiny", tiny, "CT")
    add("parts", parts, "CT")
    add("empty", blank | False, "CT")
    rows.append(("lost", "seg2d", "lost.png", "round_mask.png", "255", "MR"))
    rows.append(("class", "cls", "round.png", "", "", "CT"))
    rows.append(("boxes", "det", "round.png", "coco.json", "", "CT"))
    with (tmp_path / "list.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return tmp_path
