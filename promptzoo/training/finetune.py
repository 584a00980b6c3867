"""Fine-tuning of a bundle on corrected cases: its own trainer, a comparison on cases held back, and a new version.

The trainer is the bundle's ``configs/train.json`` on the corrected cases mixed with its procedural images, so that what
it could before is not forgotten. The result is put into use only if it is better on the cases that were held back.
"""
from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from promptzoo.core.bundles import BundleInfo, in_use, read_json
from promptzoo.core.errors import BundleError, complain
from promptzoo.core.seeding import generator
from promptzoo.core.versions import Versions
from promptzoo.inference.loader import load_predictor
from promptzoo.training.corrections import Corrected, divide, habits, write_datalist
from promptzoo.training.held_back import begins_with_box, measured, objects_of
from promptzoo.training.settings import Settings, why_not_trainable

Report = Callable[[dict[str, Any]], None]


def finetune(shipped: BundleInfo, cases: Sequence[Corrected], settings: Settings = Settings(),
             report: Report = lambda state: None) -> dict[str, Any]:
    """Train the version in use on corrected cases, compare on those held back, and use the result if it is better.

    Args:
        shipped: the bundle as it came.
        cases: in the order in which they were first saved; see :func:`promptzoo.training.corrections.divide`.
        settings: see there.
        report: hears of the progress: ``state`` (``comparing``, ``training``, ``done``), ``iteration``, ``of``,
            ``dice``; also told by :meth:`Versions.progress`.

    Returns:
        ``accepted``, ``version`` (number of the new version; None if it was not kept), ``from`` (version text that was
        trained on), ``before`` and ``after`` (see :func:`measured`), ``gain``, ``cases``, ``held_back``, ``seconds``.

    Raises:
        PromptZooError: for fewer than two cases.
        BundleError: if the bundle cannot be trained.
        ConflictError: if a training of this bundle runs already.
    """
    why = why_not_trainable(shipped)
    if why:
        raise BundleError(complain(f"training of {shipped.name}", why, "a bundle with a trainer of its own"))
    versions, started = Versions(shipped), time.perf_counter()
    learn, held = divide(cases, versions.parts())

    def tell(**state: Any) -> None:
        versions.tell_progress(**state)
        report(state)

    with versions.training() as place:
        try:
            versions.keep_parts({case.id: part for part, some in (("train", learn), ("held", held)) for case in some})
            source = in_use(shipped)
            objects = objects_of(held, settings.most_objects, generator(settings.seed, 61))
            tell(state="comparing", objects=len(objects))
            protocol = "box+clicks" if begins_with_box(cases, shipped) else "clicks"
            before = measured(load_predictor(source.path, engine="torch"), objects, settings.clicks, protocol)
            weights = train_on(source, learn, settings, place, tell)
            tell(state="comparing", objects=len(objects))
            candidate = versions.add(weights, {"from": source.version, "settings": asdict(settings)})
            new = load_predictor(versions.info(candidate).path, engine="torch")
            after = measured(new, objects, settings.clicks, protocol)
            gain = round(after["score"] - before["score"], 4)
            accepted = gain >= settings.least_gain
            record = {"accepted": accepted, "version": candidate if accepted else None, "from": source.version,
                      "before": before, "after": after, "gain": gain, "cases": [case.id for case in learn],
                      "held_back": [case.id for case in held], "prompts": sum(case.clicks for case in cases),
                      "seconds": round(time.perf_counter() - started, 1)}
            versions.settle(candidate, record, accepted)
        except BaseException as error:
            tell(state="failed", error=f"{type(error).__name__}: {error}")
            raise
        versions.remember(record)
        _to_mlflow(shipped, settings, record)
        tell(state="done", **{key: record[key] for key in ("accepted", "version", "gain", "seconds")})
    return record


def train_on(source: BundleInfo, cases: Sequence[Corrected], settings: Settings, place: Path,
             tell: Callable[..., None] = lambda **state: None) -> Path:
    """Run the bundle's trainer on corrected cases.

    Args:
        source: the bundle; its weights are where it starts.
        cases: to train on.
        settings: see there.
        place: empty folder to work in.
        tell: hears of ``state``, ``iteration``, ``of`` and ``dice``.

    Returns:
        The file of the weights, in ``place``.
    """
    datalist = place / "cases.csv"
    write_datalist(cases, datalist)
    config = read_json(source.path / "configs" / "train.json")
    batch, epochs = int(config["scenes_per_batch"]), 4
    per_epoch = max(1, settings.iterations // epochs)
    changes: dict[str, Any] = {
        "bundle_root": str(source.path), "ckpt_dir": str(place), "output_dir": str(place), "seed": settings.seed + 1,
        "datalist": str(datalist), "real_share": settings.real_share, "learning_rate": settings.learning_rate,
        "initial_weights": str(source.weights_path), "max_epochs": epochs, "stop_epoch": epochs, "easy_share": 0.0,
        "scenes_per_epoch": per_epoch * batch, "num_workers": 0, "val_interval": epochs + 1}
    if isinstance(config.get("annotator"), dict) and "first" in config["annotator"]:
        changes["annotator#first"] = habits(cases, config["annotator"]["first"])
    parser = ConfigParser(config)
    parser.update({name: value for name, value in changes.items() if "#" in name or name in config})
    parser.get_parsed_content("initialize")  # seeds
    trainer = parser.get_parsed_content("train#trainer")
    total, ends = per_epoch * epochs, time.monotonic() + 60 * settings.minutes

    def heard(engine: Any) -> None:
        step = engine.state.iteration
        if step % 5 == 0 or step == 1:
            curve = engine.state.output.get("dice_per_round") or [None]
            tell(state="training", iteration=step, of=total, dice=curve[-1] and round(float(curve[-1]), 3))
        if time.monotonic() > ends:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, heard)
    trainer.run()
    network = parser.get_parsed_content("averaged_network")
    weights = place / str(config["weights_name"])
    torch.save({name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()},
               weights)
    return weights


def _to_mlflow(bundle: BundleInfo, settings: Settings, record: dict[str, Any]) -> None:
    """A run in MLflow, where it is installed and ``$MLFLOW_TRACKING_URI`` says where to."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    from promptzoo.core.optional import require

    mlflow = require("mlflow", "the record of trainings in MLflow")
    mlflow.set_experiment(f"promptzoo-{bundle.name}")
    with mlflow.start_run():
        mlflow.log_params(asdict(settings) | {"from": record["from"], "accepted": record["accepted"]})
        mlflow.log_metrics({"score_before": record["before"]["score"], "score_after": record["after"]["score"],
                            "gain": record["gain"], "seconds": record["seconds"]})
