"""``run_bench``: a datalist, a predictor, a protocol; out comes a results file."""
from __future__ import annotations

import json
import os
import shlex
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

from promptzoo.core.errors import EngineError, PromptZooError, complain
from promptzoo.core.optional import require
from promptzoo.core.protocols import Predictor
from promptzoo.evaluation.baselines import make_baseline
from promptzoo.evaluation.datalist import Datalist, Row
from promptzoo.evaluation.protocols import BOX_STYLES, DEFAULT_CLICKS, PROTOCOLS, run_case
from promptzoo.evaluation.robustness import monotonicity
from promptzoo.evaluation.summary import calibrate, hardware, summarise, versions

PredictorOrFactory = Predictor | Callable[[], Predictor]
Progress = Callable[[int, int, str], None]
ROWS_PER_TASK = 4
"""Neighbouring rows go to one process together, because they often share their image file."""


@dataclass(frozen=True)
class BenchPlan:
    """What is done to each case; picklable."""

    protocol: str
    clicks: int
    baselines: tuple[str, ...] = ()
    box_style: str = "mid-slice"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise PromptZooError(complain("protocol", self.protocol, ", ".join(PROTOCOLS)))
        if self.box_style not in BOX_STYLES:
            raise PromptZooError(complain("box style", self.box_style, ", ".join(BOX_STYLES)))
        if self.clicks < (1 if self.protocol == "clicks" else 0):
            raise PromptZooError(complain("number of clicks", self.clicks, "1 or more"))
        for name in self.baselines:
            needed = make_baseline(name).needs
            if needed:
                require(needed[0], f"the baseline {name}", needed[1])


class _Worker:
    """Runs rows in one process."""

    def __init__(self, datalist: Datalist, make: PredictorOrFactory, plan: BenchPlan) -> None:
        self.datalist, self.plan = datalist, plan
        self.predictor = make if _is_predictor(make) else make()  # type: ignore[operator]
        self.peers = {name: make_baseline(name) for name in plan.baselines}

    def run(self, row: Row) -> dict:
        """``{"id", "cases", "errors", "engine", "baselines": {name: {"cases", "errors"}}}`` of one row."""
        answer: dict[str, Any] = {"id": row.id, "cases": [], "errors": [], "engine": None, "baselines": {}}
        try:
            case = self.datalist.load(row)
        except Exception as error:  # one bad file must not end a run of hours
            answer["errors"].append(_trouble(row, error))
            return answer
        for name, predictor in ((None, self.predictor), *self.peers.items()):
            place = answer if name is None else answer["baselines"].setdefault(name, {"cases": [], "errors": []})
            try:
                trials = run_case(case, predictor, self.plan.protocol, self.plan.clicks,
                                  box_style=self.plan.box_style, seed=self.plan.seed)
                place["cases"] = [t.record() for t in trials]
                if name is None and trials[0].prediction is not None:
                    answer["engine"] = trials[0].prediction.engine
            except Exception as error:
                place["errors"].append(_trouble(row, error))
        return answer


def _trouble(row: Row, error: Exception) -> dict:
    return {"id": row.id, "modality": row.modality, "kind": type(error).__name__, "error": str(error)[:500]}


def _is_predictor(thing: Any) -> bool:
    return hasattr(thing, "encode") and hasattr(thing, "decode")


_worker: _Worker | None = None


def _start(datalist: Datalist, make: PredictorOrFactory, plan: BenchPlan, threads: int) -> None:
    global _worker
    os.environ["OMP_NUM_THREADS"] = str(threads)
    _limit_torch(threads)
    _worker = _Worker(datalist, make, plan)
    _limit_torch(threads)


def _limit_torch(threads: int) -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _task(rows: Sequence[Row]) -> list[dict]:
    if _worker is None:
        raise EngineError(complain("bench process", "not started", "one started by run_bench"))
    return [_worker.run(row) for row in rows]


def _answers(datalist: Datalist, make: PredictorOrFactory, plan: BenchPlan, rows: Sequence[Row], jobs: int
             ) -> Iterator[dict]:
    """The answers to all rows, in the order they are ready."""
    if jobs == 1:
        worker = _Worker(datalist, make, plan)
        yield from (worker.run(row) for row in rows)
        return
    if _is_predictor(make):
        raise PromptZooError(complain(f"bench with {jobs} jobs", "a predictor", "a picklable function that makes one",
                                      "Each process loads its own network"))
    threads = max(1, (os.cpu_count() or jobs) // jobs)
    parts = [rows[n:n + ROWS_PER_TASK] for n in range(0, len(rows), ROWS_PER_TASK)]
    try:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _start, (datalist, make, plan, threads)) as pool:
            waiting: set[Future] = {pool.submit(_task, part) for part in parts}
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
    except BrokenProcessPool as error:
        raise EngineError(complain("a bench process ended", str(error), "processes that live to the end",
                                   "Run with fewer jobs (less memory), or one job to see the error")) from error


