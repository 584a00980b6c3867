"""How far an answer moves when the prompt is not perfect, and whether corrections do what they say."""
from __future__ import annotations

from collections import defaultdict
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError
from promptzoo.core.protocols import Prediction, Predictor
from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Case, Datalist, acquisition_axis
from promptzoo.evaluation.metrics import bounding_box, dice
from promptzoo.evaluation.protocols import Trial, protocol_click, reference_box, run_case, solid_axes
from promptzoo.prompts.simulators import boxes, masks
from promptzoo.prompts.simulators.clicks import depth
from promptzoo.prompts.types import Box, MaskPrompt, Point, PromptSet

DROP = 0.02
"""A correct click that lowers Dice by more than this counts as a drop."""
DROP_SHARE_LIMIT = 0.05
"""Largest share of steps that may be drops."""
BOX_LEVELS = (0.0, 0.05, 0.1, 0.2)
"""By how much each side of a box is moved (outwards, inwards, or all one way), as a fraction of the box's length."""
CLICK_LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far the first click may be from the centre: 0 the centre, 1 anywhere in the object, even on its rim."""
MASK_STEPS_FRAC = (0.1, 0.25)
"""Erosion, dilation and shift of a previous mask, as a fraction of the object's largest depth."""
TWO_OBJECT_SLACK = 0.02
"""Two objects in one call may lose this much Dice against one call each."""

Progress = Callable[[int, int, str], None]


def monotonicity(records: Sequence[dict]) -> dict:
    """How often a correct click lowers the Dice.

    Args:
        records: entries with ``steps`` and ``dice`` (:meth:`promptzoo.evaluation.protocols.Trial.record`).

    Returns:
        ``{"steps", "drops", "share", "threshold", "limit", "passed", "worst"}``; a step is a click that follows any
        earlier answer. ``share`` and ``passed`` are None without such a step.
    """
    changes = [b - a for record in records
               for step, a, b in zip(record["steps"][1:], record["dice"], record["dice"][1:])
               if step.startswith("click")]
    drops = sum(change < -DROP - 1e-9 for change in changes)
    share = drops / len(changes) if changes else None
    return {"steps": len(changes), "drops": drops, "share": None if share is None else round(share, 4),
            "threshold": DROP, "limit": DROP_SHARE_LIMIT,
            "passed": None if share is None else share <= DROP_SHARE_LIMIT,
            "worst": round(min(changes), 4) if changes else None}


