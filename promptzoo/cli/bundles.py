"""``promptzoo bundles``: what is here, what it takes, what it was measured to do, what it is not for."""
from __future__ import annotations

from typing import Any, Iterator

import typer

from promptzoo.cli.choice import weights_present, weights_record
from promptzoo.cli.common import EXIT_CODES, JSON_OPTION, console, print_json, print_table
from promptzoo.core.bundles import BundleInfo, find_bundles, get_bundle

app = typer.Typer(invoke_without_command=True, epilog=EXIT_CODES,
                  help="List the bundles, or show one of them: promptzoo bundles show NAME.")
_NUMBERS_SHOWN = 24


@app.callback()
def bundles(ctx: typer.Context, as_json: bool = JSON_OPTION) -> None:
    """List the bundles."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = as_json
        return
    found = find_bundles()
    if as_json:
        print_json([describe(info) for info in found])
        return
    print_table(["bundle", "version", "task", "dimensions", "prompts", "weights", "systems"],
                [[info.name, info.version, info.task, f"{info.dimensions}D", ", ".join(info.prompts), _weights(info),
                  f"{sum(s == 'works' for s in info.systems.values())} of {len(info.systems)}"] for info in found])
    typer.echo(f"{len(found)} bundles. More about one: promptzoo bundles show NAME")


@app.command("show", help="Show one bundle: prompts, weights, systems, measured results, what it is not for.")
def show(
    ctx: typer.Context,
    name: str = typer.Argument(..., help="Name of a bundle, or the path of its folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Print everything that a bundle says about itself."""
    info = get_bundle(name)
    record = {**describe(info), "weights": {**describe(info)["weights"], **weights_record(info)},
              "results": info.results()}
    print_json(record) if as_json or ctx.obj else _print(info, record)


def describe(info: BundleInfo) -> dict[str, Any]:
    """What a bundle's metadata says, without its results and hashes."""
    return {
        "name": info.name, "version": info.version, "title": info.title, "description": info.description,
        "family": info.family, "task": info.task, "prompts": list(info.prompts), "dimensions": info.dimensions,
        "weights": {**info.weights, "present": weights_present(info)},
        "systems": dict(info.systems), "variants": list(info.variants()), "precision": dict(info.precision),
        "not_for": list(info.not_for)}


def _weights(info: BundleInfo) -> str:
    if info.weights["kind"] == "none":
        return "none"
    path = info.weights_path
    if path is None or not path.is_file():
        return f"{info.weights['kind']}, missing"
    return f"{info.weights['kind']}, {path.stat().st_size / 1e6:.1f} MB"


def _print(info: BundleInfo, record: dict[str, Any]) -> None:
    weights, out = record["weights"], console()
    present = f"{weights['bytes']} bytes, sha256 {weights['sha256']}" if weights["present"] else "missing"
    lines = [("", f"{info.title} ({info.name} {info.version})"), ("", info.description),
             ("family", info.family), ("task", f"{info.task}, {info.dimensions}D"),
             ("prompts", ", ".join(info.prompts)),
             ("weights", f"{weights['kind']}: {weights.get('file') or 'no file'}, {present}"),
             ("licence", weights["licence"]), ("trained on", weights["trained_on"]),
             ("systems", ", ".join(f"{name} ({state})" for name, state in info.systems.items()) or "none"),
             ("precision", ", ".join(f"{name} {_first_to_last(value)}" for name, value in info.precision.items())
              or "fp32"),
             *(("not for", sentence) for sentence in info.not_for)]
    for label, text in lines:
        out.print(f"{label + ':':<12}{text}" if label else text, markup=False)
    blocks = list(measured(record["results"]))
    out.print("measured:" if blocks else "measured:   nothing yet", markup=False)
    for title, numbers, command in blocks:
        shown = ", ".join(f"{name} {value:g}" for name, value in numbers[:_NUMBERS_SHOWN])
        more = f", and {len(numbers) - _NUMBERS_SHOWN} more" if len(numbers) > _NUMBERS_SHOWN else ""
        out.print(f"  {title or 'all'}: {shown}{more}", markup=False)
        out.print(f"    {command}", markup=False)


def measured(results: Any, title: str = "") -> Iterator[tuple[str, list[tuple[str, float]], str]]:
    """The blocks of ``docs/results.json``: ``(title, named numbers, the command that reproduces them)``."""
    if not isinstance(results, dict):
        return
    if isinstance(results.get("command"), str):
        yield title, list(_numbers({k: v for k, v in results.items() if k != "command"})), results["command"]
        return
    for name, value in results.items():
        yield from measured(value, f"{title}.{name}" if title else str(name))


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{name}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def _first_to_last(precision: str | list[str]) -> str:
    """A precision, or several in the order in which they are tried."""
    return precision if isinstance(precision, str) else " else ".join(precision)
