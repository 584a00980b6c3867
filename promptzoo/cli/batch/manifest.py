"""The record of a batch: one line of JSON per finished study, on disk before the next is counted."""
from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Mapping

from promptzoo.cli.choice import file_sha256
from promptzoo.core.errors import ConflictError, complain

NAME = "manifest.jsonl"


class Manifest:
    """The manifest of a folder of results; one batch at a time writes to it.

    Args:
        folder: of the results, made if it is not there.

    Raises:
        ConflictError: if another batch is writing to it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / NAME
        self._stream = self.path.open("ab")
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._stream.close()
            raise ConflictError(complain(f"folder of results {folder}", "another batch writes to it", "one at a time",
                                         "Wait for it, or take another --out")) from error
        self.records = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """The last record of each study; a line that a crash cut short is left out and overwritten."""
        found, good = {}, 0
        data = self.path.read_bytes()
        for line in data.splitlines(keepends=True):
            try:
                record = json.loads(line)
                found[str(record["id"])] = record
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            good += len(line)
        if good < len(data):
            self._stream.truncate(good)
        return found

    def done(self, study: str, key: str) -> bool:
        """Whether a study was finished for these inputs and its result is still what was written."""
        record = self.records.get(study)
        if record is None or record["status"] != "done" or record["key"] != key:
            return False
        file = self.folder / record["mask"]
        return file.is_file() and file_sha256(file) == record["sha256"]

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record; it is on the disk when this returns."""
        self._stream.write(json.dumps(record).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self.records[str(record["id"])] = dict(record)

    def close(self) -> None:
        """Let another batch write."""
        self._stream.close()
