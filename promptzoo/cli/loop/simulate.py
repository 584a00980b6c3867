"""One loop: choose images, prompt them until they are good, train, measure on images that are never chosen."""
from __future__ import annotations

import gc
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from promptzoo.active_learning.places import Place
from promptzoo.active_learning.scores import Embed, Scored, encoder_embedding, score
from promptzoo.active_learning.strategies import Pool, choose
from promptzoo.core.bundles import BundleInfo, read_bundle
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import Predictor
from promptzoo.core.seeding import generator
from promptzoo.core.versions import copy_with
from promptzoo.evaluation.datalist import Case, Datalist
from promptzoo.evaluation.protocols import run_case
from promptzoo.inference import load_predictor
from promptzoo.training.corrections import Corrected
from promptzoo.training.finetune import train_on
from promptzoo.training.held_back import HeldBack, measured
from promptzoo.training.settings import Settings

BOX_COST = 2
"""A box costs as much as two clicks."""
EMBEDDER = "sam_box_finetune"


@dataclass(frozen=True)
class LoopPlan:
    """What is simulated.

    Args:
        rounds: trainings.
        budget: clicks that all rounds together may cost.
        good: Dice at which the annotator is content.
        most_clicks: after which the rest of an object is drawn by hand, at no further cost.
        held_out: share of the images that is only measured on.
        protocol: ``clicks`` or ``box+clicks``.
        training: of every round; each starts from the shipped weights and sees all labels.
        seed: of the division, the choices and the training.
    """

    rounds: int = 3
    budget: int = 30
    good: float = 0.9
    most_clicks: int = 8
    held_out: float = 0.35
    protocol: str = "box+clicks"
    training: Settings = field(default_factory=lambda: Settings(iterations=20, clicks=2, most_objects=1000))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.budget < self.rounds or not 0 < self.held_out < 1:
            raise PromptZooError(complain("simulated loop", [self.rounds, self.budget, self.held_out],
                                          "at least one round, a click for each, and a share between 0 and 1"))


class Material:
    """The images of a datalist with their objects, and what does not depend on the strategy.

    Args:
        datalist: CSV as for ``promptzoo bench``.
        bundle: as it came; all loops start with it.
        limit: most images.
        match: only rows whose id or image path contains this text.

    Raises:
        PromptZooError: for fewer than four images.
    """

    def __init__(self, datalist: str | Path, bundle: BundleInfo, limit: int | None = None, match: str | None = None
                 ) -> None:
        source = Datalist.read(datalist, match=match)
        self.bundle, self.cases = bundle, {}  # type: BundleInfo, dict[str, list[Case]]
        for row in source.rows:
            name = str(row.image)
            if name not in self.cases and limit is not None and len(self.cases) >= limit:
                continue
            case = source.load(row)
            if case.mask.any():
                self.cases.setdefault(name, []).append(case)
        if len(self.cases) < 4:
            raise PromptZooError(complain(f"images of {datalist}", len(self.cases), "at least 4",
                                          "Two are needed to learn from, one to choose, one to measure on"))
        self.shipped = load_predictor(bundle.path, engine="torch")
        embedder = load_predictor(EMBEDDER, engine="torch").segmenter  # type: ignore[attr-defined]
        self.embed: Embed = encoder_embedding(embedder.parts.encode, embedder.settings.window)
        self._vectors: dict[str, np.ndarray] = {}

    def vector(self, volume: Any, name: str) -> np.ndarray:
        """Embedding of an image, computed once."""
        if name not in self._vectors:
            self._vectors[name] = self.embed(volume)
        return self._vectors[name]

    def scored(self, name: str, predictor: Predictor, places: Mapping[str, Place], seed: int) -> Scored:
        """Scores of an image."""
        volume = self.cases[name][0].volume
        return score(name, volume, predictor, self.bundle.dimensions, places, lambda v: self.vector(v, name),
                     generator(seed, 83))

    def corrected(self, names: Sequence[str]) -> list[Corrected]:
        """The labels of images: the reference, as an annotator would leave it."""
        found = []
        for name in names:
            rows = [case.row for case in self.cases[name]]
            found += [Corrected(row.id, row.image, row.mask, row.modality, {row.label_value or 0: name_of(row)})
                      for row in rows]
        return found


