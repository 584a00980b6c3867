"""``promptzoo bench``: measure a bundle on a datalist under one protocol."""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, List, Optional, Sequence

import typer

from promptzoo.cli import options
from promptzoo.cli.common import (
    JSON_OPTION,
    UNEXPECTED,
    command_line,
    one_of,
    print_json,
    print_table,
    progress,
    say,
    say_error,
    waiting,
    words,
)
from promptzoo.cli.public import load_named, public_info
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.core.errors import BundleError, PromptZooError, complain

SLICES = ("auto", "largest", "none")
WIDEST_TABLE = 7
"""Tables with more steps than this show the reported click counts only."""


@dataclass(frozen=True)
class Maker:
    """Makes the predictor in each process; picklable."""

    name: str
    bundle: str
    engine: str
    precision: str
    variant: str | None
    slice_wise: bool
    weights: str | None = None

    def __call__(self) -> Any:
        """Load the bundle, or public weights."""
        from promptzoo.inference import load_predictor

        predictor = (load_predictor(self.bundle, self.engine, self.precision, self.variant) if self.weights is None
                     else load_named(self.weights, self.engine, self.precision))
        if not self.slice_wise:
            return predictor
        from promptzoo.evaluation.slicewise import SliceWise

        return SliceWise(predictor)


