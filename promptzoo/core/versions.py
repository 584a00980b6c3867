"""Versions of a bundle that were trained on corrections: kept beside the shipped one, put into use and taken back.

``<versions>/<bundle>/<digest of the shipped folder>/`` holds ``<number>/<bundle>/`` for every version, a whole bundle
folder that runs by itself; ``current.json``, which names the one in use; ``history.jsonl``, a line for each training,
also for those whose result was not kept; and ``progress.json`` of the training that runs. Files appear whole or not at
all: a kill at any moment leaves the version in use as it was.
"""
from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator, Mapping

from promptzoo.core.bundles import METADATA, BundleInfo, current_pointer, in_use, read_bundle, read_json
from promptzoo.core.errors import BundleError, ConflictError, NotFoundError, complain
from promptzoo.core.files import write_whole

SHIPPED = 0
"""Number of the version that came with promptzoo."""


def copy_with(source: BundleInfo, weights: Path, folder: Path) -> Path:
    """A bundle with other weights.

    Args:
        source: the bundle.
        weights: file that takes the place of its weight file; it is copied.
        folder: where the copy goes, under the bundle's name.

    Returns:
        The folder of the copy.
    """
    fresh = folder / source.name
    shutil.copytree(source.path, fresh, ignore=shutil.ignore_patterns("models", "eval", "__pycache__"))
    target = fresh / str(source.weights["file"])
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, target)
    return fresh


