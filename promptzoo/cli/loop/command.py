"""``promptzoo simulate-loop``: the command."""
from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.common import JSON_OPTION, command_line, print_json, print_table, progress, say
from promptzoo.core.bundles import get_shipped
from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.files import write_whole

ALL = "first,random,foreground,entropy,disagreement,coreset,badge,clasp,clicks"


def simulate_loop(
    ctx: typer.Context,
    datalist: Path = typer.Argument(..., help="CSV as for promptzoo bench."),
    bundle: str = typer.Option("sam_box_finetune", "--bundle", "-b", help="Name of a bundle that can be trained."),
    strategy: str = typer.Option(ALL, help="Strategies, separated by commas; foreground is always among them."),
    rounds: int = typer.Option(3, min=1, help="Trainings."),
    budget: int = typer.Option(30, min=1, help="Clicks of all rounds together; a box counts two."),
    seeds: int = typer.Option(5, min=1, help="Loops of each strategy, each with another division of the images."),
    iterations: int = typer.Option(20, min=1, help="Steps of the optimiser in every round."),
    held_out: float = typer.Option(0.35, help="Share of the images that is only measured on."),
    limit: Optional[int] = typer.Option(None, help="At most this many images."),
    match: Optional[str] = options.MATCH,
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Folder for loop.json and loop.png; an interrupted "
                                                                 "run goes on from there."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Active learning with a simulated annotator: Dice on held-out images against clicks spent, by strategy.

    In every round images are chosen until the clicks of the round are spent, the bundle is trained on all labels so
    far, and measured. Strategies are compared with foreground-aware random, seed by seed.
    """
    from promptzoo.active_learning.strategies import STRATEGIES
    from promptzoo.cli.loop.report import BASELINE, compare, plot
    from promptzoo.cli.loop.simulate import LoopPlan, Material, run_loop
    from promptzoo.training.held_back import begins_with_box
    from promptzoo.training.settings import why_not_trainable

    names = list(dict.fromkeys([BASELINE, *(name.strip() for name in strategy.split(",") if name.strip())]))
    for name in names:
        if name not in STRATEGIES:
            raise NotFoundError(complain("strategy", name, ", ".join(STRATEGIES)))
    info = get_shipped(bundle)
    why = why_not_trainable(info)
    if why:
        raise NotFoundError(complain(f"training of {bundle}", why, "a bundle with a trainer of its own"))
    material = Material(datalist, info, limit, match)
    plan = LoopPlan(rounds, budget, held_out=held_out, protocol="box+clicks" if begins_with_box((), info) else "clicks")
    plan = replace(plan, training=replace(plan.training, iterations=iterations))
    file = None if out is None else out / "loop.json"
    settings = json.loads(json.dumps({"bundle": bundle, "version": info.version, "images": len(material.cases),
                                      "plan": {k: v for k, v in asdict(plan).items() if k != "seed"}}))
    loops: list[dict[str, Any]] = []
    if file is not None and file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
        loops = known["loops"] if known["settings"] == settings else []
        say(f"{len(loops)} loops were done before.")
    todo = [(seed, name) for seed in range(seeds) for name in names
            if not any((loop["seed"], loop["strategy"]) == (seed, name) for loop in loops)]
    with progress("simulate-loop", as_json) as report:
        for count, (seed, name) in enumerate(todo, 1):
            loops.append(run_loop(material, name, replace(plan, seed=seed)))
            report(count, len(todo), f"{name}, seed {seed}")
            if out is not None and file is not None:
                out.mkdir(parents=True, exist_ok=True)
                _write(file, settings, loops, compare(loops, budget), command_line(ctx))
    told = compare(loops, budget)
    if out is not None:
        plot(loops, budget, out / "loop.png")
    if as_json:
        print_json({"settings": settings, "summary": told, "loops": loops})
        return
    print_table(["strategy", "Dice over clicks", "before", "after", f"difference to {BASELINE}", "95 % interval", "",
                 "seeds"],
                [[name, row["area"], row["start"], row["end"], row.get("difference", ""),
                  f"{row['low']:+.3f} to {row['high']:+.3f}" if "low" in row else "", row.get("verdict", ""),
                  row["seeds"]] for name, row in told.items()])


def _write(file: Path, settings: Any, loops: Any, summary: Any, command: str) -> None:
    write_whole(file, json.dumps({"command": command, "settings": settings, "summary": summary, "loops": loops},
                                 indent=1) + "\n")
