"""From the records of a study to means with confidence bands, and to advice on prompts."""
from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.evaluation.study import CHOICES

RESAMPLES = 1000
MIN_CASES = 5
"""With fewer objects than this nothing is advised."""
BUDGETS = (1, 2, 3, 5, 10)
"""Clicks that a person may be willing to give; a box counts two."""
FIRST_BUDGET = 3
"""Clicks of the first prompt, for which a tool is proposed when a case opens."""
SLACK = 0.01
"""A cheaper prompt is preferred if its mean Dice is not lower by more."""


def band(values: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % interval of the mean by bootstrap over the values, which are one per object."""
    sample = np.asarray(values, dtype=float)
    drawn = generator(seed, len(sample)).integers(len(sample), size=(RESAMPLES, len(sample)))
    low, high = np.percentile(sample[drawn].mean(1), (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def per_object(records: Iterable[Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float | None]
               ) -> list[float]:
    """``value`` of the records, averaged over the draws of each object; None is left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        got = value(record)
        if got is not None:
            found[record["id"]].append(got)
    return [float(np.mean(values)) for values in found.values()]


def summary_of(records: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Means of one condition: ``n`` objects, ``dice`` per choice, ``band`` of the answer's Dice, ``nsd``,
    ``boundary_mm``, ``seconds`` (median), ``clicks``, ``failures`` (share per flag)."""
    dices = {name: per_object(records, lambda r: r["dice"].get(name)) for name in CHOICES}
    flags = sorted({flag for record in records for flag in record["failures"]})
    name = records[0]["condition"]
    return {
        "n": len(dices["answer"]), "clicks": records[0]["clicks"],
        "dice": {key: round(float(np.mean(values)), 4) for key, values in dices.items() if values},
        "band": list(band(dices["answer"], seed + zlib.crc32(name.encode()))),
        "nsd": _mean(per_object(records, lambda r: r["nsd"])),
        "boundary_mm": _mean(per_object(records, lambda r: r["boundary_mm"])),
        "failures": {flag: _mean(per_object(records, lambda r: float(flag in r["failures"]))) for flag in flags},
        "seconds": round(float(np.median([r["seconds"] for r in records])), 4),
    }


def summarise_study(records: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, Any]:
    """``{"all": {condition: summary}, "modality": {name: {condition: summary}}, "organ": …}``, in order of the grid."""
    return {"all": _by_condition(records, seed),
            **{key: {name: _by_condition(part, seed) for name, part in sorted(_grouped(records, key).items())}
               for key in ("modality", "organ")}}


def advise(study: Mapping[str, Any], min_cases: int = MIN_CASES) -> dict[str, Any]:
    """What to prompt with, for all objects, per modality, and per organ.

    Only prompts that a person means to give compete: points at the centre or on errors, with and without negative ones,
    tight and loose boxes, boxes with points, one click into everything. For each budget of clicks the one of best mean
    Dice wins, or a cheaper one that is not worse by more than :data:`SLACK`. The Dice is that of the answers on the
    same objects, so of many conditions the best looks a little better than it is.

    Args:
        study: what :func:`promptzoo.evaluation.study.run_study` returned.
        min_cases: with fewer objects the entry says so instead.

    Returns:
        ``{"bundle", "min_cases", "all": entry, "modality": {name: entry}, "organ": {name: entry}}``; an entry holds
        ``n`` and either ``recommended`` (for the first prompt), ``by_budget`` and ``if_wrong`` or ``reason``.
    """
    conditions, records, seed = study["conditions"], study["records"], study["seed"]

    def entry(part: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        count = len({r["id"] for r in part})
        if count < min_cases:
            return {"n": count, "reason": f"too few cases: {count}, at least {min_cases} are needed"}
        return {"n": count, **_entry(_by_condition(part, seed), conditions)}

    return {"bundle": study["bundle"], "min_cases": min_cases, "all": entry(records),
            **{key: {name: entry(part) for name, part in sorted(_grouped(records, key).items())}
               for key in ("modality", "organ")}}


def _entry(table: Mapping[str, Mapping[str, Any]], conditions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    usable = {name: block for name, block in table.items()
              if block["clicks"] is not None and not conditions[name]["noisy"]}
    budgets = {}
    for budget in BUDGETS:
        fair = {name: block for name, block in usable.items() if block["clicks"] <= budget}
        if fair:
            best = max(block["dice"]["answer"] for block in fair.values())
            good = [name for name, block in fair.items() if block["dice"]["answer"] >= best - SLACK]
            chosen = min(good, key=lambda name: (fair[name]["clicks"], -fair[name]["dice"]["answer"]))
            budgets[str(budget)] = _told(chosen, fair[chosen], conditions[chosen])
    if not budgets:
        return {"reason": "no condition that a person could be advised to give was measured"}
    first = budgets.get(str(FIRST_BUDGET)) or next(iter(budgets.values()))
    return {"recommended": first, "by_budget": budgets, "if_wrong": _losses(table, conditions, first)}


def _told(name: str, block: Mapping[str, Any], condition: Mapping[str, Any]) -> dict[str, Any]:
    kind = condition["kind"]
    return {"condition": name, "prompt": "box" if kind.startswith("box") else "point",
            "count": 1 if kind in ("box", "everything") else condition["count"], "clicks": block["clicks"],
            "negative": condition["negative"], "margin": condition["enlarge"] if "box" in kind else None,
            "dice": block["dice"]["answer"], "band": block["band"], "n": block["n"],
            "missed": block["failures"].get("miss", 0.0)}


def _losses(table: Mapping[str, Mapping[str, Any]], conditions: Mapping[str, Mapping[str, Any]],
            first: Mapping[str, Any]) -> dict[str, float]:
    """Dice lost by prompts of the recommended kind that are off: condition to loss."""
    kinds = ("box",) if first["prompt"] == "box" else ("points",)
    plain = first["dice"]
    return {name: round(plain - block["dice"]["answer"], 4) for name, block in table.items()
            if conditions[name]["kind"] in kinds and conditions[name]["noisy"]
            and conditions[name]["count"] in (0, first["count"])}


def _by_condition(records: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    return {name: summary_of(part, seed) for name, part in _grouped(records, "condition").items()}


def _grouped(records: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        found[record[key]].append(record)
    return dict(found)


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
