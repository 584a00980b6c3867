"""From the log to what is seen: pure functions of the events, nothing else.

The *path* is the list of operations that are not undone. An undo takes the last one off and keeps it for redo; a new
operation forgets what could be redone (the log does not). The state is what the operations of the path add up to.

The answer to a state follows from its *steps*: every operation of the path that added prompts is one decode, which
refines the answer of the step before. Prompts deleted later are left out from the start, as if they had never been
given, so that nothing of them stays in the mask; a step left without prompts is no step. Removing an object takes its
mask away and leaves the other masks as they were. Switching ``through_slices`` is a decode of the prompts in force,
which keeps the masks of the slices that were prompted. Names are those at the time of the step: renaming costs no
decode.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Iterable, Sequence

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import OVERLAP_RULES
from promptzoo.inference.sessions import events as kinds
from promptzoo.inference.sessions.events import Event, broken, canonical
from promptzoo.prompts.types import ObjectInfo, PromptSet


@dataclass(frozen=True)
class GivenPrompt:
    """A prompt in force: its ``number`` in the session, and the event (``sequence``, ``time``) that added it."""

    number: int
    prompt: Any
    sequence: int
    time: str


@dataclass(frozen=True, eq=False)
class SessionState:
    """What a session shows after some events.

    Args:
        sequence: number of the last event, 0 if there was none.
        changed: number of the last event that changed what is seen; the recorded answer to this state is there.
        given: the prompts in force, oldest first.
        objects: in the order in which they were added.
        overlap: who owns a voxel claimed twice, see :data:`promptzoo.core.protocols.OVERLAP_RULES`.
        through_slices: whether 2D bundles carry prompts through a volume.
        undo_depth: operations that can be undone.
        redo_depth: operations that can be redone.
        next_number: number of the next prompt; numbers are never given twice.
        path: the operations that are not undone.
    """

    sequence: int = 0
    changed: int = 0
    given: tuple[GivenPrompt, ...] = ()
    objects: tuple[ObjectInfo, ...] = ()
    overlap: str = OVERLAP_RULES[0]
    through_slices: bool = False
    undo_depth: int = 0
    redo_depth: int = 0
    next_number: int = 1
    path: tuple[Event, ...] = ()

    @cached_property
    def prompts(self) -> PromptSet:
        """The prompts in force as a prompt set in world space."""
        return PromptSet(tuple(entry.prompt for entry in self.given), self.objects, self.through_slices)

    @cached_property
    def steps(self) -> tuple["Step", ...]:
        """How the answer to this state comes about, see :class:`Step`."""
        return _steps(self.path)

    def object(self, object_id: int) -> ObjectInfo | None:
        """The object of an id, None if there is none."""
        return next((info for info in self.objects if info.object_id == object_id), None)


@dataclass(frozen=True, eq=False)
class Step:
    """One step towards an answer: a decode, or an object taken away.

    Args:
        sequence: the event behind it.
        key: hash over this step and all before it; equal keys mean equal answers of the same predictor to the same
            image.
        dropped: id of the object to take away; None for a decode.
        given: the prompts to decode.
        objects: the objects to decode.
        through_slices: whether 2D bundles carry the prompts through a volume.
    """

    sequence: int
    key: str
    dropped: int | None = None
    given: tuple[Any, ...] = ()
    objects: tuple[ObjectInfo, ...] = ()
    through_slices: bool = False

    @property
    def prompts(self) -> PromptSet:
        """The prompt set to decode."""
        return PromptSet(self.given, self.objects, self.through_slices)


def fold(events: Iterable[Event]) -> SessionState:
    """The state after some events.

    Args:
        events: from the first one on, in order.

    Raises:
        StoreError: if they are not a log that promptzoo writes.
    """
    path: list[Event] = []
    undone: list[Event] = []
    sequence, changed, next_number = 0, 0, 1
    for event in events:
        if event.sequence != sequence + 1:
            raise broken(event, f"the event before it is {sequence}")
        sequence = event.sequence
        if event.kind in (kinds.UNDO, kinds.REDO):
            source, target = (path, undone) if event.kind == kinds.UNDO else (undone, path)
            if not source:
                raise broken(event, f"nothing to {event.kind}")
            target.append(source.pop())
        elif event.kind in kinds.OPERATIONS:
            path.append(event)
            undone.clear()
            if event.kind == kinds.PROMPTS:
                next_number = max(next_number, _field(event, "first") + len(event.prompts))
        elif event.kind in kinds.KINDS:
            continue
        else:
            raise broken(event, "unknown kind")
        changed = sequence
    board = _Board.of(path)
    for event in path:
        board.apply(event)
    return SessionState(sequence, changed, tuple(board.given), tuple(board.objects.values()), board.overlap,
                        board.through_slices, len(path), len(undone), next_number, tuple(path))


@dataclass
class _Board:
    """What the operations add up to."""

    deleted: frozenset[int]
    given: list[GivenPrompt] = field(default_factory=list)
    objects: dict[int, ObjectInfo] = field(default_factory=dict)
    overlap: str = OVERLAP_RULES[0]
    through_slices: bool = False

    @classmethod
    def of(cls, path: Sequence[Event]) -> "_Board":
        """A board for a path, on which prompts deleted anywhere along it never appear."""
        return cls(frozenset(_field(event, "number") for event in path if event.kind == kinds.PROMPT_DELETED))

    def apply(self, event: Event) -> list[int]:
        """Do one operation.

        Returns:
            Positions, in the event's own list, of the prompts that it brought into force.
        """
        try:
            return self._apply(event)
        except (KeyError, TypeError, PromptError) as error:
            raise broken(event, error) from error

    def _apply(self, event: Event) -> list[int]:
        body, fresh = event.payload, []
        if event.kind == kinds.PROMPTS:
            self.objects.update((info.object_id, info) for info in event.prompts.objects)
            self.through_slices = event.prompts.through_slices
            for place, prompt in enumerate(event.prompts.prompts):
                if body["first"] + place not in self.deleted:
                    fresh.append(place)
                    self.given.append(GivenPrompt(body["first"] + place, prompt, event.sequence, event.time))
        elif event.kind == kinds.OBJECT_ADDED:
            self.objects[body["object_id"]] = ObjectInfo(body["object_id"], body["name"], body["color"])
        elif event.kind == kinds.OBJECT_RENAMED:
            self.objects[body["object_id"]] = replace(self.objects[body["object_id"]], name=body["name"])
        elif event.kind == kinds.OBJECT_RECOLORED:
            self.objects[body["object_id"]] = replace(self.objects[body["object_id"]], color=body["color"])
        elif event.kind == kinds.OBJECT_REMOVED:
            del self.objects[body["object_id"]]
            self.given = [entry for entry in self.given if entry.prompt.object_id != body["object_id"]]
        elif event.kind == kinds.OVERLAP:
            if body["rule"] not in OVERLAP_RULES:
                raise PromptError(complain("overlap rule", body["rule"], ", ".join(OVERLAP_RULES)))
            self.overlap = body["rule"]
        elif event.kind == kinds.THROUGH_SLICES:
            if not isinstance(body["on"], bool):
                raise PromptError(complain("through_slices", body["on"], "true or false"))
            self.through_slices = body["on"]
        return fresh


def _steps(path: Sequence[Event]) -> tuple[Step, ...]:
    board, found, key = _Board.of(path), [], ""
    for event in path:
        fresh = board.apply(event)
        objects = tuple(board.objects.values())
        if event.kind == kinds.OBJECT_REMOVED:
            dropped = event.payload["object_id"]
            key = _next_key(key, {"dropped": dropped})
            found.append(Step(event.sequence, key, dropped))
        elif fresh or (event.kind == kinds.THROUGH_SLICES and board.given):
            entries = event.payload["set"]["prompts"] if fresh else ()
            through = {"through_slices": True} if board.through_slices else {}
            key = _next_key(key, {"added": [entries[place] for place in fresh], **through,
                                  "objects": [[info.object_id, info.name, info.color] for info in objects]})
            found.append(Step(event.sequence, key, None, tuple(entry.prompt for entry in board.given), objects,
                              board.through_slices))
    return tuple(found)


def _next_key(key: str, token: Any) -> str:
    return hashlib.sha256(f"{key}\n{canonical(token)}".encode()).hexdigest()


def _field(event: Event, name: str) -> int:
    value = event.payload.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise broken(event, f"{name} is {value!r}")
    return value
