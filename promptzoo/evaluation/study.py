"""``run_study``: every condition of a grid on every case of a datalist, with all candidates and how they are chosen.

The measurements are those of the zero-shot studies of SAM on medical images (Mazurowski et al., Medical Image Analysis
2023; Cheng et al., arXiv 2305.00035; Mattjie et al., arXiv 2305.00109): prompts simulated from reference masks, the
candidate that the network itself prefers beside the best one (oracle).
"""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Protocol, Sequence

import numpy as np

from promptzoo.core.advice import organ_name
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction, Predictor
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.metrics import Surface, dice, gated_nsd
from promptzoo.evaluation.protocols import protocol_click
from promptzoo.evaluation.study_grid import Condition, draw_of
from promptzoo.evaluation.study_prompts import simulate
from promptzoo.prompts.types import Point, PromptSet

CHOICES = ("answer", "predicted", "oracle", "mean", "worst")
"""What is scored: what the predictor answers; of its candidates the one of best predicted IoU, the truly best one, the
mask of their mean probability, and the truly worst one."""
MISS, LEAK, MISCHOICE = 0.1, 3.0, 0.2
"""Failures: a Dice below; a mask larger than this many times the object; an oracle this much better than the choice."""

Progress = Callable[[int, int, str], None]


class OffersCandidates(Protocol):
    """A predictor that tells its candidates; see :class:`promptzoo.inference.sam_predictor.SamPredictor`."""

    def offer(self, state: Any, prompts: PromptSet) -> Any:
        """``answer`` and ``candidates`` of one object's prompts on one slice, with ``info["predicted_iou"]``."""

    def everything(self, state: Any, settings: Any = ...) -> Sequence[ObjectPrediction]:
        """All masks of a flat image."""


@dataclass(frozen=True)
class Attempt:
    """What came back for one draw of one condition.

    Attributes:
        mask: the answer ``[i, j, k]``.
        estimate: the predictor's estimated Dice of it, or None.
        chances: probabilities ``[i, j, k]`` of the candidates; empty if there are none.
        ious: their predicted IoU.
        seconds: of the decode, that of the candidates included.
        clicks: given, or None.
    """

    mask: np.ndarray
    estimate: float | None
    chances: tuple[np.ndarray, ...]
    ious: tuple[float, ...]
    seconds: float
    clicks: int | None


