"""What records do to the masks of a bundle that is told them, on procedural images whose masks a record decides."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import Predictor
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.clinical import SEGMENTS, STUDIES, TARGETS, ClinicalScene, scenes
from promptzoo.evaluation.metrics import dice
from promptzoo.prompts.types import AttributePrompt, ClassPrompt, Point, PromptSet, TextPrompt

Found = dict[str, list[float]]
LEAST_PIXELS = 30
"""Smaller masks are not scored by Dice."""


def flat(image: np.ndarray, spacing_mm: float = 1.5) -> Volume:
    """A slice ``[x, y]`` in canonical order as a volume of one slice."""
    return Volume(image[..., None], Grid((*image.shape, 1), np.diag([*(spacing_mm,) * 3, 1.0])))


def asked(predictor: Predictor, state: Any, target: str = "", text: str = "", click: tuple[int, int] | None = None,
          **attributes: str) -> Any:
    """The prediction of one object under a record."""
    prompts: list[Any] = [ClassPrompt(target)] if target else []
    prompts += [TextPrompt(text)] if text else []
    prompts += [Point((*map(float, click), 0.0), space="voxel")] if click else []
    prompts += [AttributePrompt(name, value) for name, value in attributes.items()]
    return predictor.decode(state, PromptSet(tuple(prompts))).objects[0]


def _mask(answer: Any) -> np.ndarray:
    return np.asarray(answer.mask[..., 0])


def measure_records(predictor: Predictor, study: str, count: int = 24) -> dict[str, float]:
    """Means over scenes that no training saw, by what was told; see the functions of this module.

    Args:
        predictor: that takes class, text and attribute prompts.
        study: one of :data:`promptzoo.data.synthesis.clinical.STUDIES`.
        count: scenes.
    """
    drawn = scenes(count, study)
    found: Found = {}
    others = drawn[1:] + drawn[:1]
    for n, (scene, other) in enumerate(zip(drawn, others)):
        MEASURES[study](predictor, scene, other, found, generator(n, 0xC1))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items() if values}


def _note(found: Found, name: str, value: float) -> None:
    found.setdefault(name, []).append(float(value))


def _scored(found: Found, name: str, mask: np.ndarray, truth: np.ndarray) -> None:
    if truth.sum() >= LEAST_PIXELS:
        _note(found, name, dice(mask, truth))


def grades(predictor: Predictor, scene: ClinicalScene, other: ClinicalScene, found: Found, rng: np.random.Generator
           ) -> None:
    """Dice of core and enhancing part under the ``true``, the ``predicted``, the ``permuted`` (another scene's) and the
    ``wrong`` grade; share of right grades; share of the image that is marked under each grade."""
    state, true = predictor.encode(flat(scene.image)), scene.record["grade"]
    wrong = "low" if true == "high" else "high"
    for target in TARGETS[scene.study][1:]:
        truth = scene.truth(target)
        predicted = asked(predictor, state, target)
        _scored(found, "predicted", _mask(predicted), truth)
        for name, grade in (("true", true), ("permuted", other.record["grade"]), ("wrong", wrong)):
            _scored(found, name, _mask(asked(predictor, state, target, grade=grade)), truth)
        short = target.split()[-1] if target.endswith("core") else target.split()[0]
        for grade in ("low", "high"):
            _note(found, f"{short}, {grade}", _mask(asked(predictor, state, target, grade=grade)).mean())
    _note(found, "right grade", predicted.info["attributes"]["grade"] == true)


def segments(predictor: Predictor, scene: ClinicalScene, other: ClinicalScene, found: Found, rng: np.random.Generator
             ) -> None:
    """Dice of the lesions of a segment that has some, under its ``true`` number, a ``permuted`` one, and, of the
    largest lesion's, under the ``predicted`` one; share of right predictions; Dice of the region; share of the lesions
    elsewhere that is marked under a segment without any."""
    state, layers = predictor.encode(flat(scene.image)), scene.layers
    there = sorted({str(n) for n in layers["segments"][layers["lesions"]]})
    segment = str(rng.choice(there))
    truth = scene.truth("liver lesion", {"segment": segment})
    _scored(found, "true", _mask(asked(predictor, state, "liver lesion", segment=segment)), truth)
    permuted = other.record["segment"]
    _scored(found, "permuted", _mask(asked(predictor, state, "liver lesion", segment=permuted)), truth)
    itself = asked(predictor, state, "liver lesion")
    _scored(found, "predicted", _mask(itself), scene.truth("liver lesion"))
    _note(found, "right segment", itself.info["attributes"]["segment"] == scene.record["segment"])
    region = scene.truth("liver segment", {"segment": segment})
    _scored(found, "region", _mask(asked(predictor, state, "liver segment", segment=segment)), region)
    free = str(rng.choice([one for one in SEGMENTS if one not in there]))
    marked = _mask(asked(predictor, state, "liver lesion", segment=free))
    _note(found, "elsewhere", (marked & layers["lesions"]).sum() / layers["lesions"].sum())


def positions(predictor: Predictor, scene: ClinicalScene, other: ClinicalScene, found: Found, rng: np.random.Generator
              ) -> None:
    """Dice of the organs that are there under the ``true``, the ``predicted`` and the ``permuted`` position; of those
    that are not in the slice, the share of the loops that is marked (``out of range``); error of the position."""
    state, true = predictor.encode(flat(scene.image)), scene.record["position"]
    loops = np.logical_or.reduce(list(scene.layers.values()))
    for organ in TARGETS[scene.study]:
        truth = scene.truth(organ)
        itself = asked(predictor, state, organ)
        masks = {"true": _mask(asked(predictor, state, organ, position=true)), "predicted": _mask(itself),
                 "permuted": _mask(asked(predictor, state, organ, position=other.record["position"]))}
        for name, mask in masks.items():
            _scored(found, name, mask, truth)
            if not truth.any():
                _note(found, f"out of range, {name}", (mask & loops).sum() / loops.sum())
    _note(found, "error of the position", abs(float(itself.info["attributes"]["position"]) - float(true)))


REQUESTS: Mapping[str, str] = {"glomerulus": "the whole functional unit, please", "glomerular tuft": "capillary tufts",
                               "nuclei": "every cell nucleus", "tubules": "all tubuli"}
"""What is asked for each structure of a slide, in words that are not its name."""


def requests(predictor: Predictor, scene: ClinicalScene, other: ClinicalScene, found: Found, rng: np.random.Generator
             ) -> None:
    """Dice of each structure asked for in words, and under another request; with a click, where the predictor takes
    one, of the structure in the part that was clicked, and the same without the click."""
    state = predictor.encode(flat(scene.image))
    parts_of = scene.clicks if "point" in predictor.prompt_kinds else None
    names = list(REQUESTS)
    for n, name in enumerate(names):
        mask = _mask(asked(predictor, state, text=REQUESTS[name]))
        _scored(found, name, mask, scene.truth(name))
        swapped = _mask(asked(predictor, state, text=REQUESTS[names[(n + 2) % len(names)]]))
        _scored(found, "another request", swapped, scene.truth(name))
        if parts_of is None:
            continue
        parts = np.unique(parts_of[scene.truth(name)])
        if len(parts) < 2:
            continue
        place = np.argwhere(parts_of == rng.choice(parts))
        at = tuple(int(v) for v in place[int(rng.integers(len(place)))])
        truth = scene.truth(name, click=at)
        _scored(found, "clicked part", _mask(asked(predictor, state, text=REQUESTS[name], click=at)), truth)
        _scored(found, "clicked part, without the click", mask, truth)


MEASURES: Mapping[str, Callable[..., None]] = dict(zip(STUDIES, (grades, segments, positions, requests)))
"""What is measured in each study."""


def studies_of(predictor: Any) -> Sequence[str]:
    """The studies that a predictor answers."""
    return tuple(getattr(predictor, "studies", STUDIES))
