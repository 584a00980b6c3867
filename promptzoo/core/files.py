"""Files that appear whole or not at all."""
from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Callable


def replace_file(target: str | Path, write: Callable[[str], Any]) -> None:
    """Write a file so that a reader, also one after a crash, finds the old content or the new one, never a part.

    Args:
        target: the file; a link is followed, its folder is made.
        write: is given the path of a new file beside it, and fills it.
    """
    place = Path(os.path.realpath(target))
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    os.close(handle)
    try:
        write(name)
        with open(name, "rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, place)
    finally:
        Path(name).unlink(missing_ok=True)


def write_whole(file: str | Path, text: str) -> None:
    """Write a text file by :func:`replace_file`."""
    replace_file(file, lambda new: Path(new).write_text(text, encoding="utf-8"))
