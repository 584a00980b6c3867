"""``promptzoo study``: which prompts suit a bundle, measured on a datalist, and what to advise."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, List, Mapping, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.bench import checked_bundle, slices_of, tasks_of
from promptzoo.cli.common import (
    JSON_OPTION,
    UNEXPECTED,
    command_line,
    existing,
    print_json,
    print_table,
    progress,
    say,
    say_error,
    waiting,
    words,
)
from promptzoo.cli.study_text import study_text
from promptzoo.core.bundles import BundleInfo, read_json
from promptzoo.core.errors import PromptZooError, complain

STUDY_KEYS = ("conditions", "everything", "min_cases")


def study(
    ctx: typer.Context,
    datalist: Optional[str] = typer.Argument(None, help="CSV as for promptzoo bench; a column label_name tells organs. "
                                                        "With --text it may be left out."),
    bundle: Optional[str] = typer.Option(None, "--bundle", "-b", help="Name of a bundle, or the path of its folder."),
    text: Optional[str] = typer.Option(None, help="Study words instead: lexicon, or a bundle that takes text."),
    grid: Optional[Path] = typer.Option(None, help="JSON with the conditions. Default: the variant's, else those of "
                                                   "the bundle's configs/study.json, else a general grid."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Folder for study.json, records.json, "
                                                                 "study.md, advice.json, advice.md and plots."),
    limit: Optional[int] = typer.Option(None, help="At most this many objects, drawn with the seed."),
    seed: int = typer.Option(0, help="Seed of the draw and of the prompts."),
    variant: Optional[str] = options.VARIANT,
    engine: str = options.ENGINE,
    precision: str = options.PRECISION,
    min_cases: Optional[int] = typer.Option(None, help="Nothing is advised on fewer objects. Default: 5, or what the "
                                                       "grid says."),
    max_components: int = typer.Option(3, help="Objects of more connected parts are left out; 0: none are."),
    min_voxels: int = typer.Option(30, help="Objects of fewer voxels are left out."),
    modality: Optional[List[str]] = options.MODALITY,
    task: Optional[List[str]] = options.TASK,
    match: Optional[str] = options.MATCH,
    slices: str = options.SLICES,
    as_json: bool = JSON_OPTION,
) -> None:
    """Study which prompts suit a bundle: points, boxes, masks and everything, how many, and how far off.

    Every prompt is simulated from the reference masks. Of SAM-like bundles the candidates are scored, too: the one of
    best predicted IoU, the truly best and worst, and their mean. Prints a table; with --out also advice per modality
    and organ, which the viewer uses to propose a tool. A repeated run gives the same numbers, but for the seconds.
    Ctrl-C ends early, with the objects that were done: those that a run with that --limit would draw.

    With --text: how robust text prompts are to synonyms, typing errors, the order of words, sides, negation, everyday
    words, things that are not there and injected instructions; refusals, flips, spread of Dice and the worst case.
    """
    from promptzoo.evaluation.datalist import Datalist
    from promptzoo.evaluation.study import run_study
    from promptzoo.evaluation.study_grid import expand
    from promptzoo.evaluation.study_summary import MIN_CASES, advise, summarise_study
    from promptzoo.inference import load_predictor

    if text is not None:
        study_text(text, command_line(ctx), datalist, variant, engine, precision, limit, seed, slices, out, as_json)
        return
    if datalist is None or bundle is None:
        raise PromptZooError(complain("study without", "DATALIST" if datalist is None else "--bundle",
                                      "promptzoo study DATALIST --bundle NAME, or promptzoo study --text NAME"))
    info = checked_bundle(bundle, variant, False)
    plan = _plan(info, variant, grid)
    conditions = expand(plan["conditions"])
    least = int(min_cases if min_cases is not None else plan.get("min_cases", MIN_CASES))
    if min(max_components, min_voxels, seed) < 0 or least < 1:
        raise PromptZooError(complain("max components, min voxels, seed, min cases",
                                      [max_components, min_voxels, seed, least], "0 or more, the last 1 or more"))
    listed = Datalist.read(datalist, modalities=words(modality) or None, match=match, min_voxels=min_voxels,
                           tasks=words(task) or tasks_of(info, False), slices=slices_of(info, slices, False),
                           max_components=max_components or None)
    with waiting(f"Loading {info.name}", as_json):
        predictor = load_predictor(info.path, engine, precision, variant)
    with progress(f"{info.name}, {len(conditions)} conditions", as_json) as report:
        found = run_study(listed, predictor, conditions, limit=limit, seed=seed, progress=report,
                          everything=_everything(plan))
    found |= {"variant": variant, "bundle_version": info.version, "command": _shown(command_line(ctx), datalist)}
    if found["interrupted"]:
        say(f"Interrupted: {found['cases'] + len(found['errors'])} objects were done and are reported.")
    if not found["records"]:
        say_error("no case was measured" + (f"; the first: {found['errors'][0]['error']}" if found["errors"] else ""))
        raise typer.Exit(UNEXPECTED)
    summary, advice = summarise_study(found["records"], seed), advise(found, least)
    if out is not None:
        say(f"Results: {_write(out, found, summary, advice)}")
    if as_json:
        print_json({**{k: v for k, v in found.items() if k != "records"}, "summary": summary, "advice": advice})
    else:
        _print(found, summary, advice)
    if found["errors"]:
        first = found["errors"][0]
        say_error(f"{len(found['errors'])} objects failed and are in no mean; the first, {first['id']}: "
                  f"{first['kind']}: {first['error']}")


def _plan(info: BundleInfo, variant: str | None, grid: Path | None) -> dict[str, Any]:
    """What to study: ``conditions`` and perhaps ``everything`` and ``min_cases``."""
    from promptzoo.evaluation.study_grid import DEFAULT_GRID

    default = info.path / "configs" / "study.json"
    plan: dict[str, Any] = {"conditions": list(DEFAULT_GRID)}
    files = [default] if default.is_file() else []
    files += [info.variant(variant)] if variant is not None else []
    files += [existing(grid, "grid")] if grid is not None else []
    for file in files:
        told = read_json(file).get("study", {})
        if not isinstance(told, Mapping) or set(told) - {*STUDY_KEYS, "note"}:
            raise PromptZooError(complain(f"study of {file.name}", list(told), ", ".join((*STUDY_KEYS, "note"))))
        plan |= told
    return plan


def _everything(plan: Mapping[str, Any]) -> Any:
    from promptzoo.inference.everything import Everything

    try:
        return Everything(**plan["everything"]) if plan.get("everything") else None
    except TypeError as error:
        raise PromptZooError(complain("settings of everything", str(error), "those of Everything")) from error


def _shown(command: str, datalist: str) -> str:
    """The command without the folders of this machine."""
    return command.replace(datalist, Path(datalist).name)


def _write(folder: Path, found: Mapping[str, Any], summary: Mapping[str, Any], advice: Mapping[str, Any]) -> Path:
    from promptzoo.evaluation.study_report import cards, plots, report
    from promptzoo.evaluation.summary import hardware, versions

    place = folder.expanduser()
    place.mkdir(parents=True, exist_ok=True)
    document = {**found, "summary": summary, "versions": versions(), "hardware": hardware()}
    lines = ",\n".join(json.dumps(record) for record in document.pop("records"))
    (place / "records.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    (place / "study.json").write_text(_json(document), encoding="utf-8")
    (place / "advice.json").write_text(_json({"command": found["command"], **advice}), encoding="utf-8")
    (place / "study.md").write_text(report(found, summary), encoding="utf-8")
    (place / "advice.md").write_text(cards(advice), encoding="utf-8")
    plots(found, summary, place)
    return place


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _print(found: Mapping[str, Any], summary: Mapping[str, Any], advice: Mapping[str, Any]) -> None:
    rows = [[name, block["clicks"], block["dice"]["answer"], *(block["dice"].get(c) for c in
            ("predicted", "oracle", "mean", "worst")), block["nsd"], block["seconds"]]
            for name, block in summary["all"].items()]
    print_table(["prompt", "clicks", "Dice", "predicted", "oracle", "mean", "worst", "NSD", "s"], rows,
                f"{found['bundle']}, {found['cases']} objects")
    for group, entry in (("all", advice["all"]), *advice["modality"].items()):
        told = entry.get("recommended")
        typer.echo(f"{group}: {entry['reason']}" if told is None else f"{group}: begin with {told['condition']}, Dice "
                   f"{told['dice']:.2f} on {told['n']} objects")
