"""JSON form of a prompt set, with a schema version."""
from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import fields
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.prompts.types import parts
from promptzoo.prompts.types.prompt_set import PromptSet

SCHEMA_VERSION = 1
_TYPES: dict[str, type] = {
    t.kind: t for t in (parts.Point, parts.Box, parts.Scribble, parts.Lasso, parts.MaskPrompt, parts.TextPrompt,
                        parts.ClassPrompt, parts.AttributePrompt, parts.ReferencePrompt, parts.TaskPrompt)}


def json_schema() -> dict:
    """The JSON schema (draft 7) of a prompt set, as shipped beside this module."""
    return json.loads(Path(__file__).with_name("prompt_set.schema.json").read_text())


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, tuple) else value


def _encode(prompt: Any) -> dict:
    if isinstance(prompt, parts.MaskPrompt):
        packed = zlib.compress(np.packbits(prompt.mask.ravel()).tobytes(), 6)
        return {"kind": "mask", "object_id": int(prompt.object_id), "shape": list(prompt.grid.shape),
                "affine": prompt.grid.affine.tolist(), "bits": base64.b64encode(packed).decode("ascii")}
    body = {f.name: _plain(getattr(prompt, f.name)) for f in fields(prompt)}
    if isinstance(prompt, parts.Box) and prompt.space == "voxel":
        body.pop("axes")
    return {"kind": prompt.kind, **body}


def _decode(entry: Any) -> Any:
    if not isinstance(entry, Mapping) or entry.get("kind") not in _TYPES:
        raise PromptError(complain("prompt kind", entry.get("kind") if isinstance(entry, Mapping) else entry,
                                   ", ".join(_TYPES)))
    body = {k: v for k, v in entry.items() if k != "kind"}
    if entry["kind"] == "mask":
        try:
            grid = Grid(tuple(body["shape"]), np.asarray(body["affine"], dtype=float))
            raw = zlib.decompress(base64.b64decode(body["bits"], validate=True))
            count = math.prod(grid.shape)
            if len(raw) != -(-count // 8):
                raise ValueError(f"{len(raw)} bytes for {count} voxels")
            bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=count)
            return parts.MaskPrompt(bits.reshape(grid.shape), grid, body.get("object_id", 1))
        except (KeyError, TypeError, zlib.error, ValueError) as error:
            raise PromptError(complain("mask prompt cannot be decoded", str(error),
                                       "shape, affine and base64 zlib bits")) from error
    if not isinstance(body.get("positive", True), bool):
        raise PromptError(complain(f"sign of a {entry['kind']} prompt", body["positive"], "true or false"))
    try:
        return _TYPES[entry["kind"]](**body)
    except TypeError as error:
        names = [f.name for f in fields(_TYPES[entry["kind"]])]
        raise PromptError(complain(f"fields of a {entry['kind']} prompt", sorted(body), ", ".join(names))) from error


def to_json(prompts: PromptSet) -> dict:
    """A prompt set as a JSON-able dictionary; nothing is rounded.

    Returns:
        ``{"schema_version", "objects", "prompts"}``, and ``"through_slices": True`` where it is wanted.
    """
    return {"schema_version": SCHEMA_VERSION,
            "objects": [{"object_id": int(o.object_id), "name": o.name, "color": _plain(o.color)}
                        for o in prompts.objects],
            "prompts": [_encode(p) for p in prompts.prompts],
            **({"through_slices": True} if prompts.through_slices else {})}


def from_json(document: object) -> PromptSet:
    """Inverse of :func:`to_json`.

    Args:
        document: the dictionary, or its JSON text.

    Raises:
        PromptError: if the text is no JSON, the version is newer than this package's, or a part is malformed.
    """
    if isinstance(document, (str, bytes)):
        try:
            document = json.loads(document)
        except ValueError as error:
            raise PromptError(complain("prompt set is not JSON", str(error), "a JSON object")) from error
    if not isinstance(document, Mapping):
        raise PromptError(complain("prompt set", type(document).__name__, "a JSON object"))
    version = document.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= SCHEMA_VERSION:
        raise PromptError(complain("prompt set schema_version", version, f"an integer from 1 to {SCHEMA_VERSION}",
                                   "Update promptzoo if the file is newer"))
    objects, prompts = document.get("objects", []), document.get("prompts", [])
    if not isinstance(objects, list) or not isinstance(prompts, list):
        raise PromptError(complain("prompt set members", [type(objects).__name__, type(prompts).__name__],
                                   "lists named objects and prompts"))
    try:
        infos = tuple(parts.ObjectInfo(o["object_id"], o.get("name", ""), o.get("color")) for o in objects)
    except (KeyError, TypeError, AttributeError) as error:
        raise PromptError(complain("object entry", objects, "object_id, name, color")) from error
    return PromptSet(tuple(_decode(p) for p in prompts), infos, document.get("through_slices", False))
