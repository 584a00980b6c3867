"""What a bundle computes before it knows the prompts, kept in files: computed overnight, read when a person asks."""
from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from promptzoo.core.errors import BundleError, complain

SUFFIX = ".safetensors"


class KeptPart:
    """A part of a network whose answers are files, named by the content of what it was asked.

    An answer from a file is the one that was computed, bit for bit. A file that cannot be read is written anew; files
    of other weights, engines or inputs have other names and are never read.

    Args:
        part: arrays to an array, or to several.
        folder: of the files, made if need be.
        stamp: what else decides the answer: bundle, version, variant, weights, engine.
        grow: False only reads files, and computes what is missing without keeping it.
    """

    def __init__(self, part: Callable[..., Any], folder: str | Path, stamp: str, grow: bool = True) -> None:
        self.part, self.folder, self.stamp, self.grow = part, Path(folder), stamp, grow
        self.used: dict[Path, int] = {}

    def __call__(self, *arrays: np.ndarray | None) -> np.ndarray | Sequence[np.ndarray]:
        """The part's answer, from its file if there is one; ``used`` gets the file and its size in bytes."""
        file = self._file(arrays)
        found = _read(file)
        if found is None:
            answer = self.part(*arrays)
            if not self.grow:
                return answer
            alone = isinstance(answer, np.ndarray)
            found = {"alone" if alone else f"{n:03d}": np.ascontiguousarray(one)
                     for n, one in enumerate([answer] if alone else answer)}
            _write(file, found)
        self.used[file] = file.stat().st_size
        return found["alone"] if "alone" in found else [found[name] for name in sorted(found)]

    def _file(self, arrays: Sequence[np.ndarray | None]) -> Path:
        digest = hashlib.blake2b(self.stamp.encode(), digest_size=20)
        for array in arrays:
            if array is None:
                digest.update(b"none")
                continue
            digest.update(repr((array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array))
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"


def _read(file: Path) -> dict[str, np.ndarray] | None:
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        return None


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """The file appears in its place only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=file.parent, prefix=".part-")
    os.close(handle)
    save_file(arrays, part)
    os.replace(part, file)


def keep_ahead(predictor: Any, folder: str | Path, stamp: str, grow: bool = True) -> KeptPart:
    """Let a predictor keep what its ``ahead`` computes; the part is the attribute that its ``ahead_part`` names.

    Args:
        predictor: changed in place.
        folder, stamp, grow: see :class:`KeptPart`.

    Raises:
        BundleError: if it computes nothing before it knows the prompts.
    """
    name = getattr(predictor, "ahead_part", "")
    if not name:
        raise BundleError(complain("embeddings in advance", f"what {stamp.split()[0]} computes depends on the prompts",
                                   "a bundle that sees whole images, such as text_universal_seg or sam_peft_organs"))
    kept = KeptPart(getattr(predictor, name), folder, stamp, grow)
    setattr(predictor, name, kept)
    return kept