class Study:
    """Runs conditions on cases with one predictor.

    Args:
        predictor: anything that keeps :class:`promptzoo.core.protocols.Predictor`.
        conditions: the grid.
        seed: of everything random.
        everything: settings given to ``predictor.everything``, or None for its own.
    """

    def __init__(self, predictor: Predictor, conditions: Sequence[Condition], seed: int = 0,
                 everything: Any = None) -> None:
        self.predictor, self.seed, self.settings = predictor, seed, everything
        kinds, offers = predictor.prompt_kinds, hasattr(predictor, "everything")
        self.conditions = [c for c in conditions if c.needs <= kinds and (c.kind != "everything" or offers)]
        self.left_out = [c.name for c in conditions if c not in self.conditions]

    def run(self, case: Case) -> list[dict]:
        """One record per condition and draw.

        Raises:
            PromptZooError: for an empty object, or whatever the predictor raises.
        """
        if not case.mask.any():
            raise PromptZooError(complain(f"case {case.row.id} without an object", "empty mask", "one voxel or more"))
        state, surface = self.predictor.encode(case.volume), Surface(case.mask, case.grid.spacing_mm)
        found: dict[str, Any] = {}
        return [self._record(case, surface, condition, draw, self._attempt(case, state, condition, draw, found))
                for condition in self.conditions if condition.kind != "everything" or case.grid.is_2d
                for draw in range(condition.draws if condition.random else 1)]

    def _attempt(self, case: Case, state: Any, condition: Condition, draw: int, found: dict[str, Any]) -> Attempt:
        groups = simulate(condition, case.mask, case.grid, draw_of(self.seed, case.row.id, condition, draw))
        if condition.kind == "everything":
            return self._picked(case, state, groups[0][0])
        if condition.place == "error" and "points" in condition.kind:
            return self._corrected(case, state, condition, groups[0], found)
        parts = [self._answer(case, state, group) for group in groups]
        if len(parts) == 1:
            return parts[0]
        joined = [np.maximum.reduce(layers) for layers in zip(*(part.chances for part in parts))]
        ious = [float(np.mean(values)) for values in zip(*(part.ious for part in parts))]
        return Attempt(np.logical_or.reduce([part.mask for part in parts]), parts[0].estimate, tuple(joined),
                       tuple(ious), sum(part.seconds for part in parts), condition.clicks)

    def _answer(self, case: Case, state: Any, prompts: Sequence[Any]) -> Attempt:
        world = PromptSet(tuple(prompts)).to_world(case.grid)
        start, offered = time.perf_counter(), ()
        if case.grid.is_2d and hasattr(self.predictor, "offer"):
            offer = self.predictor.offer(state, world)
            answer, offered = offer.answer, offer.candidates
        else:
            answer = self.predictor.decode(state, world).objects[0]
        seconds = time.perf_counter() - start
        cost = [p for p in prompts if p.kind != "mask"]
        return Attempt(answer.mask, answer.estimated_dice, tuple(c.full_probability() for c in offered),
                       tuple(float(c.info["predicted_iou"]) for c in offered), seconds,
                       sum(2 if p.kind == "box" else 1 for p in cost) if cost else None)

    def _corrected(self, case: Case, state: Any, condition: Condition, first: Sequence[Any], found: dict[str, Any]
                   ) -> Attempt:
        """Clicks on errors, each on the answer so far; shorter runs of the same grid are gone on with.

        With a mask to correct nothing is ambiguous: there are no candidates.
        """
        start = PromptSet(tuple(first)).to_world(case.grid)
        key = f"{condition.kind} {condition.enlarge}"
        prompts, last, seconds, given = found.get(key, (start, None, 0.0, 0))
        if given > condition.count:
            prompts, last, seconds, given = start, None, 0.0, 0
        if last is None and start.prompts:
            last, seconds = self._timed(state, start, None, seconds)
        while given < condition.count:
            mask = np.zeros(case.grid.shape, bool) if last is None else last.objects[0].mask
            click = protocol_click(case.mask, mask, case.grid.spacing_mm)
            if click is None:
                break
            more = PromptSet((Point(click[0], click[1], 1, "voxel"),)).to_world(case.grid).prompts
            prompts, given = prompts.adding(*more), given + 1
            last, seconds = self._timed(state, prompts, last, seconds)
        found[key] = (prompts, last, seconds, given)
        answer = last.objects[0]  # type: ignore[union-attr]
        return Attempt(answer.mask, answer.estimated_dice, (), (), seconds, condition.clicks)

    def _timed(self, state: Any, prompts: PromptSet, last: Prediction | None, seconds: float
               ) -> tuple[Prediction, float]:
        start = time.perf_counter()
        answer = self.predictor.decode(state, prompts, last)
        return answer, seconds + time.perf_counter() - start

    def _picked(self, case: Case, state: Any, click: Point) -> Attempt:
        """Everything, and of it what a click at the centre picks: the mask of best predicted IoU that holds it."""
        start = time.perf_counter()
        masks = self.predictor.everything(state, *([self.settings] if self.settings else []))  # type: ignore
        seconds = time.perf_counter() - start
        place = tuple(int(v) for v in click.position)
        ious = [float(m.info["predicted_iou"]) if m.mask[place] else -1.0 for m in masks]
        chances = [m.full_probability() for m in masks]
        if max(ious, default=-1.0) < 0:  # nothing holds the click
            chances, ious = [*chances, np.zeros(case.grid.shape, np.float32)], [*ious, 0.0]
        best = int(np.argmax(ious))
        return Attempt(chances[best] >= 0.5, None, tuple(chances), tuple(ious), seconds, 1)

    def _record(self, case: Case, surface: Surface, condition: Condition, draw: int, attempt: Attempt) -> dict:
        scores = scored(attempt, case.mask)
        spacing, value = case.grid.spacing_mm, scores["answer"]
        own = Surface(attempt.mask, spacing)
        away = own.mean_distance(surface)
        flags = []
        if not attempt.mask.any():
            flags.append("empty")
        if value < MISS:
            flags.append("miss")
        if attempt.mask.sum() > LEAK * case.mask.sum():
            flags.append("leak")
        if "oracle" in scores and scores["oracle"] - scores["predicted"] > MISCHOICE:
            flags.append("mischoice")
        organ = organ_name(str(case.row.extra.get("label_name") or case.row.id))
        return {"id": case.row.id, "modality": case.row.modality, "organ": organ, "condition": condition.name,
                "draw": draw, "clicks": attempt.clicks, "dice": {name: round(v, 4) for name, v in scores.items()},
                "nsd": round(gated_nsd(own, surface, spacing, value), 4),
                "boundary_mm": None if away is None else round(away, 3),
                "estimated_dice": None if attempt.estimate is None else round(float(attempt.estimate), 4),
                "failures": flags, "seconds": round(attempt.seconds, 4)}


