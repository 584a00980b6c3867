"""What sentences do to the masks of a bundle that reads them, on procedural radiographs with known opacities."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import Predictor
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.chest import Opacity, chest
from promptzoo.evaluation.metrics import dice
from promptzoo.prompts.types import AttributePrompt, PromptSet, TextPrompt
from promptzoo.text.reports import CELLS, SIZES, Cell, Report

SEED = 910_016
"""No training uses this seed."""
BLANK = "pulmonary infection"
"""A text that names no place."""


@dataclass(frozen=True, eq=False)
class SentenceScene:
    """A radiograph as a volume of one coronal slice, its opacities, and the parts of the lungs to ask for."""

    volume: Volume
    opacities: Sequence[Opacity]
    asked: tuple[Cell, ...]

    @property
    def there(self) -> tuple[Cell, ...]:
        """Parts of the lungs with an opacity, in the order of ``CELLS``."""
        found = {(one.zone, one.side) for one in self.opacities}
        return tuple(cell for cell in CELLS if cell in found)

    def truth(self, cells: Sequence[Cell]) -> np.ndarray:
        """The opacities in some parts of the lungs, as one mask on the volume's grid."""
        mask = np.zeros(self.volume.grid.shape, bool)
        for one in self.opacities:
            mask |= one.mask[:, None] if (one.zone, one.side) in cells else False
        return mask


def coronal(image: np.ndarray, spacing_mm: float = 2.0) -> Volume:
    """A radiograph ``[x, z]`` in canonical order as a volume of one slice."""
    return Volume(image[:, None], Grid((image.shape[0], 1, image.shape[1]), np.diag([*(spacing_mm,) * 3, 1.0])))


def sentence_scenes(count: int, size: int = 160, seed: int = SEED,
                    numbers: tuple[int, int] = (2, 4)) -> list[SentenceScene]:
    """Radiographs with opacities, ``numbers`` at least and at most; a part of several is asked for, the others are
    distractors."""
    scenes: list[SentenceScene] = []
    number = 0
    while len(scenes) < count:
        rng = generator(seed, number)
        number += 1
        image, opacities = chest(rng, size, int(rng.integers(numbers[0], numbers[1] + 1)))
        if len(opacities) >= numbers[0]:
            kept = rng.permutation(len(opacities))[:int(rng.integers(1, max(2, len(opacities))))]
            named = {(opacities[int(n)].zone, opacities[int(n)].side) for n in kept}
            scenes.append(SentenceScene(coronal(image), opacities, tuple(c for c in CELLS if c in named)))
    return scenes


def swapped(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The same parts of the other lung."""
    other = {(zone, "left" if side == "right" else "right") for zone, side in cells}
    return tuple(cell for cell in CELLS if cell in other)


def answer(predictor: Predictor, state: Any, text: str | None) -> Any:
    """The prediction of one object under a text; None asks for what the bundle says by itself."""
    return predictor.decode(state, PromptSet((TextPrompt(text),) if text else ())).objects[0]


def measure_sentences(predictor: Predictor, scenes: Sequence[SentenceScene]) -> dict[str, list[float]]:
    """Dice per scene, by what was asked.

    Returns:
        ``all``: a sentence on all opacities; ``part``: a sentence on a part, with that part; ``part, no place named``:
        a text without a place, with that part; ``part, left and right swapped`` and ``part, elsewhere``: sentences on
        the other side (unless both sides are asked for alike) and on a part without opacity, with the asked part;
        ``swapped, other side``: the swapped sentence with what it names, where there is something; ``mirrored``: the
        mirrored image and the swapped sentence;
        ``retrieved``: no text, with all opacities; ``retrieved sides``, ``number``, ``places``: share of right clauses.
    """
    found: dict[str, list[float]] = {}

    def note(name: str, score: float) -> None:
        found.setdefault(name, []).append(float(score))

    for scene in scenes:
        state = predictor.encode(scene.volume)
        part, whole = scene.truth(scene.asked), scene.truth(CELLS)
        other, free = swapped(scene.asked), [cell for cell in CELLS if cell not in scene.there]
        note("all", dice(answer(predictor, state, Report(scene.there).sentence).mask, whole))
        note("part", dice(answer(predictor, state, Report(scene.asked).sentence).mask, part))
        note("part, no place named", dice(answer(predictor, state, BLANK).mask, part))
        turned = answer(predictor, state, Report(other).sentence).mask
        apart = not set(other) & set(scene.asked)
        if apart:
            note("part, left and right swapped", dice(turned, part))
        if apart and scene.truth(other).any():
            note("swapped, other side", dice(turned, scene.truth(other)))
        note("part, elsewhere", dice(answer(predictor, state, Report((free[0],)).sentence).mask, part))
        mirrored = predictor.encode(Volume(np.ascontiguousarray(scene.volume.data[::-1]), scene.volume.grid))
        note("mirrored", dice(answer(predictor, mirrored, Report(other).sentence).mask, part[::-1]))
        itself = answer(predictor, state, None)
        note("retrieved", dice(itself.mask, whole))
        told, right = str(itself.info["sentence"]).split(", "), Report(scene.there).clauses
        for name, one, wanted in zip(("sides", "number", "places"), told, right):
            note(f"retrieved {name}", one == wanted)
    return found


def measure_attributes(predictor: Predictor, scenes: Sequence[SentenceScene]) -> dict[str, list[float]]:
    """Number and size as predicted and as overwritten, on all opacities.

    Returns:
        Dice under ``predicted``, ``true`` and ``none`` attributes; ``number`` and ``size``: share of right predictions;
        ``small`` and ``large``: share of the image that is marked under that size.
    """
    found: dict[str, list[float]] = {name: [] for name in (
        "predicted", "true", "none", "number", "size", "small", "large")}
    for scene in scenes:
        state, whole = predictor.encode(scene.volume), scene.truth(CELLS)
        largest = max(scene.opacities, key=lambda one: SIZES.index(one.size)).size
        true = {"count": "many" if len(scene.opacities) > 1 else "one", "size": largest}

        def mask(**values: str) -> Any:
            return predictor.decode(state, PromptSet(tuple(AttributePrompt(*pair) for pair in values.items()))
                                    ).objects[0]

        itself = mask()
        found["predicted"].append(dice(itself.mask, whole))
        found["true"].append(dice(mask(**true).mask, whole))
        found["none"].append(dice(mask(count="none", size="none").mask, whole))
        found["number"].append(float(itself.info["attributes"]["count"] == true["count"]))
        found["size"].append(float(itself.info["attributes"]["size"] == true["size"]))
        for size in ("small", "large"):
            found[size].append(float(mask(size=size).mask.mean()))
    return found
