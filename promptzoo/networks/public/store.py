"""Where public weight files lie on this machine, and whether they are what they should be. No torch needed."""
from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from promptzoo.core.errors import BundleError, NotFoundError, complain
from promptzoo.core.locations import weights_dir
from promptzoo.networks.public.catalog import PublicWeights

MISSING, PRESENT, DAMAGED = "missing", "present", "damaged"


def place(weights: PublicWeights) -> Path:
    """Where the file belongs: its published name in :func:`promptzoo.core.locations.weights_dir`."""
    return weights_dir() / weights.file


def partial(weights: PublicWeights) -> Path:
    """Where an unfinished download waits to be continued."""
    return place(weights).with_name(weights.file + ".part")


def state(weights: PublicWeights) -> str:
    """``missing``, ``present`` or ``damaged``, at a glance: a known size that differs, or a digest that was found wrong
    since the file was last written, is damage."""
    path = place(weights)
    if not path.is_file():
        return MISSING
    if weights.bytes is not None and path.stat().st_size != weights.bytes:
        return DAMAGED
    known = _remembered(path)
    return DAMAGED if known is not None and known != _expected(weights) else PRESENT


def checked(weights: PublicWeights) -> bool:
    """Whether the file there was found to have the known digest since it was last written."""
    path = place(weights)
    return bool(weights.hashes) and path.is_file() and _remembered(path) == _expected(weights)


def digests(path: Path, kinds: tuple[str, ...] = ("sha256",)) -> dict[str, str]:
    """Digests of a file, read once."""
    found = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            for digest in found.values():
                digest.update(block)
    return {kind: digest.hexdigest() for kind, digest in found.items()}


def check(weights: PublicWeights, path: Path | None = None) -> dict[str, str]:
    """Compare a file's size and strongest known digest with the description; the result is remembered beside it.

    Args:
        weights: what the file should be.
        path: the file; the one in its place if None.

    Returns:
        The digests that were computed; ``sha256`` always.

    Raises:
        NotFoundError: if there is no file.
        BundleError: if it is another file, or damaged.
    """
    own = path is None
    path = place(weights) if path is None else path
    if not path.is_file():
        raise NotFoundError(absent(weights))
    size, expected = path.stat().st_size, _expected(weights)
    found = digests(path, tuple(dict.fromkeys(["sha256", *weights.hashes])))
    kind = next(iter(weights.hashes), "")
    if own and kind:
        _remember(path, f"{kind}:{found[kind]}")
    if weights.bytes is not None and size != weights.bytes:
        raise BundleError(complain(f"size of {path}", f"{size} bytes", f"{weights.bytes} bytes",
                                   f"Fetch it anew: promptzoo weights get {weights.name}"))
    if kind and f"{kind}:{found[kind]}" != expected:
        raise BundleError(complain(f"{kind} of {path}", found[kind], weights.hashes[kind],
                                   f"The file is damaged or another one. Fetch it anew: promptzoo weights get "
                                   f"{weights.name}"))
    return found


def ready(weights: PublicWeights) -> Path:
    """The file, checked once after it was written.

    Raises:
        NotFoundError: if it is missing; the message says how to get it.
        BundleError: if it is damaged.
    """
    path = place(weights)
    if not path.is_file():
        raise NotFoundError(absent(weights))
    if state(weights) == DAMAGED or (weights.hashes and not checked(weights)):
        check(weights)
    return path


def import_file(weights: PublicWeights, source: Path) -> Path:
    """Copy a file that somebody fetched into its place, after it was checked.

    Raises:
        NotFoundError: if there is no such file.
        BundleError: if it is not the published one.
    """
    if not source.is_file():
        raise NotFoundError(complain("weight file to import", str(source), "an existing file"))
    check(weights, source)
    target, waiting = place(weights), place(weights).with_name(weights.file + ".import")
    if source.resolve() != target.resolve():
        shutil.copyfile(source, waiting)
        os.replace(waiting, target)
    check(weights)
    return target


def absent(weights: PublicWeights) -> str:
    """What to do about a missing file."""
    return complain(f"public weights {weights.name}", f"no file {place(weights)}", f"{weights.file}, {weights.licence}",
                    by_hand(weights) if not weights.urls else f"Get it with: promptzoo weights get {weights.name}")


def by_hand(weights: PublicWeights) -> str:
    """How to bring a file to a machine that cannot download it."""
    source = (*weights.urls, *weights.pages)[0]
    return f"Fetch {source} elsewhere and put it at {place(weights)}, then: promptzoo weights verify {weights.name}"


def _expected(weights: PublicWeights) -> str:
    return next((f"{kind}:{value}" for kind, value in weights.hashes.items()), "")


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".checked.json")


def _remembered(path: Path) -> str | None:
    """The digest found when the file was as it is now; None if it was not looked at since."""
    try:
        note, now = json.loads(_note(path).read_text(encoding="utf-8")), path.stat()
        return str(note["digest"]) if [note["bytes"], note["written_ns"]] == [now.st_size, now.st_mtime_ns] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, digest: str) -> None:
    now = path.stat()
    note = {"digest": digest, "bytes": now.st_size, "written_ns": now.st_mtime_ns}
    try:
        _note(path).write_text(json.dumps(note) + "\n", encoding="utf-8")
    except OSError:  # a folder that can only be read: the digest is computed again next time
        pass
