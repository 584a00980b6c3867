"""Compiled networks on disk: one file each, checked by hash, bounded in bytes, least recently used goes first."""
from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Mapping

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.locations import cache_dir

logger = logging.getLogger(__name__)

DEFAULT_BYTES = 512 * 2**20
BYTES_VARIABLE = "PROMPTZOO_ENGINE_CACHE_BYTES"
_MAGIC = b"promptzoo-engine-1\n"
_SUFFIX = ".engine"
_STALE_S = 3600.0


def bound_bytes() -> int:
    """How many bytes the cache may hold: ``$PROMPTZOO_ENGINE_CACHE_BYTES`` or 512 MiB; 0 switches it off.

    Raises:
        EngineError: if the variable is not a non-negative integer.
    """
    text = os.environ.get(BYTES_VARIABLE, str(DEFAULT_BYTES))
    if not text.strip().isdigit():
        raise EngineError(complain(BYTES_VARIABLE, text, "a non-negative number of bytes"))
    return int(text)


class EngineCache:
    """A folder of compiled networks.

    A file is ``magic, one line of JSON (sha256 and description), payload``; it is written beside its place and moved
    there in one step, so that a reader never sees half of it. A file that does not check out is deleted and counts as
    absent.

    Args:
        folder: where the files lie; by default ``cache_dir("engines")``.
        max_bytes: size bound; by default :func:`bound_bytes`.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int | None = None) -> None:
        self.folder = folder if folder is not None else cache_dir("engines")
        self.max_bytes = bound_bytes() if max_bytes is None else max_bytes

    def path(self, key: str) -> Path:
        """The file of ``key`` (which may not exist)."""
        return self.folder / f"{key}{_SUFFIX}"

    def get(self, key: str) -> bytes | None:
        """The payload stored under ``key``, or None; marks it as just used."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload = _checked(content)
        if payload is None:
            logger.warning("The cached engine %s is damaged; it is deleted and compiled again.", path)
            self.drop(key)
            return None
        try:
            os.utime(path)
        except OSError:  # a read-only cache still serves
            pass
        return payload

    def put(self, key: str, payload: bytes, description: Mapping[str, Any]) -> bool:
        """Store ``payload`` and evict the least recently used files beyond the bound.

        Args:
            key: file name without suffix.
            payload: the compiled network.
            description: JSON values for people who look into the folder.

        Returns:
            False if it was not stored: larger than the bound, or the folder cannot be written (logged).
        """
        header = json.dumps({**description, "sha256": hashlib.sha256(payload).hexdigest()}).encode()
        content = b"".join((_MAGIC, header, b"\n", payload))
        if len(content) > self.max_bytes:
            logger.info("A compiled network of %d bytes exceeds the engine cache's %d.", len(content), self.max_bytes)
            return False
        temporary = ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".tmp-", delete=False) as file:
                temporary = file.name
                file.write(content)
            os.replace(temporary, self.path(key))
        except OSError as error:
            logger.warning("The engine cache %s cannot be written (%s): every start compiles.", self.folder, error)
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            return False
        self._evict(keep=self.path(key))
        return True

    def drop(self, key: str) -> None:
        """Forget ``key``; no error if it is absent."""
        try:
            self.path(key).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("A cached engine cannot be deleted: %s.", error)

    def size_bytes(self) -> int:
        """Bytes of all stored files."""
        return sum(size for _, size, _ in self._entries())

    def _entries(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            try:
                stat = path.stat()
            except OSError:  # another process evicted it
                continue
            found.append((stat.st_mtime, stat.st_size, path))
        return sorted(found, key=lambda entry: (entry[0], entry[2].name))

    def _evict(self, keep: Path) -> None:
        entries = self._entries()
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self.max_bytes:
                break
            if path != keep:
                path.unlink(missing_ok=True)
                total -= size
        for path in self.folder.glob(".tmp-*"):  # left by a process that died while writing
            try:
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink(missing_ok=True)
            except OSError:
                continue


def _checked(content: bytes) -> bytes | None:
    """The payload inside a file's content if its hash is right, else None."""
    if not content.startswith(_MAGIC):
        return None
    end = content.find(b"\n", len(_MAGIC))
    if end < 0:
        return None
    try:
        expected = json.loads(content[len(_MAGIC):end])["sha256"]
    except (ValueError, KeyError, TypeError):
        return None
    payload = content[end + 1:]
    return payload if hashlib.sha256(payload).hexdigest() == expected else None
