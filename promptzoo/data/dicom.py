"""DICOM images: find the series of a folder, choose one, read it as a volume in RAS+.

Array axes are ``i`` = column, ``j`` = row, ``k`` = slice along row direction x column direction, whatever the order of
files, instance numbers or table movement.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.core.errors import ImageError, NotFoundError, complain
from promptzoo.core.geometry import LPS_TO_RAS, Grid
from promptzoo.core.optional import require
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import grid_of, luminance
from promptzoo.data.dicom_frames import Frame, frames_of, pixels_of, stack

NOT_IMAGES = ("SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "SR", "PR", "KO", "REG", "ANN", "DOC", "FID", "RWV")
"""Modalities of objects that lie beside images without being images."""

NOT_DICOM = (".nii", ".gz", ".nrrd", ".mha", ".mhd", ".mgz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".json", ".csv",
             ".txt", ".md", ".xml", ".html", ".pdf", ".zip", ".npz", ".npy", ".py", ".pt", ".db")
"""Suffixes of files that are passed over when a folder is searched; files without a preamble are parsed by trial."""

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""SOP class of tiled whole-slide microscopy."""


@dataclass(frozen=True, eq=False)
class Series:
    """An image series of a folder.

    Args:
        uid: SeriesInstanceUID.
        modality: CT, MR, PT …
        description: SeriesDescription, may be empty.
        frames: its frames, unordered.
    """

    uid: str
    modality: str
    description: str
    frames: tuple[Frame, ...]

    @property
    def pixel_count(self) -> int:
        """Pixels of all frames together."""
        return sum(int(f.header.Rows) * int(f.header.Columns) for f in self.frames)

    def __str__(self) -> str:
        first = self.frames[0].header
        text = f" '{self.description}'" if self.description else ""
        return f"{self.modality}{text} {len(self.frames)} x {first.Columns} x {first.Rows} {self.uid}"


def _header(path: Path) -> Any | None:
    """The dataset of a file without pixels, None if the file is not DICOM."""
    pydicom = require("pydicom", "reading DICOM")
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
    except (pydicom.errors.InvalidDicomError, EOFError):
        try:  # files without the 128-byte preamble
            dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        except Exception:  # not DICOM at all: any parser error
            return None
    except OSError:
        return None
    return dataset if dataset.get("SOPClassUID") else None


def find_series(path: str | Path) -> list[Series]:
    """The image series in a folder and its sub-folders (or in one file), the one with the most pixels first.

    Segmentations, structure sets, reports and whole slides are left out.

    Raises:
        NotFoundError: if there is no such file or folder.
        ImageError: if nothing in it is a DICOM image.
    """
    place = Path(path)
    if not place.exists():
        raise NotFoundError(complain("DICOM file or folder", str(place), "an existing path", "Check the path"))
    files = [place] if place.is_file() else sorted(
        f for f in place.rglob("*") if f.is_file() and not f.name.startswith(".") and f.name != "DICOMDIR"
        and f.suffix.lower() not in NOT_DICOM)
    found: dict[str, list[Frame]] = {}
    skipped: set[str] = set()
    for file in files:
        header = _header(file)
        if header is None:
            continue
        modality = str(header.get("Modality") or "")
        if modality in NOT_IMAGES or header.SOPClassUID == WHOLE_SLIDE or not header.get("Rows"):
            skipped.add("whole-slide microscopy" if header.SOPClassUID == WHOLE_SLIDE else modality or "no pixels")
            continue
        found.setdefault(str(header.get("SeriesInstanceUID") or file.name), []).extend(frames_of(header, file))
    series = [Series(uid, str(f[0].header.get("Modality") or "OT"), str(f[0].header.get("SeriesDescription") or ""),
                     tuple(f)) for uid, f in found.items()]
    if not series:
        advice = ("Read it as a mask (promptzoo.data.io.read_mask)" if "SEG" in skipped
                  else "Convert a tile to TIFF first" if "whole-slide microscopy" in skipped else "Check the path")
        only = f", only {', '.join(sorted(skipped))}" if skipped else ""
        raise ImageError(complain(f"no DICOM image in {place.name}", f"{len(files)} file(s){only}",
                                  "a folder with an image series, or one image file", advice))
    return sorted(series, key=lambda s: (-s.pixel_count, s.uid))


