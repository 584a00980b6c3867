"""What is measured of text-driven volume networks on phantoms that no training saw; used by tests, too."""
from __future__ import annotations

from functools import lru_cache
from typing import Any, Iterator, Sequence

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.anatomy import Anatomy, render_ct, render_pet, torso
from promptzoo.data.anatomy.lesions import DARKER, FINDINGS, with_findings
from promptzoo.data.anatomy.tissues import TISSUES
from promptzoo.evaluation.metrics import dice
from promptzoo.inference.text_quality import QualityPredictor
from promptzoo.inference.text_universal import UniversalPredictor
from promptzoo.prompts.types import ClassPrompt, PromptSet
from promptzoo.training.text_quality import damaged

HELD_OUT = 740_001
"""No training uses this seed, nor those that follow it."""

OTHERS = ("stomach", "kidney_left", "kidney_right", "colon", "hip_bone_left", "sacrum", "aorta", "spleen")
LARGE = ("liver", "lung_left", "lung_right", "heart", "spine")
ABSENT = ("spleen", "stomach", "urinary_bladder", "kidney_left")
"""Structures that are taken out, one after the other."""

Body = tuple[Volume, Anatomy]


def image(data: np.ndarray, made: Anatomy) -> Volume:
    """An array on the voxels of a body."""
    return Volume(np.ascontiguousarray(data), Grid(data.shape, np.diag([*made.spacing_mm, 1.0])))


@lru_cache(maxsize=6)
def body(seed: int = HELD_OUT, absent: tuple[str, ...] = ("uterus", "spleen"), imaging: str = "") -> Body:
    """A torso as an image, and its anatomy.

    Args:
        seed: of both.
        absent: structures taken out.
        imaging: empty for CT, ``ct`` for CT with findings, ``pet``.
    """
    made, rng = torso(seed, 5.0, absent=absent), generator(seed)
    if imaging == "ct":
        made = with_findings(made, seed, 0.75)
        return image(render_ct(made.tissue, rng, DARKER), made), made
    return image(render_pet(made.tissue, rng, 5.0) if imaging else render_ct(made.tissue, rng), made), made


def tissue(made: Anatomy, name: str) -> np.ndarray:
    """Where a tissue of a body is, ``[i, j, k]`` bool."""
    return np.asarray(made.tissue == TISSUES.index(name))


def slab(seed: int, name: str, first: int = 36, last: int = 72) -> tuple[Volume, np.ndarray]:
    """Some slices of a torso as an image, and where a tissue is in them."""
    whole, made = body(seed)
    return image(whole.data[:, :, first:last], made), tissue(made, name)[:, :, first:last]


def asked(predictor: UniversalPredictor, state: Any, name: str) -> Any:
    """The answer to a class."""
    return predictor.decode(state, PromptSet((ClassPrompt(name),))).objects[0]


def found(predictor: UniversalPredictor, bodies: Sequence[Body], names: Sequence[str] = LARGE) -> dict[str, float]:
    """Mean Dice of structures that are there, by name."""
    scores: dict[str, list[float]] = {name: [] for name in names}
    for volume, made in bodies:
        state = predictor.encode(volume)
        for name in names:
            if made.mask(name).any():
                scores[name].append(float(dice(asked(predictor, state, name).mask, made.mask(name))))
    return {name: round(float(np.mean(each)), 4) for name, each in scores.items() if each}


def missed(predictor: UniversalPredictor, count: int, names: Sequence[str] = ABSENT) -> dict[str, float]:
    """How often a structure is said to be not found in a torso from which it was taken out, and in the same torso with
    it, and the Dice there."""
    gone, there, scores = [], [], []
    for n in range(count):
        for name in names:
            for absent in ((name,), ()):
                volume, made = body(HELD_OUT + 20 + n, absent)
                answer = asked(predictor, predictor.encode(volume), name)
                (gone if absent else there).append(not answer.mask.any())
                if not absent:
                    scores.append(float(dice(answer.mask, made.mask(name))))
    return {"not found, taken out": round(float(np.mean(gone)), 4), "not found, there": round(float(np.mean(there)), 4),
            "Dice, there": round(float(np.mean(scores)), 4), "asked": len(gone)}


def judged(predictor: QualityPredictor, bodies: Sequence[Body], names: Sequence[str] = LARGE, times: int = 4,
           seed: int = 0) -> Iterator[dict[str, Any]]:
    """True and estimated Dice of masks: damaged ones of structures, and the network's own answers; beside the estimate
    under the name of another structure."""
    rng = generator(seed, 0x0D1CE)
    for volume, made in bodies:
        state = predictor.encode(volume)
        for name in (name for name in names if made.mask(name).any()):
            truth = made.mask(name)
            other = str(rng.choice([n for n in LARGE if n.split("_")[0] != name.split("_")[0]]))
            masks = [("damaged", damaged(truth, rng)) for _ in range(times)]
            for kind, mask in (*masks, ("answer", asked(predictor, state, name).mask)):
                if mask.any():
                    yield {"name": name, "kind": kind, "dice": float(dice(mask, truth)),
                           "estimate": predictor.judge(state, mask, name.replace("_", " ")),
                           "misnamed": predictor.judge(state, mask, other.replace("_", " "))}


def agreement(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Correlation and mean error of estimates, and the mean estimate of good masks under the right and a wrong name."""
    true, guess = (np.array([one[key] for one in pairs]) for key in ("dice", "estimate"))
    good = [one for one in pairs if one["dice"] > 0.8]
    ranks = [np.argsort(np.argsort(each)) for each in (true, guess)]
    means = {key: round(float(np.mean([one[key] for one in good])), 4) if good else None
             for key in ("estimate", "misnamed")}
    return {"masks": len(pairs), "correlation": round(float(np.corrcoef(true, guess)[0, 1]), 4),
            "rank correlation": round(float(np.corrcoef(*ranks)[0, 1]), 4),
            "mean error": round(float(np.abs(true - guess).mean()), 4), "good masks": len(good),
            "good masks, own name": means["estimate"], "good masks, another name": means["misnamed"]}


def findings(predictor: UniversalPredictor, count: int) -> dict[str, Any]:
    """Of each kind of finding: Dice where it is, how often it is said to be not found where it is and where not."""
    told: dict[str, Any] = {}
    for name in FINDINGS:
        scores, lost, clean = [], [], []
        for n in range(count):
            volume, made = body(HELD_OUT + 60 + n, ("uterus",), "ct")
            answer = asked(predictor, predictor.encode(volume), name).mask
            if made.mask(name).sum() > 8:
                scores.append(float(dice(answer, made.mask(name))))
                lost.append(not answer.any())
            elif not made.mask(name).any():
                clean.append(not answer.any())
        told[name] = {"there": len(scores), "Dice": round(float(np.mean(scores)), 4) if scores else None,
                      "not found, there": round(float(np.mean(lost)), 4) if lost else None, "not there": len(clean),
                      "not found, not there": round(float(np.mean(clean)), 4) if clean else None}
    return told
