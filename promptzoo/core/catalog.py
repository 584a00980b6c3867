"""The catalog of published prompt systems, and which of them the bundles here reproduce."""
from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Iterable

from promptzoo.core.bundles import BundleInfo, find_bundles
from promptzoo.core.errors import NotFoundError, complain

STATES = ("works", "planned")


@dataclass(frozen=True)
class System:
    """One published system.

    Args:
        id: short name, also the name of its variant overlay.
        name, first_author, year: as published; ``year`` is free text.
        task: segmentation, detection, classification, generation, vqa-conversation, representation …
        modality_or_organ: what it was published for.
        prompt_type: what a person gives it.
        prompt_mechanism: how the prompt acts on the network.
        family: id of its mechanism family.
    """

    id: str
    name: str
    first_author: str
    year: str
    task: str
    modality_or_organ: str
    prompt_type: str
    prompt_mechanism: str
    family: str


@cache
def systems() -> tuple[System, ...]:
    """All systems, in the catalog's order."""
    names = [f.name for f in fields(System)]
    with Path(__file__).with_name("catalog.csv").open(encoding="utf-8", newline="") as file:
        return tuple(System(*(row[name] for name in names)) for row in csv.DictReader(file))


def get_system(system_id: str) -> System:
    """One system by id.

    Raises:
        NotFoundError: if the catalog has no such id.
    """
    found = next((s for s in systems() if s.id == system_id), None)
    if found is None:
        raise NotFoundError(complain("catalog id", system_id, "an id of: promptzoo catalog"))
    return found


def homes(system: System, bundles: Iterable[BundleInfo]) -> list[tuple[BundleInfo, bool]]:
    """The bundles that have an overlay for ``system``, and whether the system works there.

    It works where the bundle is of the system's family, has the overlay, and its metadata says so; the contract suite
    keeps the metadata from saying it of a system whose checks do not pass.
    """
    return [(bundle, bundle.systems.get(system.id) == "works") for bundle in bundles
            if bundle.family == system.family and system.id in bundle.variants()]


def catalog_rows(bundles_dir: str | Path | None = None) -> list[dict[str, str]]:
    """One row per system: the catalog's columns, ``bundle``, ``variant`` (overlay path in the bundle) and ``state``.

    Args:
        bundles_dir: the folder of bundles; the installed ones if None.

    Returns:
        Rows in the catalog's order. ``bundle`` names every bundle that has the overlay, separated by a comma; where a
        system works in one of them, only those in which it works.
    """
    bundles = find_bundles(bundles_dir)
    rows = []
    for system in systems():
        places = homes(system, bundles)
        works = any(state for _, state in places)
        names = [bundle.name for bundle, state in places if state or not works]
        rows.append({**asdict(system), "bundle": ", ".join(names),
                     "variant": f"configs/variants/{system.id}.json" if places else "",
                     "state": STATES[0] if works else STATES[1]})
    return rows
