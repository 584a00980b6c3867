"""``promptzoo catalog``: the published systems, and which of them the bundles here reproduce."""
from __future__ import annotations

from collections import Counter
from typing import Optional

import typer

from promptzoo.cli.common import JSON_OPTION, one_of, print_json, print_table
from promptzoo.core.catalog import STATES, catalog_rows
from promptzoo.core.errors import NotFoundError, complain


def catalog(
    family: Optional[str] = typer.Option(None, help="Only systems of this mechanism family."),
    state: Optional[str] = typer.Option(None, help="Only systems that are in this state: works or planned."),
    search: Optional[str] = typer.Option(None, help="Only systems in whose entry every one of these words occurs."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the published prompt systems, with family, bundle, variant and state.

    A system works if its overlay runs from the command line, its mechanism is really there, and its family's small
    check passes on the shipped weights; else it is planned.
    """
    rows = catalog_rows()
    if state is not None:
        one_of(state, STATES, "--state")
        rows = [row for row in rows if row["state"] == state]
    if family is not None:
        known = sorted({row["family"] for row in catalog_rows()})
        if family not in known:
            raise NotFoundError(complain("--family", family, ", ".join(known)))
        rows = [row for row in rows if row["family"] == family]
    if search is not None:
        wanted = search.lower().split()
        rows = [row for row in rows if all(word in " ".join(row.values()).lower() for word in wanted)]
    if as_json:
        print_json(rows)
        return
    print_table(["id", "name", "year", "family", "prompt", "bundle", "state"],
                [[row["id"], row["name"], row["year"][:4], row["family"], _short(row["prompt_type"]), row["bundle"],
                  row["state"]] for row in rows])
    counts = Counter(row["state"] for row in rows)
    typer.echo(f"{len(rows)} systems: " + ", ".join(f"{counts[name]} {name}" for name in STATES)
               + ". Run one: promptzoo segment IMAGE --bundle BUNDLE --variant ID …")


def _short(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[:length - 1].rstrip() + "…"
