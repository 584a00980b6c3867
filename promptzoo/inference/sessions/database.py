"""The SQLite file of the sessions: opened with care, written in short transactions, never changed behind the log."""
from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator
from urllib.parse import quote

from promptzoo.core.errors import BusyError, PromptZooError, StoreError, complain

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x505A5345
"""``PZSE``: marks the file as a session log of promptzoo (``PRAGMA application_id``)."""

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the files that this version writes and reads."""

BUSY_TIMEOUT_S = 15.0
"""How long a write waits for other processes."""

_HEADER = b"SQLite format 3\x00"
_TABLES = ("sessions", "events", "answers")
_SCHEMA = (
    """CREATE TABLE sessions (
        id TEXT PRIMARY KEY, image_id TEXT NOT NULL, image_hash TEXT NOT NULL, user TEXT NOT NULL,
        bundle TEXT NOT NULL, bundle_version TEXT NOT NULL, grid TEXT NOT NULL, created TEXT NOT NULL,
        software TEXT NOT NULL, origin TEXT NOT NULL)""",
    """CREATE TABLE events (
        session TEXT NOT NULL REFERENCES sessions(id), sequence INTEGER NOT NULL CHECK (sequence > 0),
        time TEXT NOT NULL, kind TEXT NOT NULL, payload TEXT NOT NULL, UNIQUE (session, sequence))""",
    """CREATE TABLE answers (
        session TEXT NOT NULL, sequence INTEGER NOT NULL, time TEXT NOT NULL, digest TEXT NOT NULL,
        estimated_dice TEXT NOT NULL, seconds REAL NOT NULL, engine TEXT NOT NULL,
        FOREIGN KEY (session, sequence) REFERENCES events(session, sequence))""",
    "CREATE INDEX answers_by_event ON answers (session, sequence)",
    "CREATE INDEX sessions_by_image ON sessions (image_id)",
    "CREATE INDEX sessions_by_user ON sessions (user)",
    *(f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
      f"BEGIN SELECT RAISE(ABORT, 'the session log is append-only'); END"
      for table in _TABLES for verb in ("UPDATE", "DELETE")))


class Database:
    """One connection, shared by the threads of a process under a lock; other processes may use the file as well.

    Write-ahead log with ``synchronous=FULL``: what was committed survives the end of the process and of the power.

    Args:
        path: the file; made, with its folder, if it is not there or empty. Must lie on a local disk.

    Raises:
        StoreError: if the file is damaged, belongs to something else or to a newer promptzoo, or cannot be opened.
            It is left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.RLock()
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # it names users and images
            with open(self.path, "rb") as stream:
                start = stream.read(len(_HEADER))
        except OSError as error:
            raise StoreError(complain("session log cannot be opened", f"{self.path}: {error.strerror or error}",
                                      "a file in a folder that can be written")) from error
        if start and start != _HEADER:
            raise self._damaged("not an SQLite file")
        if start:
            self._inspect()
        self._connection: sqlite3.Connection | None = self._connect()
        try:
            self._make_schema()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that reads one moment of the log."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes; durable when the block has ended, undone if it raises.

        Raises:
            BusyError: if another process wrote for longer than :data:`BUSY_TIMEOUT_S`.
            StoreError: if the file cannot be written or is damaged.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """End the connection; the file stays."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._process != os.getpid():
                raise StoreError(complain("session log used after a fork", str(self.path),
                                          "a store opened in this process", "Open it again in the new process"))
            if self._connection is None:
                raise StoreError(complain("session log", "closed", "an open store", "Open it again"))
            connection = self._connection
            with self._errors_told():
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise

    def _connect(self) -> sqlite3.Connection:
        with self._errors_told():
            connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None,
                                         check_same_thread=False)
            try:
                mode = self._write_ahead(connection)
                if mode != "wal":
                    raise StoreError(complain("journal of the session log", mode, "wal, as local disks allow",
                                              f"Put {self.path.name} on a local disk"))
                for pragma in ("synchronous=FULL", "fullfsync=ON", "checkpoint_fullfsync=ON", "foreign_keys=ON"):
                    connection.execute(f"PRAGMA {pragma}")
            except BaseException:
                connection.close()
                raise
            return connection

    @staticmethod
    def _write_ahead(connection: sqlite3.Connection) -> str:
        """Switch to the write-ahead log. SQLite does not wait by itself when another process switches just now."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                return str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _inspect(self) -> None:
        """Look at a file that is there without writing to it, not even its journal.

        Raises:
            StoreError: if it is not ours, too new or damaged.
        """
        with self._errors_told():
            connection = sqlite3.connect(f"file:{quote(str(self.path.resolve()))}?mode=ro", uri=True,
                                         timeout=BUSY_TIMEOUT_S, isolation_level=None)
            try:
                self._check(connection)
                told = [row[0] for row in connection.execute("PRAGMA quick_check(1)")]
            finally:
                connection.close()
        if told != ["ok"]:
            raise self._damaged("; ".join(map(str, told)))

    def _check(self, connection: sqlite3.Connection) -> bool:
        """Whether the file has our tables.

        Raises:
            StoreError: if it has others, or ours of a newer version.
        """
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables and not application and not version:
            return False
        if application != APPLICATION_ID:
            raise StoreError(complain("not a session log of promptzoo", f"{self.path} with tables {sorted(tables)}",
                                      "a file that promptzoo made, or a new one", "Choose another file name"))
        if version > SCHEMA_VERSION:
            raise StoreError(complain("session log of a newer promptzoo", f"{self.path}, schema {version}",
                                      f"schema up to {SCHEMA_VERSION}", "Update promptzoo"))
        if not tables >= set(_TABLES):
            raise self._damaged(f"tables {sorted(tables)}")
        return True

    def _make_schema(self) -> None:
        with self.writing() as connection:
            if self._check(connection):
                return
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _damaged(self, why: str) -> StoreError:
        return StoreError(complain("session log is damaged or no session log", f"{self.path}: {why}",
                                   "a file that promptzoo made",
                                   "It was left as it is: restore it from a backup, or choose another file name"))

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except PromptZooError:
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", None) or type(error).__name__
            if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise BusyError(complain("session log", f"in use by others for {BUSY_TIMEOUT_S:g} s",
                                         "a log that is free within that time", "Try again")) from error
            if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise self._damaged(str(error)) from error
            raise StoreError(complain("session log cannot be used", f"{self.path}: {error} ({name})",
                                      "a file that can be read and written", "Check the disk and its rights"
                                      )) from error
