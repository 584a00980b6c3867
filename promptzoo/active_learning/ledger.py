"""Who was given which image, and the scores of images: an SQLite file that several processes may use."""
from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Collection, Iterator, Sequence

from promptzoo.active_learning.scores import Scored

LEASE_S = 12 * 3600.0
"""After that long without a label an image may be given to somebody else."""


class Ledger:
    """Assignments and cached scores; safe to use from several threads.

    Args:
        path: the file; made if it is not there.
        lease_s: see :data:`LEASE_S`.
        clock: seconds since 1970.
    """

    def __init__(self, path: str | Path, lease_s: float = LEASE_S, clock: Callable[[], float] = time.time) -> None:
        self.path, self.lease_s, self._clock = Path(path), lease_s, clock
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(self.path, timeout=15.0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        with self._writing() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS assigned (image TEXT PRIMARY KEY, user TEXT, time REAL)")
            connection.execute("CREATE TABLE IF NOT EXISTS scores (image TEXT, key TEXT, told TEXT, "
                               "PRIMARY KEY (image, key))")
        self._key, self._kept = "", {}  # type: str, dict[str, Scored]

    def taken(self) -> dict[str, str]:
        """Users by image, of assignments that still hold."""
        with self._lock:
            rows = self._connection.execute("SELECT image, user FROM assigned WHERE time > ?",
                                            (self._clock() - self.lease_s,)).fetchall()
        return dict(rows)

    def assign(self, image: str, user: str) -> bool:
        """Give an image to a user; False if somebody has it."""
        with self._writing() as connection:
            row = connection.execute("SELECT time FROM assigned WHERE image = ?", (image,)).fetchone()
            if row is not None and row[0] > self._clock() - self.lease_s:
                return False
            connection.execute("INSERT OR REPLACE INTO assigned VALUES (?, ?, ?)", (image, user, self._clock()))
            return True

    def give_back(self, images: Collection[str]) -> None:
        """Forget who was given some images."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM assigned WHERE image = ?", [(image,) for image in images])

    def keep(self, key: str, scored: Scored) -> None:
        """Keep scores under a key, which tells bundle version and structures; others of the image go."""
        with self._writing() as connection:
            self._kept.pop(scored.image, None)
            connection.execute("DELETE FROM scores WHERE image = ?", (scored.image,))
            connection.execute("INSERT INTO scores VALUES (?, ?, ?)",
                               (scored.image, key, json.dumps(scored.to_json())))

    def scores(self, key: str, images: Sequence[str]) -> dict[str, Scored]:
        """Scores under a key of those images that have some."""
        with self._lock:
            if key != self._key:
                self._key, self._kept = key, {}
            if any(image not in self._kept for image in images):
                rows = self._connection.execute("SELECT image, told FROM scores WHERE key = ?", (key,)).fetchall()
                self._kept.update((image, Scored.from_json(json.loads(told))) for image, told in rows
                                  if image not in self._kept)
            return {image: self._kept[image] for image in images if image in self._kept}

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
