"""One session: appends to its log, and what the log adds up to."""
from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence

from promptzoo.core.errors import ConflictError, NotFoundError, PromptError, PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import OVERLAP_RULES
from promptzoo.inference.sessions import events as kinds
from promptzoo.inference.sessions.database import Database
from promptzoo.inference.sessions.events import Event, RecordedAnswer
from promptzoo.inference.sessions.provenance import write_provenance
from promptzoo.inference.sessions.rows import add_answer, append_event, read_events
from promptzoo.inference.sessions.state import SessionState, fold
from promptzoo.prompts.types import ObjectInfo, PromptSet


@dataclass(frozen=True, eq=False)
class SessionInfo:
    """What a session is about; fixed when it is made.

    Args:
        id: 32 hexadecimal digits.
        image_id: name of the image where the session was made.
        image_hash: :attr:`promptzoo.core.volume.Volume.content_hash` of the image.
        user: who prompts; a pseudonym will do.
        bundle, bundle_version: who answers.
        grid: of the image.
        created: UTC.
        software: versions that made the session.
        origin: empty, or what is known of the session of which this one is a copy.
        sequence: number of the last event when this was read.
        updated: time of that event, or ``created``.
    """

    id: str
    image_id: str
    image_hash: str
    user: str
    bundle: str
    bundle_version: str
    grid: Grid
    created: str
    software: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    updated: str = ""


