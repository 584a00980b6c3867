"""The files of a folder of studies: which are DICOM, which are images to wrap, and what the images are called."""
from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mgz", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Formats of one file per image: those that the MONAI Label server lists."""

NEVER_DICOM = (".json", ".csv", ".txt", ".md", ".pdf", ".html", ".xml", ".zip", ".gz", ".yml", ".yaml", ".py", ".log",
               ".mhd", ".nhdr", ".raw", ".hdr", ".img", ".bmp", ".lock", ".pt", ".npy", ".npz", ".part")

LABELS = "labels"
"""Sub-folder of masks: what is DICOM there is served, nothing in it is wrapped."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds: a file is read again when they differ."""


@dataclass
class Found:
    """What a walk through a folder found.

    Args:
        dicom: stamp by file that may be DICOM.
        images: stamp by image file.
        outside: links that lead out of the folder; they are not followed.
    """

    dicom: dict[Path, Stamp] = field(default_factory=dict)
    images: dict[Path, Stamp] = field(default_factory=dict)
    outside: list[Path] = field(default_factory=list)


def image_suffix(name: str) -> str:
    """The image suffix of a file name; empty if it has none."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def find_files(root: Path) -> Found:
    """Regular files below ``root`` (resolved), without hidden ones, by name in a fixed order; one stat per file."""
    found = Found()
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # removed or forbidden meanwhile
            continue
        below = []
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(path)
                continue
            wanted = image_suffix(entry.name)
            in_labels = path.relative_to(root).parts[0] == LABELS and path.parent != root
            if (wanted and in_labels) or (not wanted and entry.name.lower().endswith(NEVER_DICOM)) \
                    or entry.name == "DICOMDIR":
                continue
            try:
                if entry.is_symlink() and not path.resolve().is_relative_to(root):
                    found.outside.append(path)
                elif entry.is_file():
                    status = entry.stat()
                    (found.images if wanted else found.dicom)[path] = (status.st_size, status.st_mtime_ns)
            except OSError:
                continue
        pending.extend(reversed(below))
    return found


def image_ids(files: Iterable[Path], root: Path) -> dict[str, Path]:
    """File by image id, the same ids as the MONAI Label server's: sub-folders and name without suffix, made unique.

    Args:
        files: image files below ``root``, in the order of a walk (files of a folder before its sub-folders).
        root: the folder of studies.
    """
    named: dict[str, Path] = {}
    for path in files:
        parts = path.relative_to(root).parts
        stem = parts[-1][:-len(image_suffix(parts[-1]))]
        base = re.sub(r"[^\w.+-]+", "_", "_".join((*parts[:-1], stem))) or "image"
        wanted, count = base, 1
        while wanted in named:
            count += 1
            wanted = f"{base}_{count}"
        named[wanted] = path
    return named


def is_writable(folder: Path) -> bool:
    """Whether masks may be written into a folder; root may write where nobody shall, so the mode counts too."""
    return os.access(folder, os.W_OK) and bool(folder.stat().st_mode & 0o222)
