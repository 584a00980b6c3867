"""Corrected cases as training data: the saved label of an image, and the prompts that led to it."""
from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.evaluation.datalist import COLUMNS, Datalist, Row
from promptzoo.prompts.types import PromptSet
from promptzoo.training.real import LICENCE_COLUMN, OWN_CLASS

HELD_BACK_EVERY = 4
"""Of so many cases, in the order in which they were first saved, the second is never trained on."""
FIRST_PROMPTS = ("box", "point", "scribble", "lasso", "mask")
"""The kinds of a first prompt in the order of ``WindowAnnotator``'s ``first``."""


@dataclass(frozen=True)
class Corrected:
    """One image with its corrected label.

    Args:
        id: of the image.
        image: file or DICOM folder.
        mask: label map on the image's voxels.
        modality: ``CT``, ``MR`` …; empty if unknown.
        names: of the objects, by their value in the label map.
        log: the session behind it as its export tells it; empty if there is none.
    """

    id: str
    image: Path
    mask: Path
    modality: str
    names: Mapping[int, str]
    log: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clicks(self) -> int:
        """Prompts that were given."""
        return len(self.log.get("given", ()))

    def first_prompts(self) -> dict[int, PromptSet]:
        """What was given first for each object, in world space; nothing where the log cannot be read."""
        found: dict[int, PromptSet] = {}
        try:
            for step in self.log.get("operations", ()):
                if step.get("kind") != "prompts":
                    continue
                told = PromptSet.from_json(step["payload"]["set"])
                for number in {prompt.object_id for prompt in told.prompts} - set(found):
                    found[number] = told.for_object(number)
        except (PromptZooError, KeyError, TypeError, AttributeError):
            return found
        return found


def read_log(label: Path) -> dict[str, Any]:
    """The prompt log that is saved beside a label (``NAME.prompts.json``); empty if there is none."""
    file = label.with_name(f"{label.name.partition('.nii')[0]}.prompts.json")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def from_datalist(path: str | Path, match: str | None = None) -> list[Corrected]:
    """Corrected cases of a CSV as :class:`promptzoo.evaluation.datalist.Datalist` reads it, an image a case.

    Args:
        path: of the CSV.
        match: only rows whose id or image path contains this text.

    Raises:
        NotFoundError, ImageError: as the datalist.
        PromptZooError: if rows of one image name different mask files.
    """
    images: dict[Path, list[Row]] = {}
    for row in Datalist.read(path, match=match).rows:
        images.setdefault(row.image, []).append(row)
    cases = []
    for image, rows in images.items():
        masks = {row.mask for row in rows}
        if len(masks) > 1:
            raise PromptZooError(complain(f"masks of {image.name}", sorted(m.name for m in masks),
                                          "one label map for each image"))
        names = {row.label_value or 0: row.extra.get("label_name") or row.id for row in rows}
        cases.append(Corrected(rows[0].id, image, rows[0].mask, rows[0].modality, names, read_log(rows[0].mask)))
    return cases


def divide(cases: Sequence[Corrected], known: Mapping[str, str] | None = None
           ) -> tuple[list[Corrected], list[Corrected]]:
    """The cases to train on and those held back to compare versions on.

    Args:
        cases: in the order in which they were saved.
        known: ``train`` or ``held`` by id, of the trainings before; such a case stays where it was.

    Raises:
        PromptZooError: if one of both is empty.
    """
    known, parts = dict(known or {}), {"train": [], "held": []}  # type: dict[str, str], dict[str, list[Corrected]]
    for case in cases:
        part = known.setdefault(case.id, "held" if len(known) % HELD_BACK_EVERY == 1 else "train")
        parts[part].append(case)
    if not parts["train"] or not parts["held"]:
        raise PromptZooError(complain("corrected cases", f"{len(parts['train'])} to train on, {len(parts['held'])} "
                                      "held back to compare on", "at least 1 of each, which 2 new cases give",
                                      "Save the labels of more images"))
    return parts["train"], parts["held"]


def write_datalist(cases: Sequence[Corrected], file: Path) -> None:
    """The cases as a datalist, a row for each object."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([*COLUMNS, "label_name", LICENCE_COLUMN])
        for case in cases:
            for value, name in case.names.items():
                table.writerow([f"{case.id}#{value}", "seg", case.image.resolve(), case.mask.resolve(), value or "",
                                case.modality, name, OWN_CLASS])


def habits(cases: Sequence[Corrected], usual: Sequence[float], trust: float = 20.0) -> list[float]:
    """How often each of :data:`FIRST_PROMPTS` shall begin a simulated interaction: as the people here begin theirs.

    Args:
        cases: with their logs.
        usual: shares without any log; they count as ``trust`` objects.
        trust: see there.
    """
    seen = Counter(kind for case in cases for prompts in case.first_prompts().values() for kind in prompts.kinds)
    counts = [share * trust + seen[kind] for share, kind in zip(usual, FIRST_PROMPTS)]
    return [round(count / sum(counts), 4) for count in counts]
