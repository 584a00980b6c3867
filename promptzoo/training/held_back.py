"""Versions of a bundle side by side, on corrected cases that no training sees."""
from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import Predictor
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.protocols import run_case
from promptzoo.training.corrections import Corrected, write_datalist


@dataclass(frozen=True, eq=False)
class HeldBack:
    """One object to compare versions on.

    Args:
        case: loaded, of the evaluation.
        first: what a person gave first for it; None if no log tells.
    """

    case: Any
    first: Any = None


def objects_of(held: Sequence[Corrected], most: int, rng: np.random.Generator) -> list[HeldBack]:
    """The objects of cases held back, with what people gave first for them.

    Args:
        held: the cases.
        most: objects; they are drawn if there are more.
        rng: of the draw.

    Raises:
        PromptZooError: if there is none.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="promptzoo-held-") as folder:
        file = Path(folder) / "held.csv"
        write_datalist(held, file)
        source = Datalist.read(file, min_voxels=1)
        known = {f"{case.id}#{value}": case.first_prompts().get(value) for case in held for value in case.names}
        for index in rng.permutation(len(source.rows)):
            case = source.load(source.rows[int(index)])
            if case.mask.any() and len(found) < most:
                found.append(HeldBack(case, known.get(case.row.id)))
    if not found:
        raise PromptZooError(complain("labels of the cases held back", [case.id for case in held],
                                      "at least one object", "Save their labels again"))
    return found


def begins_with_box(cases: Sequence[Corrected], bundle: BundleInfo) -> bool:
    """Whether people here mostly begin with a box; without a log, whether it is the bundle's first kind of prompt."""
    seen = Counter("box" in prompts.kinds for case in cases for prompts in case.first_prompts().values())
    return "box" in bundle.prompts and (seen[True] > seen[False] if seen else bundle.prompts[0] == "box")


def measured(predictor: Predictor, objects: Sequence[HeldBack], clicks: int, protocol: str = "clicks"
             ) -> dict[str, Any]:
    """Mean Dice of a predictor on objects: after the prompts that people gave first, and with a simulated annotator.

    Args:
        predictor: of the version.
        objects: to measure on.
        clicks: of the simulated annotator.
        protocol: ``clicks`` or ``box+clicks``, see :func:`promptzoo.evaluation.protocols.run_case`.

    Returns:
        ``first`` (None if no log tells), ``steps`` (Dice after each prompt of the simulated annotator), ``protocol``,
        ``objects``, and ``score``, the mean over objects of their mean Dice over all of these.
    """
    first, curves, scores = [], [], []
    for one in objects:
        told = []
        if one.first is not None and one.first.kinds <= predictor.prompt_kinds:
            answer = predictor.decode(predictor.encode(one.case.volume), one.first).objects[0]
            told.append(dice(answer.mask, one.case.mask))
            first.append(told[0])
        curves.append(run_case(one.case, predictor, protocol, clicks)[0].dice)
        scores.append(float(np.mean([*told, *curves[-1]])))
    return {"first": round(float(np.mean(first)), 4) if first else None, "protocol": protocol,
            "steps": [round(float(v), 4) for v in np.mean(curves, 0)], "objects": len(objects),
            "score": round(float(np.mean(scores)), 4)}