class Versions:
    """The versions of one bundle.

    Args:
        shipped: the bundle as it came; not a version of it.

    Raises:
        BundleError: if versions are switched off (``PROMPTZOO_VERSIONS=off``).
    """

    def __init__(self, shipped: BundleInfo) -> None:
        pointer = current_pointer(shipped.path)
        if pointer is None:
            raise BundleError(complain("versions of bundles", "PROMPTZOO_VERSIONS=off",
                                       "a folder, or no such variable"))
        self.shipped, self.pointer, self.folder = shipped, pointer, pointer.parent

    def numbers(self) -> list[int]:
        """Numbers of all versions, the shipped one (0) first."""
        trained = [int(place.name) for place in self.folder.glob("[0-9]*") if (place / "version.json").is_file()]
        return [SHIPPED, *sorted(trained)]

    @property
    def current(self) -> int:
        """Number of the version in use."""
        info = in_use(self.shipped)
        return SHIPPED if info.path == self.shipped.path else int(info.path.parent.name)

    def info(self, number: int) -> BundleInfo:
        """A version as a bundle.

        Raises:
            NotFoundError: if there is none of that number.
        """
        if number == SHIPPED:
            return self.shipped
        if number not in self.numbers():
            raise NotFoundError(complain(f"version of bundle {self.shipped.name}", number,
                                         ", ".join(map(str, self.numbers()))))
        return read_bundle(self.folder / str(number) / self.shipped.name)

    def find(self, version: str) -> BundleInfo | None:
        """The bundle of a version text such as ``0.2.0+3``; None if it is not here."""
        found = (self.info(number) for number in reversed(self.numbers()))
        return next((info for info in found if info.version == version), None)

    def record(self, number: int) -> dict[str, Any]:
        """What was measured when a version was trained; empty for the shipped one."""
        self.info(number)
        return {} if number == SHIPPED else read_json(self.folder / str(number) / "version.json")

    def settle(self, number: int, record: Mapping[str, Any], accepted: bool) -> None:
        """Add what was measured to the record of a new version, and use it if it is accepted; remove it if not."""
        if not accepted:
            shutil.rmtree(self.folder / str(number))
            return
        known = self.record(number)
        write_whole(self.folder / str(number) / "version.json", json.dumps({**known, **record}, indent=2))
        self.use(number)

    def add(self, weights: Path, record: Mapping[str, Any]) -> int:
        """Keep trained weights as a new version, which is not in use yet.

        Args:
            weights: file that takes the place of the bundle's weight file; it is copied.
            record: what is known of it.

        Returns:
            The number of the version.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        source = in_use(self.shipped)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
        try:
            fresh = copy_with(source, weights, part)
            with self._alone("add"):
                number = max(self.numbers()) + 1
                metadata = read_json(fresh / METADATA)
                metadata["version"] = f"{source.version.partition('+')[0]}+{number}"
                (fresh / METADATA).write_text(json.dumps(metadata, indent=4), encoding="utf-8")
                told = {"number": number, "version": metadata["version"], "made": _now(), **record}
                (part / "version.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
                shutil.rmtree(self.folder / str(number), ignore_errors=True)  # without a version.json it is none
                os.replace(part, self.folder / str(number))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return number

    def use(self, number: int) -> BundleInfo:
        """Put a version into use; whoever asks for the bundle by its name from now on gets it.

        Raises:
            NotFoundError: if there is none of that number.
        """
        info, before = self.info(number), self.current
        write_whole(self.pointer, json.dumps({"number": number, "before": before, "since": _now()}))
        return info

    def roll_back(self) -> BundleInfo:
        """Put the version into use that was in use before the present one.

        Raises:
            ConflictError: if none was.
        """
        told = read_json(self.pointer) if self.pointer.is_file() else {}
        before = told.get("before")
        if before is None or before not in self.numbers() or before == self.current:
            raise ConflictError(complain(f"version of {self.shipped.name} before the present one", "none",
                                         "a bundle whose version was changed", "See: promptzoo versions"))
        return self.use(int(before))

    def remember(self, record: Mapping[str, Any]) -> None:
        """Add a line to the history of trainings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"time": _now(), **record}) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All trainings, the first one first; half a line of a killed process is left out."""
        file, told = self.folder / "history.jsonl", []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
            try:
                told.append(json.loads(line))
            except ValueError:
                continue
        return told

    def parts(self) -> dict[str, str]:
        """Whether a case is trained on (``train``) or never (``held``), by its id, as of the trainings before."""
        file = self.folder / "parts.json"
        return {str(case): str(part) for case, part in read_json(file).items()} if file.is_file() else {}

    def keep_parts(self, parts: Mapping[str, str]) -> None:
        """Add to :meth:`parts`."""
        write_whole(self.folder / "parts.json", json.dumps({**self.parts(), **parts}, indent=1))

    def tell_progress(self, **state: Any) -> None:
        """Say how far the training of this process is."""
        write_whole(self.folder / "progress.json", json.dumps({"pid": os.getpid(), "time": _now(), **state}))

    def progress(self) -> dict[str, Any]:
        """How far the last training is, ``state`` first of all: ``idle`` if there was none, ``starting`` until it has
        said more, ``interrupted`` if its process ended before it did."""
        file = self.folder / "progress.json"
        if not file.is_file():
            return {"state": "idle"}
        told, holder = read_json(file), self._holder("train")
        if holder and holder != told.get("pid"):
            return {"state": "starting", "pid": holder}
        if not holder and told.get("state") not in ("done", "failed"):
            told["state"] = "interrupted"
        return told

    @contextmanager
    def training(self) -> Iterator[Path]:
        """An empty folder to train in, removed afterwards; only one process at a time gets it.

        Raises:
            ConflictError: if another training runs.
        """
        with self._alone("train", wait=False):
            for old in self.folder.glob("run-*"):  # of a process that was killed
                shutil.rmtree(old, ignore_errors=True)
            place = Path(tempfile.mkdtemp(prefix="run-", dir=self.folder))
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _alone(self, what: str, wait: bool = True) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f".{what}.lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise ConflictError(complain(f"training of {self.shipped.name}", "one runs already", "one at a time",
                                             "Wait for it, or cancel it")) from error
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            yield

    def _holder(self, what: str) -> int:
        """Process that holds a lock; 0 if none does."""
        file = self.folder / f".{what}.lock"
        if not file.is_file():
            return 0
        with file.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(stream.read() or -1)
        return 0


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