class Session:
    """The log of one session; made by :class:`~promptzoo.inference.sessions.store.SessionStore`, safe to use from
    several threads and beside other processes.

    Every method that writes takes ``expected_sequence``: the number of the last event that the caller has seen. If
    someone else has written since, nothing is written and a :class:`ConflictError` is raised. Without it the event is
    put behind whatever was written. When a method returns, its event is on the disk.
    """

    def __init__(self, database: Database, info: SessionInfo) -> None:
        self.info = info
        self._database = database
        self._events: list[Event] = []
        self._state = SessionState()
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The session's id."""
        return self.info.id

    def events(self, upto: int | None = None) -> list[Event]:
        """The log with the answers recorded, oldest event first.

        Args:
            upto: last sequence number wanted.

        Raises:
            NotFoundError: if there are fewer events.
        """
        found = read_events(self._database, self.id)
        if upto is not None and not 0 <= upto <= len(found):
            raise NotFoundError(complain(f"event of session {self.id}", upto, f"0 … {len(found)}"))
        return found[:upto]

    def state(self, upto: int | None = None) -> SessionState:
        """What the session shows now, or what it showed after event ``upto``."""
        if upto is not None:
            return fold(self.events(upto))
        with self._lock:
            fresh = read_events(self._database, self.id, self._state.sequence)
            if fresh:
                self._events += fresh
                self._state = fold(self._events)
            return self._state

    def add(self, prompts: PromptSet | Sequence[Any], objects: Iterable[ObjectInfo] = (),
            expected_sequence: int | None = None, through_slices: bool | None = None) -> Event:
        """Add prompts; one undo takes them back together.

        Args:
            prompts: a prompt set, or prompts; voxel indices are those of the image.
            objects: names and colours of objects spoken of; new objects are added, known ones get what is given.
            through_slices: whether 2D bundles carry prompts through a volume from here on; None as before, or as a
                prompt set says that is given.

        Raises:
            PromptError: if there is no prompt, or one does not fit the image.
        """
        given = prompts.prompts if isinstance(prompts, PromptSet) else tuple(prompts)
        if through_slices is None and isinstance(prompts, PromptSet) and prompts.through_slices:
            through_slices = True
        told = tuple(objects) or (prompts.objects if isinstance(prompts, PromptSet) else ())
        if not given:
            raise PromptError(complain("prompts to add", "none", "at least one prompt"))
        placed = PromptSet(given).check_on(self.info.grid).to_world(self.info.grid)

        def payload(state: SessionState) -> dict:
            named = {info.object_id: info for info in told}
            spoken_of = {**named, **{info.object_id: info for info in placed.objects if info.object_id not in named}}
            infos = tuple(_merged(state.object(info.object_id), info) for info in spoken_of.values())
            through = state.through_slices if through_slices is None else through_slices
            return {"first": state.next_number, "set": PromptSet(placed.prompts, infos, through).to_json()}

        return self._append(kinds.PROMPTS, payload, expected_sequence)

    def delete_prompt(self, number: int, expected_sequence: int | None = None) -> Event:
        """Take a prompt out of force, wherever in the session it was given.

        Raises:
            NotFoundError: if no prompt of that number is in force.
        """
        def payload(state: SessionState) -> dict:
            known = [entry.number for entry in state.given]
            if number not in known:
                raise NotFoundError(complain("prompt number", number, ", ".join(map(str, known)) or "none"))
            return {"number": int(number)}

        return self._append(kinds.PROMPT_DELETED, payload, expected_sequence)

    def add_object(self, info: ObjectInfo, expected_sequence: int | None = None) -> Event:
        """Add an object that has no prompts yet.

        Raises:
            ConflictError: if there is one of that id.
        """
        def payload(state: SessionState) -> dict:
            if state.object(info.object_id) is not None:
                raise ConflictError(complain("object id", info.object_id, "one that is not taken"))
            return {"object_id": int(info.object_id), "name": info.name,
                    "color": None if info.color is None else list(info.color)}

        return self._append(kinds.OBJECT_ADDED, payload, expected_sequence)

    def rename_object(self, object_id: int, name: str, expected_sequence: int | None = None) -> Event:
        """Give an object another name. Raises NotFoundError if there is no such object."""
        return self._change_object(kinds.OBJECT_RENAMED, object_id, {"name": ObjectInfo(1, name).name},
                                   expected_sequence)

    def recolor_object(self, object_id: int, color: Sequence[int] | None, expected_sequence: int | None = None
                       ) -> Event:
        """Give an object another colour (None: the usual one). Raises NotFoundError if there is no such object."""
        checked = ObjectInfo(1, "", None if color is None else tuple(color)).color  # type: ignore[arg-type]
        return self._change_object(kinds.OBJECT_RECOLORED, object_id,
                                   {"color": None if checked is None else list(checked)}, expected_sequence)

    def remove_object(self, object_id: int, expected_sequence: int | None = None) -> Event:
        """Remove an object and its prompts. Raises NotFoundError if there is no such object."""
        return self._change_object(kinds.OBJECT_REMOVED, object_id, {}, expected_sequence)

    def set_overlap(self, rule: str, expected_sequence: int | None = None) -> Event:
        """Change who owns a voxel claimed twice. Raises PromptZooError for an unknown rule."""
        if rule not in OVERLAP_RULES:
            raise PromptZooError(complain("overlap rule", rule, ", ".join(OVERLAP_RULES)))
        return self._append(kinds.OVERLAP, lambda _: {"rule": rule}, expected_sequence)

    def set_through_slices(self, on: bool, expected_sequence: int | None = None) -> Event:
        """Change whether 2D bundles carry prompts through a volume. Raises PromptError if ``on`` is no bool."""
        checked = PromptSet(through_slices=on).through_slices
        return self._append(kinds.THROUGH_SLICES, lambda _: {"on": checked}, expected_sequence)

    def undo(self, expected_sequence: int | None = None) -> Event:
        """Take the last operation back. Raises PromptZooError if there is none."""
        return self._append(kinds.UNDO, lambda state: _nonzero(state.undo_depth, "undo"), expected_sequence)

    def redo(self, expected_sequence: int | None = None) -> Event:
        """Do again what was undone last. Raises PromptZooError if there is nothing, or prompts came since."""
        return self._append(kinds.REDO, lambda state: _nonzero(state.redo_depth, "redo"), expected_sequence)

    def note(self, text: str, expected_sequence: int | None = None) -> Event:
        """Write a remark into the log. Raises PromptZooError if it is empty."""
        if not isinstance(text, str) or not text.strip():
            raise PromptZooError(complain("note", text, "a text that is not empty"))
        return self._append(kinds.NOTE, lambda _: {"text": text}, expected_sequence)

    def record_saved(self, digest: str, place: str, expected_sequence: int | None = None, **more: Any) -> Event:
        """Write down that a label map was saved.

        Args:
            digest: of the label map, see :func:`promptzoo.inference.sessions.label_digest`.
            place: where it went: a path, an id, a DICOM SOP instance UID.
            more: anything else to remember, JSON-able.
        """
        body = {**more, "digest": _checked_digest(digest), "place": str(place)}
        return self._append(kinds.SAVED, lambda _: body, expected_sequence)

    def record_answer(self, sequence: int, digest: str, estimated_dice: Mapping[int, float | None] | None = None,
                      seconds: float = 0.0, engine: str = "") -> None:
        """Write down what the user was shown after an event. The first record of an event stands; more are ignored.

        Raises:
            NotFoundError: if there is no such event.
        """
        estimates = dict(estimated_dice or {})
        answer = RecordedAnswer(_checked_digest(digest), estimates, float(seconds), engine, kinds.now())
        with self._database.writing() as connection:
            add_answer(connection, self.id, sequence, answer)

    def answer(self, upto: int | None = None) -> RecordedAnswer | None:
        """The answer that the user was shown to the state now or after event ``upto``, None if none was recorded."""
        events = self.events(upto)
        changed = fold(events).changed
        return events[changed - 1].answer if changed else None

    def check_expected(self, expected_sequence: int | None) -> None:
        """Raises ConflictError if the log went on after the event ``expected_sequence``; None is never refused."""
        present = self.state().sequence
        if expected_sequence is not None and expected_sequence != present:
            raise ConflictError(complain("last event seen", expected_sequence, str(present),
                                         "The session was changed elsewhere: load it again, then repeat"))

    def provenance(self, user: str | None = None, upto: int | None = None) -> dict:
        """How the masks came about, see :func:`promptzoo.inference.sessions.provenance.write_provenance`."""
        return write_provenance(self.info, self.events(upto), user)

    def _change_object(self, kind: str, object_id: int, body: Mapping[str, Any], expected: int | None) -> Event:
        def payload(state: SessionState) -> dict:
            if state.object(object_id) is None:
                known = ", ".join(str(info.object_id) for info in state.objects)
                raise NotFoundError(complain("object id", object_id, known or "none, there are no objects"))
            return {"object_id": int(object_id), **body}

        return self._append(kind, payload, expected)

    def _append(self, kind: str, payload: Callable[[SessionState], Mapping[str, Any]], expected: int | None) -> Event:
        """Append an event whose payload is worked out, and checked, on the present state."""
        while True:
            self.check_expected(expected)
            state = self.state()
            text = kinds.canonical(payload(state))
            number = (state.sequence if expected is None else expected) + 1
            event = Event(self.id, number, kinds.now(), kind, json.loads(text))
            with self._database.writing() as connection:
                if append_event(connection, event, text):
                    return event


def _merged(known: ObjectInfo | None, told: ObjectInfo) -> ObjectInfo:
    return told if known is None else ObjectInfo(told.object_id, told.name or known.name, told.color or known.color)


def _nonzero(depth: int, what: str) -> dict:
    if not depth:
        raise PromptZooError(complain(what, f"nothing to {what}", f"an operation to {what}"))
    return {}


def _checked_digest(digest: object) -> str:
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise PromptZooError(complain("digest", digest, "a SHA-256 as 64 hexadecimal digits"))
    return digest
