"""``promptzoo train`` and ``promptzoo versions``: bundles that learn from corrected cases, and the way back."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.common import JSON_OPTION, command_line, print_json, print_table, progress, say
from promptzoo.core.bundles import find_bundles, get_shipped
from promptzoo.core.files import write_whole
from promptzoo.core.versions import Versions

app = typer.Typer(help="Versions of bundles that were trained here.", no_args_is_help=True)


def train(
    ctx: typer.Context,
    bundle: str = typer.Argument(..., help="Name of a bundle."),
    datalist: Path = typer.Argument(..., help="CSV of corrected cases: id, task, image, mask, label_value, modality; "
                                              "prompt logs (NAME.prompts.json) beside the masks are used."),
    iterations: Optional[int] = typer.Option(None, min=1, help="Steps of the optimiser."),
    minutes: Optional[float] = typer.Option(None, help="The training ends after that long at the latest."),
    learning_rate: Optional[float] = typer.Option(None, help="Its highest value."),
    match: Optional[str] = options.MATCH,
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Write what --json prints to this file, too."),
    seed: int = typer.Option(0, help="Of everything random."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Fine-tune a bundle on corrected cases; the result is used from then on if it is better on cases held back.

    Of every four cases one is never trained on. A server that runs takes the new version over by itself.
    """
    from promptzoo.training.corrections import from_datalist
    from promptzoo.training.finetune import finetune
    from promptzoo.training.settings import Settings

    given = {"iterations": iterations, "minutes": minutes, "learning_rate": learning_rate, "seed": seed}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    cases = from_datalist(datalist, match)
    with progress("train", as_json) as report:
        record = finetune(get_shipped(bundle), cases, settings,
                          lambda state: report(int(state.get("iteration") or 0), int(state.get("of") or 1),
                                               str(state["state"])))
    record |= {"bundle": bundle, "command": command_line(ctx)}
    if out is not None:
        write_whole(out, json.dumps(record, indent=2) + "\n")
    if as_json:
        print_json(record)
        return
    steps = ["first prompts of people" if record["before"]["first"] is not None else "", *(
        f"step {n}" for n in range(1, len(record["before"]["steps"]) + 1)), "mean"]
    print_table(["Dice on cases held back", *(s for s in steps if s)],
                [[name, *([told["first"]] if told["first"] is not None else []), *told["steps"], told["score"]]
                 for name, told in (("before", record["before"]), ("after", record["after"]))])
    say(f"version {record['version']} is in use" if record["accepted"] else
        f"not better by enough ({record['gain']:+.3f}): {bundle} stays as it was")


@app.command("list")
def listing(bundle: Optional[str] = typer.Argument(None, help="Name of a bundle; all without it."),
            as_json: bool = JSON_OPTION) -> None:
    """The versions of bundles, and which of them is in use."""
    names = [bundle] if bundle else [info.name for info in find_bundles()]
    rows: list[dict[str, Any]] = []
    for versions in (Versions(get_shipped(name)) for name in names):
        numbers = versions.numbers()
        if bundle is None and len(numbers) == 1:
            continue
        for number in numbers:
            told = versions.record(number)
            rows.append({"bundle": versions.shipped.name, "number": number, "version": versions.info(number).version,
                         "in_use": number == versions.current, "made": told.get("made", ""),
                         "cases": len(told.get("cases", ())), "before": (told.get("before") or {}).get("score"),
                         "after": (told.get("after") or {}).get("score")})
    if as_json:
        print_json(rows)
    elif rows:
        print_table(["bundle", "number", "version", "in use", "made", "cases", "Dice before", "Dice after"],
                    [[*list(row.values())[:3], "yes" if row["in_use"] else "", *list(row.values())[4:]]
                     for row in rows])
    else:
        say("No bundle has been trained here: all are as they came.")


@app.command("use")
def use(bundle: str = typer.Argument(..., help="Name of a bundle."),
        number: int = typer.Argument(..., min=0, help="Of the version; 0 is the one that came with promptzoo.")
        ) -> None:
    """Use a version from now on; a server that runs takes it over by itself."""
    say(f"{bundle} {Versions(get_shipped(bundle)).use(number).version} is in use")


@app.command("rollback")
def rollback(bundle: str = typer.Argument(..., help="Name of a bundle.")) -> None:
    """Use the version again that was in use before the present one."""
    say(f"{bundle} {Versions(get_shipped(bundle)).roll_back().version} is in use")