def off_centre_click(mask: np.ndarray, spacing_mm: Sequence[float], level: float, rng: np.random.Generator
                     ) -> tuple[int, int, int]:
    """A voxel of ``mask`` whose depth is about ``1 - level`` of the largest depth.

    Level 0 gives the centre; level 1 one of the voxels nearest to the border. The voxel is drawn among the tenth of the
    object's voxels whose depth is closest to the wanted one.
    """
    keep, box = solid_axes(mask.shape), bounding_box(mask)
    if box is None:
        return (0, 0, 0)
    part = mask[box].reshape([mask[box].shape[axis] for axis in keep])
    deep = depth(part, tuple(spacing_mm[axis] for axis in keep))
    places = np.argwhere(part)
    gap = np.abs(deep[tuple(places.T)] - (1 - level) * deep.max())
    nearest = np.argsort(gap, kind="stable")[:1 if level == 0 else max(1, len(places) // 10)]
    index = [b.start for b in box]
    for axis, offset in zip(keep, places[nearest[rng.integers(len(nearest))]]):
        index[axis] += int(offset)
    return tuple(index)  # type: ignore[return-value]


def disturbed_masks(mask: np.ndarray, frac: float, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """``("eroded", …)``, ``("dilated", …)``, ``("shifted", …)`` by ``frac`` of the object's depth, at least a voxel.

    A disturbance that would leave nothing is left out.
    """
    keep = solid_axes(mask.shape)
    part = mask.reshape([mask.shape[axis] for axis in keep])
    amount = max(1.0, frac * float(depth(part).max()))
    direction = rng.standard_normal(part.ndim)
    direction /= np.linalg.norm(direction)
    for kind in ("eroded", "dilated", "shifted"):
        wrong = masks.changed(part, kind, amount, direction).reshape(mask.shape)
        if wrong.any():
            yield kind, wrong


class _Probe:
    """All single-case measurements on one case; collects ``name -> level -> [Dice]``."""

    def __init__(self, predictor: Predictor, seed: int) -> None:
        self.predictor, self.seed = predictor, seed
        self.curves: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.records: list[dict] = []
        self.negative: dict[str, list[bool]] = {"on_error": [], "on_mask": []}

    def run(self, case: Case, number: int, clicks: int) -> None:
        state, rng = self.predictor.encode(case.volume), generator(self.seed, number)
        kinds, spacing = self.predictor.prompt_kinds, case.grid.spacing_mm

        def score(*prompts: Any) -> float:
            given = PromptSet(prompts).to_world(case.grid)
            return dice(self.predictor.decode(state, given, None).objects[0].mask, case.mask)

        if "box" in kinds:
            low, high = reference_box(case.mask, acquisition_axis(case.grid), "tight")
            for level in BOX_LEVELS:
                shape, shift = case.grid.shape, np.where(rng.random(3) < 0.5, -level, level) * (high - low)
                for name, (a, b) in (("box_enlarged", boxes.enlarged(low, high, shape, level)),
                                     ("box_eroded", boxes.enlarged(low, high, shape, -level)),
                                     ("box_shifted", boxes.moved(low, high, shape, np.stack([shift, shift])))):
                    self.curves[name][str(level)].append(score(Box(tuple(a), tuple(b), 1, "voxel")))
        if "point" not in kinds:
            return
        for level in CLICK_LEVELS:
            place = off_centre_click(case.mask, spacing, level, rng)
            self.curves["click_off_centre"][str(level)].append(score(Point(place, True, 1, "voxel")))
        if "mask" in kinds:
            for frac in MASK_STEPS_FRAC:
                for name, wrong in disturbed_masks(case.mask, frac, rng):
                    found = protocol_click(case.mask, wrong, spacing)
                    if found is not None:
                        given = score(MaskPrompt(wrong, case.grid), Point(found[0], found[1], 1, "voxel"))
                        self.curves[f"previous_{name}"][str(frac)].append(given)
                        self.curves[f"previous_{name}_itself"][str(frac)].append(dice(wrong, case.mask))
        trial = run_case(case, self.predictor, "clicks", clicks)[0]
        self.records.append(trial.record())
        self._negative(trial)

    def _negative(self, trial: Trial) -> None:
        """Click the deepest wrong voxel of the mask, and the deepest voxel of the mask: are they gone?"""
        mask, spacing = trial.mask, trial.case.grid.spacing_mm
        for name, there in (("on_error", mask & ~trial.case.mask), ("on_mask", mask)):
            found = protocol_click(there, np.zeros_like(there), spacing)
            if found is None:
                continue
            click = PromptSet((Point(found[0], False, 1, "voxel"),)).to_world(trial.case.grid).prompts
            answer = self.predictor.decode(trial._state, trial.prompts.adding(*click), trial.prediction)
            self.negative[name].append(not answer.objects[0].mask[found[0]])


def two_objects(first: Case, second: Case, predictor: Predictor) -> dict:
    """One click on each of two objects of one image, in one call and in a call each.

    Returns:
        ``{"ids", "dice": [2], "dice_alone": [2], "passed"}``; passed when both ids come back, and neither mask loses
        more than ``TWO_OBJECT_SLACK`` Dice against its own call.
    """
    state, empty = predictor.encode(first.volume), np.zeros(first.grid.shape, dtype=bool)
    clicks = []
    for number, case in enumerate((first, second), 1):
        found = protocol_click(case.mask, empty, case.grid.spacing_mm)
        clicks.append(Point((0, 0, 0) if found is None else found[0], True, number, "voxel"))
    both: Prediction = predictor.decode(state, PromptSet(tuple(clicks)).to_world(first.grid), None)
    alone = [predictor.decode(state, PromptSet((click,)).to_world(first.grid), None) for click in clicks]
    own = [dice(answer.objects[0].mask, case.mask) for answer, case in zip(alone, (first, second))]
    complete = [o.object_id for o in both.objects] == [1, 2]
    together = [dice(both[n].mask, case.mask) for n, case in ((1, first), (2, second))] if complete else [0.0, 0.0]
    return {"ids": [first.row.id, second.row.id], "dice": [round(v, 4) for v in together],
            "dice_alone": [round(v, 4) for v in own],
            "passed": complete and all(a >= b - TWO_OBJECT_SLACK for a, b in zip(together, own))}


def _pairs(datalist: Datalist, count: int) -> Iterator[tuple[Case, Case]]:
    """Up to ``count`` pairs of objects, each pair from another image (and from one slice of it)."""
    by_image: dict[Any, list] = defaultdict(list)
    for row in datalist.rows:
        by_image[row.image].append(row)
    for rows in (r for r in by_image.values() if len(r) > 1):
        if count <= 0:
            return
        try:
            good = (r for r in rows if datalist.why_excluded(r) is None)
            first = datalist.load(next(good))
            others = (datalist.load(row, first.slice_of) for row in good)
            second = next(c for c in others if np.count_nonzero(c.mask) >= datalist.min_voxels)
        except (StopIteration, PromptZooError):
            continue  # an image without two usable objects, or that cannot be read, is no pair
        count -= 1
        yield first, second


def run_robustness(datalist: Datalist, predictor: Predictor, *, limit: int | None = 40, seed: int = 0, clicks: int = 6,
                   pairs: int = 10, progress: Progress | None = None) -> dict:
    """All robustness measurements of a predictor, as one JSON block.

    Args:
        datalist: what to measure on.
        predictor: whom.
        limit, seed: at most this many cases, drawn with the seed, which also draws the disturbances.
        clicks: length of the click sessions for monotonicity.
        pairs: at most this many pairs of objects on one image.
        progress: called as ``progress(done, total, id)``.

    Returns:
        ``{"bundle", "n", "seed", "curves": {name: {level: mean Dice}}, "monotonicity", "negative_click": {"on_error",
        "on_mask"}, "two_objects": {"n", "passed", "pairs"}, "errors"}``. Curves of prompts that the predictor does not
        take are absent. ``previous_*_itself`` is the Dice of the disturbed mask before the correction.
    """
    rows, _ = datalist.select(limit, seed)
    probe, errors, done = _Probe(predictor, seed), [], []
    for number, row in enumerate(rows):
        try:
            probe.run(datalist.load(row), number, clicks)
            done.append(row)
        except Exception as error:  # kept apart: one case must not end the run
            errors.append({"id": row.id, "kind": type(error).__name__, "error": str(error)[:500]})
        if progress is not None:
            progress(number + 1, len(rows), row.id)
    couples = []
    for first, second in _pairs(datalist, pairs if "point" in predictor.prompt_kinds else 0):
        try:
            couples.append(two_objects(first, second, predictor))
        except Exception as error:
            errors.append({"id": first.row.id, "kind": type(error).__name__, "error": str(error)[:500]})
    return {
        "bundle": predictor.name, "n": len(done), "seed": seed,
        "curves": {name: {level: round(float(np.mean(v)), 4) for level, v in sorted(curve.items())}
                   for name, curve in sorted(probe.curves.items())},
        "monotonicity": monotonicity(probe.records),
        "negative_click": {name: {"n": len(v), "removed": round(float(np.mean(v)), 4) if v else None}
                           for name, v in probe.negative.items()},
        "two_objects": {"n": len(couples), "passed": sum(c["passed"] for c in couples), "pairs": couples},
        "errors": errors,
    }
