"""How well prompts find boxes: on pictures with boxes of classes, and on procedural scenes with phrases.

The first follows MIU-VL (Qin et al., ICLR 2023, section 4): one text per class and way of prompting, COCO's AP. The
second compares, on held-out scenes, phrases that describe an object with ones in which one attribute is wrong.
"""
from __future__ import annotations

import time
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import UPRIGHT_AFFINE, luminance
from promptzoo.data.coco_boxes import BoxCase
from promptzoo.data.io import read_image
from promptzoo.data.synthesis.attribute_scenes import AttributeScenes
from promptzoo.data.synthesis.attribute_words import Described, group_of, match
from promptzoo.evaluation.detection import average_precision
from promptzoo.text.attributes.knowledge import concept_of

HELD_OUT_SEED = 2_000_029
"""Of scenes that no training draws."""


def class_texts(names: Sequence[str]) -> dict[str, str]:
    """The default prompt of each class: its written-out name where that is known, else the class as it is called."""
    found = {name: concept_of(name) for name in names}
    return {name: one.name if one is not None else name.lower() for name, one in found.items()}


def measure_classes(predictor: Any, cases: Sequence[BoxCase], texts: Mapping[str, str],
                    states: Sequence[Any] | None = None, report: Callable[[int, int, str], None] | None = None
                    ) -> dict[str, Any]:
    """AP of a predictor that finds boxes, on pictures with boxes.

    Args:
        predictor: with ``encode(volume)`` and ``find(state, text)``, which gives boxes in pixels of the picture.
        cases: pictures as files; their boxes are in pixels of the file.
        texts: the text that stands for each class, in the order of the table.
        states: encoded pictures of the cases, to save time.
        report: called with done, total and name.

    Returns:
        See :func:`promptzoo.evaluation.detection.average_precision`, with ``n``, ``captions`` (those of the first
        picture) and ``seconds_per_image``.
    """
    classes, found, truth, captions = list(texts), [], [], {}
    started = time.perf_counter()
    for number, case in enumerate(cases):
        state = predictor.encode(read_image(case.path)) if states is None else states[number]
        boxes, labels, scores = [np.zeros((0, 4))], [np.zeros(0, int)], [np.zeros(0)]
        for index, name in enumerate(classes):
            one, asked = predictor.find(state, texts[name])
            captions.setdefault(name, [caption.text for caption in asked])
            boxes.append(one.boxes)
            labels.append(np.full(len(one.scores), index))
            scores.append(one.scores)
        found.append((np.concatenate(boxes), np.concatenate(labels), np.concatenate(scores)))
        keep = np.array([name in texts for name in case.names], bool)
        truth.append((case.boxes[keep], np.array([classes.index(n) for n in case.names if n in texts], int)))
        if report is not None:
            report(number + 1, len(cases), case.name)
    spent = (time.perf_counter() - started) / max(1, len(cases))
    scores_ = {name: round(value, 4) for name, value in average_precision(found, truth, classes).items()}
    return {"n": len(cases), **scores_, "captions": captions, "seconds_per_image": round(spent, 3)}


def scene_volume(picture: np.ndarray) -> Volume:
    """A picture ``[H, W, 3]`` in [0, 1] as an image with colours."""
    colours = np.ascontiguousarray((picture * 255).round().astype(np.uint8).transpose(1, 0, 2))
    grey, _ = luminance(colours)
    return Volume(grey[..., None].astype(np.float32), Grid((*grey.shape, 1), UPRIGHT_AFFINE),
                  {"rgb": colours, "format": "raster"})


def measure_scenes(predictor: Any, count: int = 24, size: int = 256, seed: int = HELD_OUT_SEED) -> dict[str, Any]:
    """AP of right and wrong phrases on held-out procedural scenes, for colour, shape and size each.

    In each scene an object is asked for that has another word of the group than some other object: ``noun`` asks with
    its noun alone, ``right`` puts its word before it, ``wrong`` the word of the other object. What counts as found is
    always what ``right`` means.

    Returns:
        Per group ``n`` and AP50 of ``noun``, ``right`` and ``wrong``.
    """
    scenes = AttributeScenes(size, seed)
    found: dict[tuple[str, str], list] = {}
    truth: dict[str, list] = {group: [] for group in CHANGED}
    for number in range(count):
        rng = generator(seed, number)
        picture, objects = scenes.sample(rng)
        asked = {group: told for group in CHANGED if (told := scene_phrases(rng, objects, group)) is not None}
        state = predictor.encode(scene_volume(picture)) if asked else None
        for group, told in asked.items():
            for name, phrase in told[0].items():
                one, _ = predictor.find(state, phrase)
                found.setdefault((group, name), []).append((one.boxes, np.zeros(len(one.scores), int), one.scores))
            truth[group].append((told[1], np.zeros(len(told[1]), int)))
    return {group: {"n": len(truth[group]), **{
        name: round(average_precision(found[group, name], truth[group], ["object"])["AP50"], 4)
        for name in ("noun", "right", "wrong")}} for group in CHANGED if truth[group]}


CHANGED = ("colour", "shape", "size")
"""Groups of words that :func:`measure_scenes` changes."""


def scene_phrases(rng: np.random.Generator, objects: Sequence[Described], group: str
                  ) -> tuple[dict[str, str], np.ndarray] | None:
    """The phrases of :func:`measure_scenes` for one scene and group, and the boxes ``[n, 4]`` meant; None if no two of
    its objects differ in the group without doubt, or the phrase is open for some other object."""

    def word(one: Described, of: str) -> str | None:
        return next((w for w in sorted(one.true) if group_of(w) == of), None)

    pairs = [(one, mine, other) for one in objects if (mine := word(one, group)) is not None
             for second in objects if (other := word(second, group)) is not None
             and other not in one.true | one.open and mine not in second.true | second.open]
    for number in rng.permutation(len(pairs)):
        one, mine, other = pairs[number]
        noun = word(one, "noun")
        meant = match(f"{mine} {noun}", objects)
        if not (meant == -1).any():
            boxes = np.array([o.box for o, yes in zip(objects, meant) if yes == 1], float).reshape(-1, 4)
            return {"noun": str(noun), "right": f"{mine} {noun}", "wrong": f"{other} {noun}"}, boxes
    return None
