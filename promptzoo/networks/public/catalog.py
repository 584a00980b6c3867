"""What is known of each public weight file: one JSON per file in ``weights/``, found by the folder alone."""
from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from promptzoo.core.bundles import read_json, schema_problems
from promptzoo.core.errors import BundleError, NotFoundError, complain

FOLDER = Path(__file__).with_name("weights")
SCHEMA = "public_weights.schema.json"


@dataclass(frozen=True, eq=False)
class PublicWeights:
    """One published weight file.

    Args:
        name: the JSON file's name without suffix, for example ``medsam``.
        record: its content; see ``public_weights.schema.json`` of :mod:`promptzoo.core`.
    """

    name: str
    record: Mapping[str, Any] = field(repr=False)

    @property
    def title(self) -> str:
        """The display name."""
        return self.record["title"]

    @property
    def file(self) -> str:
        """The published file's name."""
        return self.record["file"]

    @property
    def urls(self) -> tuple[str, ...]:
        """Where a program can download it, best first; empty if only :attr:`pages` have it."""
        return tuple(self.record["urls"])

    @property
    def pages(self) -> tuple[str, ...]:
        """Pages for people: the authors' code and download pages."""
        return tuple(self.record["pages"])

    @property
    def licence(self) -> str:
        """SPDX identifier of the weights' licence, and what else must be known of it."""
        return self.record["licence"]

    @property
    def bytes(self) -> int | None:
        """Size of the file; None where it could not be established."""
        return self.record["bytes"]

    @property
    def hashes(self) -> dict[str, str]:
        """Known digests, strongest first: of ``sha256`` and ``md5`` those that could be established."""
        return {kind: self.record[kind] for kind in ("sha256", "md5") if self.record.get(kind)}

    @property
    def layout(self) -> Mapping[str, Any]:
        """``network``: dotted path of the class; ``args``; ``keys``: rules of names; ``wrapper``: key of the states."""
        return self.record["layout"]

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """``kind``, see :mod:`promptzoo.networks.public.preprocess`, and its numbers."""
        return self.record["preprocessing"]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Kinds of prompt that the weights were trained with."""
        return tuple(self.record["prompts"])

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return self.record["dimensions"]

    @property
    def multimask(self) -> str:
        """When the three candidates are asked for: ``never``, ``always`` or for ``ambiguous`` prompts."""
        return self.record["multimask"]

    @property
    def estimates(self) -> bool:
        """Whether the predicted IoU was trained, so that it estimates something."""
        return self.record["estimates"]

    @property
    def not_for(self) -> tuple[str, ...]:
        """What the weights must not be used for."""
        return tuple(self.record["not_for"])


def public_weights(folder: Path | None = None) -> list[PublicWeights]:
    """Every weight file described in ``folder`` (default :data:`FOLDER`), by name.

    Raises:
        BundleError: for a description that does not fit the schema.
    """
    return [_read(file) for file in sorted((folder or FOLDER).glob("*.json"))]


def get_public(name: str, folder: Path | None = None) -> PublicWeights:
    """One description by its name.

    Raises:
        NotFoundError: naming those there are.
        BundleError: for a description that does not fit the schema.
    """
    folder = folder or FOLDER
    known = [file.stem for file in sorted(folder.glob("*.json"))]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        raise NotFoundError(complain("public weights", name, ", ".join(known),
                                     f"Did you mean {' or '.join(near)}?" if near else ""))
    return _read(folder / f"{name}.json")


def _read(file: Path) -> PublicWeights:
    record = read_json(file)
    problems = schema_problems(record, SCHEMA)
    if problems:
        raise BundleError(f"{file.name}: " + "; ".join(problems))
    return PublicWeights(file.stem, record)
