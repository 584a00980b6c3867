"""A detector that learns from its own boxes on pictures without labels (AttriPrompter, Wu et al., IEEE TMI 2024).

The teacher looks with many captions; its sure boxes are pseudo labels of a student, a copy of the same detector, which
learns to find them by the plain name. The student is asked in one way only and has seen the pictures scaled, mirrored
and exposed anew, so that it finds more than its teacher.
"""
from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Iterable

import numpy as np
from PIL import Image

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.volume import Volume
from promptzoo.data.coco_boxes import BoxCase
from promptzoo.training.detector_shots import few_shot

ITERATIONS = 60
"""Steps of four views."""


def pseudo_labels(teacher: Any, volumes: Iterable[Volume], text: str, least: float, folder: Path) -> list[BoxCase]:
    """What a detector finds, as cases to train on.

    Args:
        teacher: with ``encode(volume)`` and ``find(state, text)``, see
            :class:`promptzoo.inference.detector_predictor.DetectionPredictor`.
        volumes: pictures or single slices.
        text: what to find; the class of the boxes.
        least: score from which a box counts.
        folder: where the pictures go as they are shown, 8 bits a channel.

    Raises:
        ImageError: for a volume of several slices.
    """
    cases = []
    for number, volume in enumerate(volumes):
        state = teacher.encode(volume)
        found = teacher.find(state, text)[0].above(least)
        path = folder / f"{number:05}.png"
        Image.fromarray((state.picture.rgb * 255).round().astype(np.uint8)).save(path)
        rows, columns = state.picture.rgb.shape[:2]
        cases.append(BoxCase(path.stem, path, (columns, rows), "", found.boxes, (text,) * len(found)))
    return cases


def self_trained(network: Any, teacher: Any, volumes: Iterable[Volume], text: str, iterations: int = ITERATIONS,
                 least: float = 0.3, seed: int = 0) -> tuple[Any, int]:
    """A student of a detector, and the number of boxes that it learned from.

    Args:
        network: the detector that becomes the student; it is not changed.
        teacher, volumes, text, least: see :func:`pseudo_labels`.
        iterations: steps of four views.
        seed: of all draws.

    Raises:
        PromptZooError: if the teacher finds nothing in any picture.
        ImageError: for a volume of several slices.
    """
    with TemporaryDirectory(prefix="promptzoo-") as folder:
        cases = pseudo_labels(teacher, volumes, text, least, Path(folder))
        boxes = sum(len(case.names) for case in cases)
        if not boxes:
            raise PromptZooError(complain(f"boxes of {text!r} to learn from in {len(cases)} pictures", 0,
                                          "at least one", "Describe what it looks like, or lower --threshold"))
        return few_shot(network, cases, {text: text}, iterations, seed), boxes