def run_bench(datalist: Datalist | str | Path, predictor: PredictorOrFactory, protocol: str = "clicks",
              clicks: int | None = None, *, baselines: Iterable[str] = (), limit: int | None = None,
              box_style: str = "mid-slice", seed: int = 0, jobs: int = 1, progress: Progress | None = None,
              command: str | None = None, measure_excluded: bool = False, by: str | None = None) -> dict:
    """Measure a predictor.

    Args:
        datalist: a :class:`Datalist` (with its rules on components, voxels and slices), or the path of its CSV.
        predictor: a predictor; or a function without arguments that makes one, picklable if ``jobs > 1``
            (``functools.partial(load, name)`` is).
        protocol, clicks, box_style: see :func:`promptzoo.evaluation.protocols.run_case`.
        baselines: names of peers to run on the same cases, see :data:`promptzoo.evaluation.baselines.BASELINES`.
        limit, seed: at most this many cases, drawn with the seed (:meth:`Datalist.select`).
        jobs: processes; torch's threads are divided among them.
        progress: called as ``progress(done, total, id)`` after each row.
        command: the command line to record; None takes the running one.
        measure_excluded: also run the rows that the rules exclude (not the empty ones), and report them apart.
        by: a further column of the datalist (``licence_class``, ``case``, …) whose values are summarised apart.

    Returns:
        ``{"bundle", "engine", "protocol", "clicks", "cases", "summary", "calibration", "monotonicity", "baselines",
        "groups", "excluded", "errors", "datalist", "seed", "command", "versions", "hardware"}``. ``cases`` are in
        the datalist's order, ``groups`` maps each value of the column ``by`` to its summary. A case that raised is in
        ``errors`` and in no mean.

    Raises:
        PromptZooError: for an unknown protocol, baseline, box style or column, a bad number of clicks, or jobs
            without a factory.
        MissingDependencyError: if a baseline's package is not installed.
        EngineError: if a process died.
    """
    listed = datalist if isinstance(datalist, Datalist) else Datalist.read(datalist)
    if jobs < 1 or (limit is not None and limit < 1):
        raise PromptZooError(complain("jobs and limit", [jobs, limit], "1 or more"))
    count = DEFAULT_CLICKS.get(protocol, 0) if clicks is None or protocol in ("box", "anchors") else int(clicks)
    plan = BenchPlan(protocol, count, tuple(dict.fromkeys(baselines)), box_style, seed)
    columns = sorted({name for row in listed.rows for name in row.extra})
    if by is not None and by not in columns:
        raise PromptZooError(complain("column to summarise by", by, ", ".join(columns) or "none in this datalist"))
    rows, excluded = listed.select(limit, seed)
    apart = [row for row, why in excluded if measure_excluded and why != "0 voxels"]
    todo, answers = [*rows, *apart], {}
    for answer in _answers(listed, predictor, plan, todo, jobs):
        answers[answer["id"]] = answer
        if progress is not None:
            progress(len(answers), len(todo), answer["id"])
    main = [answers[row.id] for row in rows]
    cases = [c for a in main for c in a["cases"]]
    others = [answers[row.id] for row in apart]
    name = predictor.name if _is_predictor(predictor) else None  # type: ignore[union-attr]
    return {
        "bundle": name or _name_of(predictor),
        "engine": next((a["engine"] for a in main if a["engine"]), None),
        "protocol": protocol, "clicks": count,
        "cases": cases,
        "summary": summarise(cases),
        "calibration": calibrate(cases),
        "monotonicity": monotonicity(cases),
        "groups": {} if by is None else _groups(main, {row.id: row.extra.get(by, "") for row in rows}),
        "baselines": {n: _peer_block([a["baselines"][n] for a in main if n in a["baselines"]]) for n in plan.baselines},
        "excluded": {"n": len(excluded), "rows": [{"id": row.id, "reason": why} for row, why in excluded],
                     "cases": [c for a in others for c in a["cases"]],
                     "summary": summarise([c for a in others for c in a["cases"]]) if measure_excluded else None,
                     "errors": [e for a in others for e in a["errors"]]},
        "errors": [e for a in main for e in a["errors"]],
        "datalist": {"path": listed.path, "rows": len(listed.rows), "measured": len(rows),
                     "ignored": dict(listed.ignored), "slices": listed.slices, "max_components": listed.max_components,
                     "min_voxels": listed.min_voxels, "limit": limit, "box_style": box_style},
        "seed": seed, "command": command or shlex.join(sys.argv), "versions": versions(), "hardware": hardware(),
    }


def _name_of(make: Any) -> str:
    """The bundle's name as the factory knows it: attribute ``name``, else the last argument of a ``partial``."""
    if isinstance(getattr(make, "name", None), str):
        return make.name
    arguments = [a for a in getattr(make, "args", ()) if isinstance(a, (str, Path))]
    return Path(arguments[0]).name if arguments else getattr(make, "__name__", type(make).__name__)


def _groups(answers: Sequence[dict], values: dict[str, str]) -> dict[str, dict]:
    return {value: summarise([c for a in answers if values[a["id"]] == value for c in a["cases"]])
            for value in sorted(set(values.values()))}


def _peer_block(parts: Sequence[dict]) -> dict:
    cases = [c for part in parts for c in part["cases"]]
    return {"summary": summarise(cases), "cases": cases, "errors": [e for part in parts for e in part["errors"]]}


def write_results(path: str | Path, results: dict) -> Path:
    """Write a results file as JSON (folders are made); returns the path."""
    place = Path(path).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return place