def choose_series(path: str | Path, series_uid: str | None = None) -> tuple[Series, list[Series]]:
    """One series of a folder, and the others.

    Args:
        path: folder or file.
        series_uid: the one wanted; None for the one with the most pixels.

    Raises:
        NotFoundError: if there is no such path or series.
        ImageError: if there is no image, or two series are equally large and none is named.
    """
    series = find_series(path)
    listed = "; ".join(str(s) for s in series)
    if series_uid is not None:
        chosen = [s for s in series if s.uid == series_uid]
        if not chosen:
            raise NotFoundError(complain(f"series in {Path(path).name}", series_uid, listed))
    elif len(series) > 1 and series[0].pixel_count == series[1].pixel_count:
        raise ImageError(complain(f"{Path(path).name} holds several equally large series", listed, "one image series",
                                  "Choose with series_uid, or put each series in its own folder"))
    else:
        chosen = series[:1]
    return chosen[0], [s for s in series if s is not chosen[0]]


def ordered(series: Series, source: str, frame: int | None = None) -> tuple[list[Frame], Grid]:
    """The frames of a series in the order of array axis ``k``, and the grid they span.

    Raises:
        ImageError: as :func:`promptzoo.data.dicom_frames.stack`.
    """
    frames, affine = stack(list(series.frames), source, frame)
    shape = (int(frames[0].header.Columns), int(frames[0].header.Rows), len(frames))
    return frames, grid_of(shape, LPS_TO_RAS @ affine, source)


def read_dicom(path: str | Path, *, frame: int | None = None, series_uid: str | None = None) -> Volume:
    """Read a DICOM image.

    Args:
        path: folder (searched deeply) or one file; a file of a classic series gives that slice alone.
        frame: which volume, where a position is occupied more than once (time, echo), or which frame of a cine.
        series_uid: which series of a mixed folder; default the one with the most pixels.

    Returns:
        The volume: ``[column, row, slice]`` float32 after each frame's own RescaleSlope and RescaleIntercept (CT in HU,
        PET in the stored unit). MONOCHROME1 is inverted within the range of the volume, so that larger is brighter.
        ``meta``: ``source``, ``format``, ``modality``, ``study_uid``, ``series_uid``, ``series_description``,
        ``frame_of_reference_uid``, ``sop_instance_uids`` and ``frame_numbers`` (from 1) by slice, ``inverted``,
        ``other_series`` (text), ``frame`` and, for one colour slice, ``rgb``.

    Raises:
        NotFoundError: if the path or series does not exist.
        ImageError: if there is no image, the series is ambiguous, its slices do not form an even stack, or the pixels
            cannot be decoded.
    """
    pydicom = require("pydicom", "reading DICOM")
    source = Path(path).name
    series, others = choose_series(path, series_uid)
    frames, grid = ordered(series, source, frame)
    data = np.empty(grid.shape, dtype=np.float32)
    meta: dict[str, Any] = {}
    dataset, loaded = None, None
    for k, entry in enumerate(frames):
        if loaded != entry.path:
            dataset, loaded = pydicom.dcmread(entry.path, force=True), entry.path
        plane = pixels_of(entry, dataset)
        if plane.ndim == 3:
            plane, rgb = luminance(plane)
            if rgb is not None and len(frames) == 1:
                meta["rgb"] = np.ascontiguousarray(rgb.transpose(1, 0, 2))
        data[:, :, k] = plane.T
    header = frames[0].header
    inverted = str(header.get("PhotometricInterpretation")) == "MONOCHROME1"
    if inverted:
        data = data.max() + data.min() - data
    meta.update(
        source=str(path), format="dicom", modality=series.modality, series_description=series.description,
        study_uid=str(header.get("StudyInstanceUID", "")), series_uid=series.uid,
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID", "")), inverted=inverted, frame=frame,
        sop_instance_uids=tuple(str(f.header.get("SOPInstanceUID", "")) for f in frames),
        frame_numbers=tuple(f.number + 1 for f in frames), other_series=tuple(str(s) for s in others))
    return Volume(data, grid, meta)