def name_of(row: Any) -> str:
    """Name of the structure of a row."""
    return row.extra.get("label_name") or "object"


def run_loop(material: Material, strategy: str, plan: LoopPlan, report: Callable[[str], None] = lambda text: None
             ) -> dict[str, Any]:
    """One loop of one strategy.

    Args:
        material: images.
        strategy: see :data:`promptzoo.active_learning.strategies.STRATEGIES`.
        plan: see there.
        report: hears of every round.

    Returns:
        ``strategy``, ``seed``, ``curve`` (``clicks`` spent and Dice (``score``) on the held-out images after each
        round, the first entry before any training), ``chosen`` (images with reason and clicks).
    """
    names = list(material.cases)
    order = generator(plan.seed, 17).permutation(len(names))
    count = min(max(1, round(plan.held_out * len(names))), len(names) - 2)
    test, pool = [names[n] for n in order[:count]], [names[n] for n in sorted(order[count:])]
    objects = [HeldBack(case) for name in test for case in material.cases[name]]
    rng, predictor = generator(plan.seed, 29), material.shipped
    steps = plan.training.clicks
    curve = [{"clicks": 0, **_told(measured(predictor, objects, steps, plan.protocol))}]
    spent, chosen, places = 0, [], {}  # type: int, list[dict[str, Any]], dict[str, list[Place]]
    for number in range(1, plan.rounds + 1):
        where = {name: Place.mean(some) for name, some in places.items()} or {"object": Place()}
        done = [entry["image"] for entry in chosen]
        scores = {name: material.scored(name, predictor, where, plan.seed) for name in pool}
        while spent < plan.budget * number / plan.rounds and len(done) < len(pool):
            free = [name for name in pool if name not in done]
            found = choose(strategy, Pool(free, {n: scores[n] for n in free}, [scores[n] for n in done], rng))
            if found is None:
                break
            cost = sum(clicks_for(case, predictor, plan) for case in material.cases[found[0]])
            spent += cost
            done.append(found[0])
            chosen.append({"image": found[0], "round": number, "clicks": cost, "reason": found[1]})
            for case in material.cases[found[0]]:
                place = Place.of(case.mask, case.grid)
                places.setdefault(name_of(case.row), []).extend([place] if place else [])
        with tempfile.TemporaryDirectory(prefix="promptzoo-loop-") as folder:
            work = Path(folder) / "run"
            work.mkdir()
            weights = train_on(material.bundle, material.corrected(done), replace(plan.training, seed=plan.seed), work)
            fresh = copy_with(material.bundle, weights, Path(folder))
            predictor = load_predictor(read_bundle(fresh).path, engine="torch")
        gc.collect()  # a training leaves cycles with half a gigabyte of tensors
        curve.append({"clicks": spent, **_told(measured(predictor, objects, steps, plan.protocol))})
        report(f"{strategy}, seed {plan.seed}: {spent} clicks, Dice {curve[-1]['score']:.3f}")
        if len(done) == len(pool):
            break
    return {"strategy": strategy, "seed": plan.seed, "curve": curve, "test_images": len(test),
            "chosen": [{**entry, "image": Path(entry["image"]).name} for entry in chosen]}


def _told(block: Mapping[str, Any]) -> dict[str, Any]:
    return {"score": block["score"], "steps": block["steps"]}


def clicks_for(case: Case, predictor: Predictor, plan: LoopPlan) -> int:
    """Clicks until an object is good with the present bundle; a box counts :data:`BOX_COST`."""
    trial = run_case(case, predictor, plan.protocol, plan.most_clicks)[0]
    box = 1 if plan.protocol == "box+clicks" else 0
    reached = next((n for n, value in enumerate(trial.dice) if value >= plan.good), len(trial.dice) - 1)
    return max(1, reached + 1 - box + BOX_COST * box)
