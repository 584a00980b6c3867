"""The sites of a federated training: their cases, divided, and the files through which their processes know them."""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Sequence

from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.files import write_whole
from promptzoo.training.corrections import Corrected, divide, from_datalist
from promptzoo.training.federated import FederatedPlan, Site


@dataclass(frozen=True)
class SiteCases:
    """A site's cases.

    Args:
        name: of the site.
        train: cases that it trains on.
        held: cases that it measures on.
    """

    name: str
    train: tuple[Corrected, ...]
    held: tuple[Corrected, ...]

    @classmethod
    def read(cls, told: str) -> "SiteCases":
        """From ``NAME=FILE.csv`` or ``NAME=FILE.csv#TEXT`` (only rows whose id or image path contains the text).

        Of every four cases the second is measured on, the others are trained on.

        Raises:
            PromptZooError: for another form, or fewer than two cases.
        """
        name, _, place = told.partition("=")
        file, _, match = place.partition("#")
        if not name.isidentifier() or not file:
            raise PromptZooError(complain("site", told, "NAME=FILE.csv or NAME=FILE.csv#TEXT, NAME of letters, digits "
                                                        "and underscores"))
        train, held = divide(from_datalist(file, match or None))
        return cls(name, tuple(train), tuple(held))


def write_work(work: Path, bundle: Path, sites: Sequence[SiteCases], plan: FederatedPlan) -> None:
    """Write what the processes of the sites read: ``WORK/plan.json`` and ``WORK/<site>/site.json``."""
    write_whole(work / "plan.json", json.dumps({"bundle": str(bundle), "plan": asdict(plan)}) + "\n")
    for site in sites:
        (work / site.name).mkdir(parents=True, exist_ok=True)
        write_whole(work / site.name / "site.json", json.dumps([
            {"id": case.id, "image": str(case.image.resolve()), "mask": str(case.mask.resolve()),
             "modality": case.modality, "names": {str(k): v for k, v in case.names.items()}} for case in site.train]))


def open_site(work: Path, name: str) -> Site:
    """The site of a process, from the files of :func:`write_work`."""
    told = json.loads((work / "plan.json").read_text(encoding="utf-8"))
    cases = [Corrected(entry["id"], Path(entry["image"]), Path(entry["mask"]), entry["modality"],
                       {int(k): v for k, v in entry["names"].items()})
             for entry in json.loads((work / name / "site.json").read_text(encoding="utf-8"))]
    return Site(get_bundle(told["bundle"]), name, cases, FederatedPlan(**told["plan"]), work / name)
