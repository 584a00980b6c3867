"""``promptzoo weights``: public weights of SAM-like networks; list them, get them, check them."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import typer

from promptzoo.cli.common import (
    EXIT_CODES,
    JSON_OPTION,
    UNEXPECTED,
    existing,
    print_json,
    print_table,
    progress,
    say,
    say_error,
    waiting,
)
from promptzoo.core.errors import PromptZooError
from promptzoo.core.locations import weights_dir
from promptzoo.networks.public import store
from promptzoo.networks.public.catalog import PublicWeights, get_public, public_weights

app = typer.Typer(no_args_is_help=True, epilog=EXIT_CODES,
                  help="Public weights of SAM-like networks: list, get, verify. They are not part of promptzoo.")


@app.command("list", help="List the public weights that promptzoo can use, with licence, size and state.")
def list_(as_json: bool = JSON_OPTION) -> None:
    """List the public weights."""
    found = public_weights()
    if as_json:
        print_json([describe(weights) for weights in found])
        return
    print_table(["name", "weights", "prompts", "licence", "MB", "state", "file"],
                [[w.name, w.title, f"{w.dimensions}D: {', '.join(w.prompts)}", w.licence, _megabytes(w), _state(w),
                  w.file] for w in found])
    typer.echo(f"{len(found)} weight files, kept in {weights_dir()} ($PROMPTZOO_WEIGHTS). Get one: promptzoo weights "
               "get NAME. Use it: promptzoo segment IMAGE --weights NAME …")


@app.command("get", help="Download a weight file, or take one that is here already, into its place.")
def get(
    name: str = typer.Argument(..., help="Name of the weights, see: promptzoo weights list."),
    source: Optional[Path] = typer.Option(None, "--from", help="A file fetched elsewhere, to be checked and copied."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Get one weight file; its licence is shown first."""
    weights = get_public(name)
    say(f"{weights.title}: {weights.licence}. {weights.record['licence_note']}")
    if source is not None:
        with waiting(f"Checking {source}", as_json):
            path = store.import_file(weights, existing(source, "--from"))
    elif store.state(weights) == store.PRESENT:
        path = store.ready(weights)
        say(f"{path} is there already.")
    else:
        from promptzoo.networks.public.download import get as download

        with progress(f"Downloading {weights.file}", as_json) as report:
            path = download(weights, report)
    _tell_unknown(weights)
    print_json(describe(weights)) if as_json else typer.echo(str(path))


@app.command("verify", help="Check weight files: size, digest, and that every tensor fits its network.")
def verify(
    name: Optional[str] = typer.Argument(None, help="Name of the weights; all that are here if none is given."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check one weight file, or all that are here."""
    chosen = [get_public(name)] if name else [w for w in public_weights() if store.state(w) != store.MISSING]
    records = [_verified(weights, as_json) for weights in chosen]
    if as_json:
        print_json(records)
    else:
        for record in records:
            typer.echo(f"{record['name']}: {'ok' if record['ok'] else record['problem']}, sha256 {record['sha256']}")
        if not records:
            typer.echo("No public weights are here. See: promptzoo weights list")
    bad = [record["name"] for record in records if not record["ok"]]
    if bad:
        say_error(f"{len(bad)} of {len(records)} are not what they should be: {', '.join(bad)}")
        raise typer.Exit(UNEXPECTED)


def _verified(weights: PublicWeights, quiet: bool) -> dict[str, Any]:
    """``name``, ``ok``, ``sha256``, ``problem``, ``tensors`` of one file."""
    from promptzoo.networks.public.loading import load_public

    path = store.place(weights)
    if not path.is_file():
        store.ready(weights)  # says how to get it
    record: dict[str, Any] = {"name": weights.name, "file": str(path), "ok": False, "sha256": None, "tensors": None,
                              "problem": None, "digest_known": bool(weights.hashes)}
    try:
        with waiting(f"Checking {weights.file}", quiet):
            record["sha256"] = store.digests(path)["sha256"]
            store.check(weights)
            record["tensors"] = len(load_public(weights, path).state_dict())
        record["ok"] = True
    except PromptZooError as error:
        record["problem"] = str(error)
    _tell_unknown(weights)
    return record


def _tell_unknown(weights: PublicWeights) -> None:
    if not weights.hashes:
        say(f"{weights.name}: {weights.record['hash_note']}")


def describe(weights: PublicWeights) -> dict[str, Any]:
    """What the description says, and what is here."""
    return {"name": weights.name, **weights.record, "state": store.state(weights), "checked": store.checked(weights),
            "place": str(store.place(weights))}


def _megabytes(weights: PublicWeights) -> str:
    path = store.place(weights)
    size = weights.bytes or (path.stat().st_size if path.is_file() else None)
    return "?" if size is None else f"{size / 1e6:.0f}"


def _state(weights: PublicWeights) -> str:
    if store.state(weights) == store.PRESENT:
        return "present, checked" if store.checked(weights) else store.PRESENT
    if store.state(weights) == store.MISSING and store.partial(weights).is_file():
        return f"missing ({store.partial(weights).stat().st_size / 1e6:.0f} MB begun)"
    return store.state(weights)
