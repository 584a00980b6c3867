"""All sessions of a server or a person in one SQLite file."""
from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from promptzoo.core.errors import ConflictError, NotFoundError, PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.inference.sessions.database import Database
from promptzoo.inference.sessions.events import canonical, now
from promptzoo.inference.sessions.provenance import (
    checked_document,
    grid_from_json,
    grid_to_json,
    read_operations,
    software_versions,
)
from promptzoo.inference.sessions.rows import add_answer, append_event, loads
from promptzoo.inference.sessions.session import Session, SessionInfo

_SESSIONS = """
    SELECT s.id, s.image_id, s.image_hash, s.user, s.bundle, s.bundle_version, s.grid, s.created, s.software, s.origin,
           coalesce(e.sequence, 0), coalesce(e.time, s.created)
    FROM sessions s LEFT JOIN events e ON e.session = s.id
         AND e.sequence = (SELECT max(sequence) FROM events WHERE session = s.id)"""

LARGEST_PAGE = 1000
"""Most sessions that one call lists."""


class SessionStore:
    """Sessions on disk: append-only, durable when a call returns, safe from several threads and processes.

    Args:
        path: the file; made if it is not there. Open it after a process was forked, not before.

    Raises:
        StoreError: if the file is damaged, foreign or of a newer promptzoo; it is left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self._database = Database(path)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """End the use of the file."""
        self._database.close()

    def __enter__(self) -> "SessionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create(self, image_id: str, image_hash: str, user: str, bundle: str, bundle_version: str, grid: Grid
               ) -> Session:
        """Begin a session.

        Args:
            image_id: by which the image can be found again.
            image_hash: :attr:`promptzoo.core.volume.Volume.content_hash`.
            user: who prompts, best a pseudonym; may be empty.
            bundle, bundle_version: who answers.
            grid: of the image.

        Raises:
            PromptZooError: if a name is missing.
        """
        info = SessionInfo(uuid.uuid4().hex, image_id, image_hash, user, bundle, bundle_version, grid, now(),
                           software_versions())
        with self._database.writing() as connection:
            self._insert(connection, info)
        return Session(self._database, info)

    def open(self, session_id: str) -> Session:
        """A session made before.

        Raises:
            NotFoundError: if there is none of that id.
        """
        with self._database.reading() as connection:
            row = connection.execute(f"{_SESSIONS} WHERE s.id = ?", (session_id,)).fetchone()
        if row is None:
            raise NotFoundError(complain("session", session_id, "an id of this server's sessions", "List them first"))
        return Session(self._database, _info(row))

    def list(self, user: str | None = None, image_id: str | None = None, limit: int = 100, offset: int = 0
             ) -> list[SessionInfo]:
        """Sessions, the one changed last first.

        Args:
            user: only theirs.
            image_id: only of this image.
            limit: most sessions returned, at most :data:`LARGEST_PAGE`.
            offset: how many to skip.

        Raises:
            PromptZooError: for a limit or offset out of range.
        """
        if not 0 <= limit <= LARGEST_PAGE or offset < 0:
            raise PromptZooError(complain("page of sessions", [limit, offset],
                                          f"a limit from 0 to {LARGEST_PAGE} and an offset of at least 0"))
        with self._database.reading() as connection:
            rows = connection.execute(
                f"{_SESSIONS} WHERE (?1 IS NULL OR s.user = ?1) AND (?2 IS NULL OR s.image_id = ?2) "
                "ORDER BY 12 DESC, s.rowid DESC LIMIT ?3 OFFSET ?4", (user, image_id, limit, offset)).fetchall()
        return [_info(row) for row in rows]

    def count(self, user: str | None = None, image_id: str | None = None) -> int:
        """How many sessions :meth:`list` has in all."""
        with self._database.reading() as connection:
            return int(connection.execute(
                "SELECT count(*) FROM sessions WHERE (?1 IS NULL OR user = ?1) AND (?2 IS NULL OR image_id = ?2)",
                (user, image_id)).fetchone()[0])

    def restore(self, document: Mapping[str, Any] | str, image_id: str, user: str = "", image_hash: str | None = None,
                bundle_version: str | None = None) -> Session:
        """Make a new session from the export of another, with its prompts, times and digests.

        Args:
            document: what :meth:`Session.provenance` returned, or its JSON text.
            image_id: by which the image is found here.
            user: whose session it shall be.
            image_hash: of the image found here; must be that of the document. None: not compared now.
            bundle_version: take this version instead of the document's, to go on with an updated bundle; digests are
                not taken over then, because its masks may differ.

        Raises:
            PromptZooError: if the document is no export.
            ConflictError: if the image is another one.
        """
        body, name = checked_document(document), uuid.uuid4().hex
        if image_hash is not None and image_hash != body["image"]["hash"]:
            raise ConflictError(complain("image of the session", image_hash, body["image"]["hash"],
                                         "Choose the image that the session was made on"))
        events = read_operations(body, name)
        version = bundle_version or body["bundle"]["version"]
        origin = {key: body.get(key) for key in ("session", "created", "exported", "bundle", "software", "user")}
        info = SessionInfo(name, image_id, body["image"]["hash"], user, body["bundle"]["name"], version,
                           grid_from_json(body["image"].get("grid") or {}), now(), software_versions(), origin)
        with self._database.writing() as connection:
            self._insert(connection, info)
            for event in events:
                append_event(connection, event, canonical(event.payload))
                if event.answer is not None and version == body["bundle"]["version"]:
                    add_answer(connection, name, event.sequence, replace(event.answer, time=event.time))
        return Session(self._database, info)

    @staticmethod
    def _insert(connection: Any, info: SessionInfo) -> None:
        for what in ("image_id", "image_hash", "bundle", "bundle_version"):
            if not isinstance(getattr(info, what), str) or not getattr(info, what):
                raise PromptZooError(complain(f"{what} of the session", getattr(info, what), "a text, not empty"))
        if not isinstance(info.user, str):
            raise PromptZooError(complain("user of the session", info.user, "a text"))
        connection.execute(
            "INSERT INTO sessions (id, image_id, image_hash, user, bundle, bundle_version, grid, created, software, "
            "origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (info.id, info.image_id, info.image_hash, info.user, info.bundle, info.bundle_version,
             canonical(grid_to_json(info.grid)), info.created, canonical(dict(info.software)),
             canonical(dict(info.origin))))


def _info(row: tuple) -> SessionInfo:
    where = f"session {row[0]}"
    return SessionInfo(*row[:6], grid_from_json(loads(row[6], where)), row[7], loads(row[8], where),
                       loads(row[9], where), row[10], row[11])
