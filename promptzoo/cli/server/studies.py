"""A folder of studies as a flat folder of image files, which is what MONAI Label's local datastore can list.

A folder that is flat already and holds NIfTI, NRRD, MetaImage and picture files only is used as it is. Otherwise
(DICOM, sub-folders, names that clash, no right to write) a *view* is made in the user cache: links to the files, and
a NIfTI file for every DICOM image series, with the series instance UID as image id. Labels and MONAI Label's list of
them stay in the folder of studies where it can be written.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

import numpy as np

from promptzoo.core.errors import NotFoundError, PromptZooError, complain
from promptzoo.core.locations import cache_dir
from promptzoo.core.optional import require
from promptzoo.data.dicom import NOT_IMAGES, WHOLE_SLIDE
from promptzoo.data.dicomweb.folder import LABELS, NEVER_DICOM, image_ids, image_suffix, is_writable
from promptzoo.data.dicomweb.part10 import has_preamble
from promptzoo.data.dicomweb.scan import DICOM_SUFFIXES
from promptzoo.data.io import read_image
from promptzoo.data.nifti import write_nifti

logger = logging.getLogger(__name__)

LISTING = "datastore_v2.json"
"""What MONAI Label knows of labels; the labels lie in the sub-folder ``LABELS``."""


@dataclass
class Studies:
    """A prepared folder.

    Args:
        source: the folder given.
        folder: what the datastore lists: ``source`` itself or its view.
        images: file by image id.
        skipped: DICOM series without an image, with the reason.
    """

    source: Path
    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def _files(source: Path) -> Iterator[Path]:
    """Regular files below ``source``, without labels and hidden ones, in a fixed order."""
    for folder, names, files in os.walk(source):
        names[:] = sorted(n for n in names if not n.startswith(".") and not (n == LABELS and Path(folder) == source))
        yield from (Path(folder, name) for name in sorted(files) if not name.startswith("."))


def _is_dicom(path: Path) -> bool:
    try:
        return has_preamble(path) or path.suffix.lower() in DICOM_SUFFIXES
    except OSError:
        return False


def prepare_studies(source: str | Path, report: Callable[[int, int, str], None] | None = None) -> Studies:
    """Make a folder of studies ready for MONAI Label; quick where nothing changed since the last time.

    Args:
        source: folder with NIfTI, NRRD, MetaImage, pictures, DICOM series, at any depth.
        report: called with (done, total, name) for every DICOM series.

    Raises:
        NotFoundError: if there is no such folder.
    """
    place = Path(source).expanduser().resolve()
    if not place.is_dir():
        raise NotFoundError(complain("studies folder", str(source), "an existing folder", "Check the path"))
    files = list(_files(place))
    images = [path for path in files if image_suffix(path.name)]
    dicom = [path for path in files if not image_suffix(path.name) and path.suffix.lower() not in NEVER_DICOM
             and path.name != "DICOMDIR" and _is_dicom(path)]
    named = image_ids(images, place)
    writable = is_writable(place)
    flat = all(name + image_suffix(path.name) == path.name and path.parent == place for name, path in named.items())
    if flat and writable and not dicom:
        return Studies(place, place, named)
    view = cache_dir("studies", f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:12]}")
    wanted = {name + image_suffix(path.name): path for name, path in named.items()}
    if writable:
        (place / LABELS).mkdir(exist_ok=True)
        wanted.update({LABELS: place / LABELS, LISTING: place / LISTING})
    converted, skipped = _convert(_series(dicom), view, report)
    for entry in view.iterdir():
        if entry.is_symlink() and (entry.name not in wanted or Path(os.readlink(entry)) != wanted[entry.name]):
            entry.unlink()
    for name, target in wanted.items():
        if not (view / name).is_symlink() and not (view / name).exists():
            (view / name).symlink_to(target)
    return Studies(place, view, {**named, **{uid: view / f"{uid}.nii.gz" for uid in converted}}, skipped)


def _series(files: list[Path]) -> dict[str, list[Path]]:
    """Files by series instance UID, of image series only."""
    series: dict[str, list[Path]] = {}
    if files:
        pydicom = require("pydicom", "reading DICOM")
        for path in files:
            try:
                header = pydicom.dcmread(path, force=True, stop_before_pixels=True,
                                         specific_tags=["SeriesInstanceUID", "Modality", "SOPClassUID"])
            except Exception as error:  # pydicom raises many kinds on files that only look like DICOM
                logger.warning("%s is left out: %s", path.name, error)
                continue
            uid = str(header.get("SeriesInstanceUID") or "")
            image = header.get("Modality") not in NOT_IMAGES and header.get("SOPClassUID") != WHOLE_SLIDE
            if image and re.fullmatch(r"[0-9.]{1,64}", uid):
                series.setdefault(uid, []).append(path)
    return series


def _convert(series: dict[str, list[Path]], view: Path,
             report: Callable[[int, int, str], None] | None) -> tuple[list[str], dict[str, str]]:
    """A NIfTI file in ``view`` for every image series that has none of the same files yet; stale ones are removed."""
    stamps = view / ".dicom"
    stamps.mkdir(exist_ok=True)
    converted: list[str] = []
    skipped: dict[str, str] = {}
    for done, (uid, files) in enumerate(series.items()):
        if report:
            report(done, len(series), uid)
        stamp = json.dumps([[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files])
        record, target = stamps / f"{uid}.json", view / f"{uid}.nii.gz"
        known = json.loads(record.read_text()) if record.is_file() else {}
        if known.get("stamp") != stamp or (not known.get("reason") and not target.is_file()):
            known = {"stamp": stamp, "reason": _convert_series(files, stamps / uid, target)}
            record.write_text(json.dumps(known))
        if known["reason"]:
            skipped[uid] = known["reason"]
        else:
            converted.append(uid)
    for record in stamps.glob("*.json"):
        if record.stem not in series:
            record.unlink()
            (view / f"{record.stem}.nii.gz").unlink(missing_ok=True)
    return converted, skipped


def _convert_series(files: list[Path], folder: Path, target: Path) -> str:
    """Write one series as NIfTI.

    Returns:
        Why it could not be done; empty if it was.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, path in enumerate(files):
        (folder / f"{number:05d}.dcm").symlink_to(path)
    try:
        volume = read_image(folder)
        data = volume.data
        if np.array_equal(data, np.round(data)) and np.abs(data).max() < 32768:
            data = data.astype(np.int16)
        partial = target.with_name(f".{target.name}")
        write_nifti(partial, data, volume.grid)
        partial.replace(target)
        return ""
    except PromptZooError as error:
        target.unlink(missing_ok=True)
        logger.info("DICOM series %s is left out: %s", folder.name, error)
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
