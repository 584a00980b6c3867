"""What can happen in a session: the events of the log, as they are stored.

======================  ===========================================================================  ========
kind                    payload                                                                      undoable
======================  ===========================================================================  ========
``prompts``             ``first`` (number of the first prompt), ``set`` (a prompt set as JSON; its       yes
                        ``through_slices`` holds from here on)
``prompt_deleted``      ``number``                                                                   yes
``object_added``        ``object_id``, ``name``, ``color``                                           yes
``object_renamed``      ``object_id``, ``name``                                                      yes
``object_recolored``    ``object_id``, ``color``                                                     yes
``object_removed``      ``object_id``; its prompts go with it                                        yes
``overlap``             ``rule``, see :data:`promptzoo.core.protocols.OVERLAP_RULES`                 yes
``through_slices``      ``on``: whether 2D bundles carry prompts through a volume                    yes
``undo``, ``redo``      nothing                                                                      –
``saved``               ``digest`` of the label map, ``place``, what the saver adds                  no
``note``                ``text``                                                                     no
======================  ===========================================================================  ========
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Mapping

import numpy as np

from promptzoo.core.errors import PromptError, StoreError, complain
from promptzoo.prompts.types import PromptSet

PROMPTS, PROMPT_DELETED, OVERLAP, THROUGH_SLICES, UNDO, REDO, SAVED, NOTE = (
    "prompts", "prompt_deleted", "overlap", "through_slices", "undo", "redo", "saved", "note")
OBJECT_ADDED, OBJECT_RENAMED, OBJECT_RECOLORED, OBJECT_REMOVED = (
    "object_added", "object_renamed", "object_recolored", "object_removed")
OPERATIONS = frozenset({PROMPTS, PROMPT_DELETED, OBJECT_ADDED, OBJECT_RENAMED, OBJECT_RECOLORED, OBJECT_REMOVED,
                        OVERLAP, THROUGH_SLICES})
"""Kinds that change what is seen: one undo takes back one of them."""

KINDS = OPERATIONS | {UNDO, REDO, SAVED, NOTE}
"""Every kind of event."""


@dataclass(frozen=True)
class RecordedAnswer:
    """What the user was shown after an event.

    Args:
        digest: of the label map, see :func:`label_digest`.
        estimated_dice: by object id; None where the bundle has no estimate.
        seconds: that the answer took.
        engine: that computed it; another one may differ in the last bits.
        time: when it was recorded, UTC.
    """

    digest: str
    estimated_dice: Mapping[int, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    engine: str = ""
    time: str = ""


@dataclass(frozen=True, eq=False)
class Event:
    """One line of the log.

    Args:
        session: id of the session.
        sequence: 1, 2, … within the session, without gaps.
        time: UTC, ISO 8601 with microseconds and ``Z``.
        kind: one of :data:`KINDS`.
        payload: see the table of this module.
        answer: the first answer recorded for the state after this event, None if none was.
    """

    session: str
    sequence: int
    time: str
    kind: str
    payload: Mapping[str, Any]
    answer: RecordedAnswer | None = None

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompt set of a ``prompts`` event.

        Raises:
            StoreError: if the log holds something else.
        """
        try:
            return PromptSet.from_json(self.payload["set"])
        except (KeyError, PromptError) as error:
            raise broken(self, error) from error


def broken(event: Event, error: object) -> StoreError:
    """The error for an event that no version of promptzoo writes."""
    return StoreError(complain(f"event {event.sequence} of session {event.session} ({event.kind}) is damaged",
                               str(error), "an event as promptzoo writes it", "Restore the log from a backup"))


def now() -> str:
    """The present time in the form of the log."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks, so that equal values are equal texts; floats keep every bit."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def label_digest(labels: np.ndarray) -> str:
    """SHA-256 of a label map: its shape and its values as little-endian uint16, ``i`` slowest; the type does not count.

    Raises:
        PromptError: for values outside 0 … 65535.
    """
    array = np.asarray(labels)
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise PromptError(complain("label map", [int(array.min()), int(array.max())], "values from 0 to 65535"))
    digest = hashlib.sha256(repr(tuple(int(n) for n in array.shape)).encode())
    digest.update(np.ascontiguousarray(array, dtype="<u2").tobytes())
    return digest.hexdigest()
