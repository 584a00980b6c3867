"""A session as a document that travels with its result, and back.

The document holds no image and no path; the user only under the name given for the export. ``prompts`` are the
prompts in force, in the form that every promptzoo command reads; ``operations`` are all that is needed to get the
same mask bit for bit from the same image, bundle version and engine.
"""
from __future__ import annotations

import json
import platform
import re
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

from promptzoo import __version__
from promptzoo.core.errors import GeometryError, PromptZooError, StoreError, complain
from promptzoo.core.geometry import Grid
from promptzoo.inference.sessions import events as kinds
from promptzoo.inference.sessions.events import Event, RecordedAnswer
from promptzoo.inference.sessions.state import fold

if TYPE_CHECKING:
    from promptzoo.inference.sessions.session import SessionInfo

FORMAT = "promptzoo-session"
FORMAT_VERSION = 1


@cache
def software_versions() -> dict[str, str]:
    """Versions of what computes masks here."""
    found = {"promptzoo": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in ("numpy", "scipy", "torch", "monai", "openvino", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def grid_to_json(grid: Grid) -> dict:
    """A grid as ``{"shape", "affine"}``; nothing is rounded."""
    return {"shape": list(grid.shape), "affine": grid.affine.tolist()}


def grid_from_json(document: Mapping[str, Any]) -> Grid:
    """Inverse of :func:`grid_to_json`. Raises GeometryError if it is malformed."""
    try:
        return Grid(tuple(document["shape"]), np.asarray(document["affine"], dtype=float))
    except (KeyError, TypeError, ValueError) as error:
        raise GeometryError(complain("grid", str(error), "shape and affine")) from error


def write_provenance(info: "SessionInfo", events: Sequence[Event], user: str | None = None) -> dict:
    """How the masks of a session came about.

    Args:
        info: of the session.
        events: its log, as far as it shall be told.
        user: what to call the user; None leaves the user out.

    Returns:
        JSON-able: ``format``, ``format_version``, ``session``, ``created``, ``exported``, ``image`` (``hash``,
        ``grid``), ``bundle`` (``name``, ``version``), ``overlap``, ``prompts`` (a prompt set), ``given`` (number,
        sequence and time of each prompt), ``operations``, ``digest``, ``estimated_dice``, ``engine``, ``software``
        (of the session and now), and ``user`` if wanted.
    """
    state = fold(events)
    shown = events[state.changed - 1].answer if state.changed else None
    document = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "session": info.id, "created": info.created,
        "exported": kinds.now(), "image": {"hash": info.image_hash, "grid": grid_to_json(info.grid)},
        "bundle": {"name": info.bundle, "version": info.bundle_version}, "overlap": state.overlap,
        "prompts": state.prompts.to_json(),
        "given": [{"number": entry.number, "sequence": entry.sequence, "time": entry.time} for entry in state.given],
        "operations": [_operation(event) for event in state.path],
        "digest": shown.digest if shown else None,
        "estimated_dice": {str(number): value for number, value in shown.estimated_dice.items()} if shown else {},
        "engine": shown.engine if shown else "",
        "software": {"session": dict(info.software), "export": software_versions()}}
    if user is not None:
        document["user"] = user
    return json.loads(json.dumps(document))


def _operation(event: Event) -> dict:
    return {"sequence": event.sequence, "time": event.time, "kind": event.kind, "payload": dict(event.payload),
            "digest": event.answer.digest if event.answer else None}


def read_operations(document: object, session: str) -> list[Event]:
    """The operations of a provenance document as the log of a new session, with the times and digests of the old one.

    Args:
        document: what :func:`write_provenance` returned, or its JSON text.
        session: id of the new session.

    Raises:
        PromptZooError: if it is not such a document, or of a newer version.
    """
    body = checked_document(document)
    try:
        engine = str(body.get("engine") or "")
        rows = [Event(session, number, _text(row, "time"), _text(row, "kind"), dict(row["payload"]),
                      RecordedAnswer(row["digest"], engine=engine) if row.get("digest") else None)
                for number, row in enumerate(body["operations"], 1)]
        strange = [row.kind for row in rows if row.kind not in kinds.OPERATIONS]
        digests = [row.answer.digest for row in rows if row.answer]
        if body.get("digest"):
            digests.append(body["digest"])
        if strange or not all(isinstance(d, str) and re.fullmatch("[0-9a-f]{64}", d) for d in digests):
            raise ValueError(f"operation {strange[0]!r}" if strange else "a digest is no SHA-256")
        if rows and body.get("digest"):
            last, estimates = rows[-1], {int(n): v for n, v in (body.get("estimated_dice") or {}).items()}
            answer = RecordedAnswer(body["digest"], estimates, 0.0, engine, last.time)
            rows[-1] = Event(session, last.sequence, last.time, last.kind, last.payload, answer)
        for prompts in (row.prompts for row in rows if row.kind == kinds.PROMPTS):
            prompts.check_on(grid_from_json(body["image"]["grid"]))
        fold(rows)
        return rows
    except (KeyError, TypeError, ValueError, AttributeError, StoreError) as error:
        raise _malformed(str(error)) from error


def checked_document(document: object) -> Mapping[str, Any]:
    """The head of a provenance document, checked.

    Raises:
        PromptZooError: if it is not one, or of a newer version.
    """
    if isinstance(document, (str, bytes)):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise _malformed(f"no JSON: {error}") from error
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise _malformed(document.get("format") if isinstance(document, Mapping) else type(document).__name__)
    version = document.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= FORMAT_VERSION:
        raise PromptZooError(complain("format_version of the session document", version,
                                      f"an integer from 1 to {FORMAT_VERSION}", "Update promptzoo if it is newer"))
    for part, names in (("image", ("hash",)), ("bundle", ("name", "version"))):
        held = document.get(part)
        if not isinstance(held, Mapping) or not all(isinstance(held.get(name), str) and held[name] for name in names):
            raise _malformed(f"{part}: {held}")
    return document


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise TypeError(f"{name} is {row[name]!r}")
    return row[name]


def _malformed(got: object) -> PromptZooError:
    return PromptZooError(complain("session document", got, f"what the export of a session wrote ({FORMAT})"))