def scored(attempt: Attempt, reference: np.ndarray) -> dict[str, float]:
    """Dice of the :data:`CHOICES` that an attempt allows: with candidates all five, else the answer alone."""
    scores = {"answer": dice(attempt.mask, reference)}
    if attempt.chances:
        own = [dice(chance >= 0.5, reference) for chance in attempt.chances]
        scores |= {"predicted": own[int(np.argmax(attempt.ious))], "oracle": max(own),
                   "mean": dice(np.mean(attempt.chances, axis=0) >= 0.5, reference), "worst": min(own)}
    return scores


def run_study(datalist: Datalist, predictor: Predictor, conditions: Sequence[Condition], *, limit: int | None = None,
              seed: int = 0, everything: Any = None, progress: Progress | None = None) -> dict[str, Any]:
    """Run a grid.

    Args:
        datalist: what to measure on, with its rules.
        predictor: whom.
        conditions: see :func:`promptzoo.evaluation.study_grid.expand`; those that the predictor cannot take are left
            out and told.
        limit, seed: at most this many cases, drawn with the seed, which also draws the prompts.
        everything: see :class:`Study`.
        progress: called as ``progress(done, total, id)`` after each case.

    Returns:
        ``{"bundle", "seed", "conditions": {name: settings}, "left_out", "records", "errors", "excluded", "cases",
        "interrupted"}``. A repeated run gives the same, but for ``seconds``. After Ctrl-C the objects that were done
        are reported; with a limit they are those of a run with that smaller limit.

    Raises:
        PromptZooError: if no condition suits the predictor, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise PromptZooError(complain("limit", limit, "1 or more"))
    study = Study(predictor, conditions, seed, everything)
    if not study.conditions:
        raise PromptZooError(complain(f"grid for {predictor.name}", ", ".join(study.left_out), "a condition of points, "
                                      f"boxes or masks that it takes: {', '.join(sorted(predictor.prompt_kinds))}"))
    rows, excluded = datalist.select(limit, seed)
    numbers = {row.id: number for number, row in enumerate(datalist.rows)}
    turn = {int(number): place for place, number in enumerate(datalist.drawing(seed))}
    records: list[dict] = []
    errors: list[Mapping[str, str]] = []
    done = last = 0
    try:
        for row in rows if limit is None else sorted(rows, key=lambda r: turn[numbers[r.id]]):
            try:
                records += study.run(datalist.load(row))
            except Exception as error:  # one bad file must not end the run
                errors.append({"id": row.id, "kind": type(error).__name__, "error": str(error)[:500]})
            done += 1
            last = turn[numbers[row.id]]
            if progress is not None:
                progress(done, len(rows), row.id)
    except KeyboardInterrupt:
        if not done:
            raise
        excluded = [pair for pair in excluded if limit is None or turn[numbers[pair[0].id]] < last]
    records.sort(key=lambda r: numbers[r["id"]])
    return {"bundle": predictor.name, "seed": seed, "cases": done - len(errors),
            "interrupted": done < len(rows),
            "conditions": {c.name: {"kind": c.kind, "clicks": c.clicks, "count": c.count, "place": c.place,
                                    "negative": c.negative, "enlarge": c.enlarge, "shift": c.shift,
                                    "jitter": c.jitter, "noisy": c.noisy} for c in study.conditions},
            "left_out": study.left_out, "records": records, "errors": errors,
            "excluded": [{"id": row.id, "reason": why} for row, why in excluded]}
