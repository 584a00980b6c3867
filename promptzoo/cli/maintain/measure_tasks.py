"""Measure a bundle of tasks: ``python -m promptzoo.cli.maintain.measure_tasks BUNDLE [DATALIST] [--variant NAME]``.

On procedural images that no training saw: Dice under the prompt of the right task and of others, what the router says,
how alike the prompts of tasks are, and a structure that no task has, learned from a few cases. On the rows of a
datalist that show structures of a task: Dice with the task told and with the router's choice. Blocks go to
``docs/results.json``, each with the command that repeats it.
"""
from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from promptzoo.cli.maintain.task_measures import (
    NEW,
    alike,
    grouped,
    mean,
    right_and_wrong,
    routed,
    switched,
    taught,
    told,
)
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.summary import hardware, versions
from promptzoo.inference.task_prompts import TaskPredictor
from promptzoo.training.prompt_tuning import Learning

MODULE = "python -m promptzoo.cli.maintain.measure_tasks"

REAL = {
    "X-ray": {"lungs": ("lung right", "lung left"), "left lung": ("lung left",), "right lung": ("lung right",),
              "lung": ("lung right", "lung left")},
    "CT": {"lungs": ("lung right", "lung left"), "liver": ("liver",), "stomach": ("stomach",), "aorta": ("aorta",),
           "kidney right": ("kidney right",), "kidney left": ("kidney left",)},
    "MR": {"left ventricle cavity": ("left ventricle",), "left ventricle myocardium": ("myocardium",),
           "right ventricle cavity": ("right ventricle",), "peritumoral edema": ("oedema",),
           "necrotic tumour core": ("necrotic tumour core",), "enhancing tumour": ("enhancing tumour",)},
    "ultrasound": {"left ventricle": ("left ventricle",), "left heart ventricle": ("left ventricle",),
                   "left heart atrium": ("left atrium",)},
    "fluorescence microscopy": {"nuclei": ("nuclei",)}, "pathology": {"nuclei": ("nuclei",)},
}
"""Structures of the network by modality and label of a datalist's rows."""


def on_rows(predictor: TaskPredictor, datalist: str, match: str | None, limit: int | None) -> dict[str, Any]:
    """Mean Dice by task on the rows of a datalist that show structures of it: with the task told, with the router's,
    and how often the router's is the right one."""
    source, found = Datalist.read(datalist, match=match), {}
    for row in source.rows:
        names = REAL.get(row.modality, {}).get(row.extra.get("label_name", ""), ())
        tasks = [task for task in predictor.tasks if names and set(names) <= set(task.structures)
                 and (row.modality, task.modality) not in (("X-ray", "CT"), ("CT", "X-ray"))
                 and (task.modality != "ultrasound" or row.modality == "ultrasound")
                 and (task.modality != "MR" or row.modality == "MR")]
        if not tasks or row.id.startswith("ts_ct_sm") or len(found.get(tasks[0].name, ())) >= (limit or 10 ** 6):
            continue
        case = source.load(row)
        if not case.mask.any():
            continue
        state = predictor.encode(case.volume)
        free = told(predictor, state, names)
        scores = [dice(told(predictor, state, names, task.name).mask, case.mask) for task in tasks]
        found.setdefault(tasks[0].name, []).append(
            (max(scores), dice(free.mask, case.mask), free.info["task"] in [t.name for t in tasks],
             list(free.info["chances"])[0] in [t.name for t in predictor.tasks if t.modality == tasks[0].modality]))
    return {name: {"n": len(rows), **dict(zip(("told", "router", "right task", "right modality"),
                                              (mean(column) for column in zip(*rows))))}
            for name, rows in found.items()}


def measured(info: BundleInfo, variant: str | None, count: int, settings: Learning) -> dict[str, Any]:
    """Everything on procedural images."""
    from promptzoo.inference import load_predictor
    from promptzoo.inference.loader import load_network

    predictor: Any = load_predictor(info.path, "torch", variant=variant)
    network, _ = load_network(info, variant)
    found: dict[str, Any] = {"tasks": right_and_wrong(predictor, count), "router": routed(predictor, count)}
    if sum(task.modality == "CT" for task in predictor.tasks) > 1:
        found["CT tasks, found by labelled"] = switched(predictor, count).round(3).tolist()
    if hasattr(network, "task_map"):
        found["correlation"] = grouped(alike(predictor, network), predictor.tasks)
    known = {task.name for task in predictor.tasks}
    found["new structures"] = {name: taught(network, name, 6, 12, settings)[1]
                               for name, task in NEW.items() if task in known}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog=MODULE, description="Measure what task prompts do.")
    parser.add_argument("bundle")
    parser.add_argument("datalist", nargs="?", help="CSV of cases; without it, procedural images")
    parser.add_argument("--variant", help="default: the bundle as it is")
    parser.add_argument("--match", help="only rows of the datalist whose id matches")
    parser.add_argument("--limit", type=int, default=12, help="images per task; rows per task of a datalist")
    parser.add_argument("--iterations", type=int, default=400, help="steps in which a new structure is learned")
    options = parser.parse_args(arguments)
    from promptzoo.inference import load_predictor

    info, settings = get_bundle(options.bundle), Learning(iterations=options.iterations)
    chosen = f" --variant {options.variant}" if options.variant else ""
    chosen += f' --match "{options.match}"' if options.match else ""
    if options.datalist:
        predictor: Any = load_predictor(info.path, "torch", variant=options.variant)
        found = on_rows(predictor, options.datalist, options.match, options.limit)
    else:
        found = measured(info, options.variant, options.limit, settings)
    named = f"{options.variant or 'tasks'}, {'real rows' if options.datalist else 'procedural'}"
    place = info.path / "docs" / "results.json"
    results = json.loads(place.read_text()) if place.is_file() else {}
    told = f"--limit {options.limit}" + f" --iterations {options.iterations}" * (not options.datalist)
    results[named] = {"command": f"{MODULE} {info.name}{' index.csv' * bool(options.datalist)}{chosen} {told}", **found,
                      "hardware": hardware(), "versions": versions()}
    place.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