def bench(
    ctx: typer.Context,
    datalist: str = typer.Argument(..., help="CSV with at least id, task, image, mask, label_value, modality; paths "
                                             "relative to it."),
    bundle: Optional[str] = typer.Option(None, "--bundle", "-b", help="Name of a bundle, or the path of its folder."),
    weights: Optional[str] = options.WEIGHTS,
    protocol: str = typer.Option("clicks", help="clicks, box, box+clicks, scribbles, anchors or class (the column "
                                                "label_name)."),
    clicks: Optional[int] = typer.Option(None, help="Number of clicks. Default: 10 for clicks, 5 after a box, 0 after "
                                                    "scribbles."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Write the results to this JSON file."),
    baseline: Optional[List[str]] = typer.Option(None, help="Peers on the same cases: random-walker, ellipse, "
                                                            "rectangle, graph-cut; commas or several times."),
    engine: str = options.ENGINE,
    precision: str = options.PRECISION,
    variant: Optional[str] = options.VARIANT,
    limit: Optional[int] = typer.Option(None, help="At most this many cases, drawn with the seed."),
    max_components: int = typer.Option(3, help="Objects of more connected parts are reported apart; 0: none are."),
    min_voxels: int = typer.Option(30, help="Objects of fewer voxels are reported apart."),
    measure_excluded: bool = typer.Option(False, "--measure-excluded", help="Measure those apart, too."),
    seed: int = typer.Option(0, help="Seed of the draw and of simulated scribbles."),
    jobs: int = typer.Option(1, "--jobs", "-j", help="Processes."),
    modality: Optional[List[str]] = options.MODALITY,
    task: Optional[List[str]] = options.TASK,
    match: Optional[str] = options.MATCH,
    by: Optional[str] = typer.Option(None, help="Also summarise by this column of the datalist."),
    slices: str = options.SLICES,
    slice_wise: bool = typer.Option(False, "--slice-wise", help="Use a 2D bundle on volumes, slice by slice."),
    box_style: str = typer.Option("mid-slice", help="Box of a volume: mid-slice (with the range of slices) or tight."),
    robustness: bool = typer.Option(False, "--robustness", help="Also measure disturbed prompts and corrections."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Measure a bundle on a datalist, with simulated or recorded prompts.

    Clicks go to the centre of the largest error, as in the CVPR 2025 challenge of interactive 3D segmentation; surface
    Dice is at 2 mm, areas under the curve are over five clicks. Prints a table by modality.
    """
    from promptzoo.evaluation.bench import run_bench, write_results
    from promptzoo.evaluation.datalist import Datalist

    if words(task) == ["detection"]:
        from promptzoo.cli.bench_detection import bench_detection

        bench_detection(datalist, bundle, weights, variant, engine, precision, limit, seed, match, out, as_json,
                        command_line(ctx))
        return
    info = checked_bundle(bundle, variant, slice_wise, weights)
    reduce = slices_of(info, slices, slice_wise)
    listed = Datalist.read(datalist, modalities=words(modality) or None, match=match, min_voxels=min_voxels,
                           tasks=words(task) or tasks_of(info, slice_wise), slices=reduce,
                           max_components=max_components or None)
    if max_components < 0 or min_voxels < 0 or seed < 0:
        raise PromptZooError(complain("max components, min voxels, seed", [max_components, min_voxels, seed],
                                      "0 or more"))
    name = info.name + (" (slice-wise)" if slice_wise else "")
    maker = Maker(name, str(info.path), engine, precision, variant, slice_wise, weights)
    predictor: Any = maker
    if jobs == 1 or robustness:
        with waiting(f"Loading {info.name}", as_json):
            predictor = maker()
    with progress(f"{info.name}, {protocol}", as_json) as report:
        results = run_bench(
            listed, predictor if jobs == 1 else maker, protocol, clicks, baselines=words(baseline), limit=limit,
            box_style=box_style, seed=seed, jobs=jobs, progress=report, command=command_line(ctx),
            measure_excluded=measure_excluded, by=by)
    if robustness:
        from promptzoo.evaluation.robustness import run_robustness

        with progress(f"{info.name}, robustness", as_json) as report:
            results["robustness"] = run_robustness(listed, predictor, seed=seed, progress=report,
                                                   **({} if limit is None else {"limit": limit}))
    results["bundle_version"], results["variant"] = info.version, variant
    if out is not None:
        say(f"Results: {write_results(out, results)}")
    print_json(_brief(results)) if as_json else _print(results)
    errors = results["errors"]
    if errors:
        say_error(f"{len(errors)} of {results['datalist']['measured']} cases failed and are in no mean; the first, "
                  f"{errors[0]['id']}: {errors[0]['kind']}: {errors[0]['error']}")
    if not results["cases"]:
        say_error("no case was measured")
        raise typer.Exit(UNEXPECTED)


def checked_bundle(bundle: str | None, variant: str | None, slice_wise: bool, weights: str | None = None) -> BundleInfo:
    """The bundle or the public weights, found to be measurable before anything heavy starts."""
    if bundle is None and weights is None:
        raise PromptZooError(complain("what to measure", "nothing", "--bundle NAME or --weights NAME"))
    info = get_bundle(str(bundle)) if weights is None else public_info(weights, bundle, variant)
    if variant is not None:
        info.variant(variant)
    if info.task != "segmentation":
        raise BundleError(complain(f"task of {info.name}", info.task, "segmentation", "Only masks can be measured"))
    if slice_wise and info.dimensions != 2:
        raise PromptZooError(complain(f"slice-wise use of {info.name}", f"a {info.dimensions}D bundle", "a 2D bundle"))
    return info


def slices_of(info: BundleInfo, wanted: str, slice_wise: bool) -> str | None:
    """The slices rule of a datalist, from an option of :data:`SLICES`."""
    one_of(wanted, SLICES, "slices option")
    if slice_wise:
        if wanted == "largest":
            raise PromptZooError(complain("slices option with --slice-wise", wanted, "auto or none"))
        return None
    if wanted == "auto":
        return "largest" if info.dimensions == 2 else None
    return None if wanted == "none" else wanted


def tasks_of(info: BundleInfo, slice_wise: bool) -> list[str] | None:
    """The tasks of a datalist that a bundle's dimensions allow; None for all."""
    return ["seg3d", "seg"] if info.dimensions == 3 or slice_wise else None


def _brief(results: dict) -> dict:
    """The results without their cases."""
    short = {key: value for key, value in results.items() if key not in ("cases", "baselines", "excluded")}
    short["baselines"] = {name: {k: v for k, v in block.items() if k != "cases"}
                          for name, block in results["baselines"].items()}
    excluded = results["excluded"]
    short["excluded"] = {"n": excluded["n"], "summary": excluded["summary"]}
    return short


def _shown_steps(steps: Sequence[str]) -> list[int]:
    from promptzoo.evaluation.protocols import REPORTED_CLICKS

    if len(steps) <= WIDEST_TABLE:
        return list(range(len(steps)))
    names = {f"click {n}" for n in REPORTED_CLICKS}
    return [n for n, step in enumerate(steps) if step in names or not step.startswith("click") or n == len(steps) - 1]


def _print(results: dict) -> None:
    summary = results["summary"]
    shown = _shown_steps(summary["steps"])
    line = partial(_line, shown=shown)
    rows = [line(f"{name}", block) for name, block in summary["by_modality"].items()]
    rows += [line(f"{name or 'no value'}", block) for name, block in results["groups"].items()]
    rows.append(line("all", summary))
    rows += [line(f"all, {name}", block["summary"]) for name, block in results["baselines"].items()]
    if results["excluded"]["summary"]:
        rows.append(line("apart", results["excluded"]["summary"]))
    columns = ["modality", "cases", *(f"Dice {summary['steps'][n]}" for n in shown), "NSD last", "NoC90", "DSC AUC",
               "NSD AUC", "s/step"]
    print_table(columns, rows, f"{results['bundle']}, {results['protocol']}, {results['engine'] or 'no engine'}")
    listed, apart = results["datalist"], results["excluded"]["n"]
    parts = listed["max_components"] or "any number of"
    typer.echo(f"{listed['measured']} cases, {apart} apart (fewer than {listed['min_voxels']} voxels or more than "
               f"{parts} parts), {len(results['errors'])} failed")
    told = [f"{k} {v}" for k, v in results["calibration"].items() if isinstance(v, (int, float))]
    if results["calibration"].get("n"):
        typer.echo("estimated Dice: " + ", ".join(told))
    if "robustness" in results:
        _print_robustness(results["robustness"])


def _line(name: str, block: dict, shown: Sequence[int]) -> list:
    if not block["n"]:
        return [name, 0, *([None] * (len(shown) + 5))]
    seconds = sorted(block["seconds_p50"])[len(block["seconds_p50"]) // 2]
    return [name, block["n"], *(block["dice"][n] for n in shown), block["nsd"][-1], block["noc90"], block["dsc_auc"],
            block["nsd_auc"], seconds]


def _print_robustness(block: dict) -> None:
    rows = [[name, *(f"{level}: {value:.3f}" for level, value in curve.items())]
            for name, curve in block["curves"].items()]
    width = max((len(row) for row in rows), default=1)
    columns = ["disturbed prompt", *(["Dice"] * (width - 1))]
    print_table(columns, [row + [""] * (width - len(row)) for row in rows], f"Robustness, {block['n']} cases")
    steps, pairs = block["monotonicity"], block["two_objects"]
    typer.echo(f"correct clicks that lower Dice by over {steps['threshold']}: {steps['drops']} of {steps['steps']}")
    typer.echo(f"two objects in one call: {pairs['passed']} of {pairs['n']} pairs well")
    for name, entry in block["negative_click"].items():
        typer.echo(f"negative click {name.replace('_', ' ')} removes the place: {entry['removed']} of {entry['n']}")
