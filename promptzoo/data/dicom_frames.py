"""DICOM frames and how they stack: positions, order along the slice normal, gaps, duplicates, intensities.

All positions here are in DICOM's LPS millimetres. Reference: DICOM PS3.3 C.7.6.2 (image plane) and C.7.6.16
(multi-frame functional groups).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.optional import require

SPACING_TOLERANCE_FRAC = 0.01
"""Slice distances may differ from their median by this fraction: rounding of decimal strings, not missing slices."""

DRIFT_TOLERANCE_FRAC = 0.1
"""No slice may lie farther than this fraction of the slice distance from its place on the regular grid."""

ORIENTATION_TOLERANCE = 1e-3
"""Direction cosines and relative pixel spacings within one stack may differ by this much (written with few digits)."""

MISSING_GAP_FRAC = 1.5
"""A gap of at least this many slice distances is reported as missing slices, a smaller one as uneven spacing."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image plane of a DICOM file.

    Args:
        header: the dataset it belongs to, without pixels.
        path: its file.
        number: frame number in the file, from 0.
        position: centre of the first pixel, LPS mm ``[3]``; None if the file has no patient geometry.
        orientation: unit vectors towards higher columns and towards higher rows, ``[2, 3]``.
        spacing_mm: distance between rows, distance between columns.
        thickness_mm: slice distance to assume when the frame stands alone.
        sequence: sorts frames at the same position (time, echo, instance number).
    """

    header: Any
    path: Path
    number: int
    position: np.ndarray | None
    orientation: np.ndarray
    spacing_mm: tuple[float, float]
    thickness_mm: float
    sequence: tuple[float, ...] = field(default=())


def _item(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _numbers(value: Any, count: int) -> np.ndarray | None:
    try:
        array = np.asarray([float(v) for v in value], dtype=float)
    except (TypeError, ValueError):
        return None
    return array if array.shape == (count,) and np.isfinite(array).all() else None


def _number(dataset: Any, *names: str) -> float:
    for name in names:
        try:
            return float(dataset.get(name))
        except (TypeError, ValueError):
            continue
    return 0.0


def frames_of(header: Any, path: Path) -> list[Frame]:
    """The frames of one file, classic or enhanced multi-frame, in stored order."""
    count = max(1, int(header.get("NumberOfFrames") or 1))
    shared = _item(header.get("SharedFunctionalGroupsSequence"))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    frames = []
    for number in range(count):
        groups = [g for g in (per_frame[number] if number < len(per_frame) else None, shared) if g is not None]

        def look(name: str, macro: str) -> Any:
            for group in groups:
                inner = _item(group.get(macro))
                if inner is not None and inner.get(name) is not None:
                    return inner.get(name)
            return header.get(name) if count == 1 or groups else None

        position = _numbers(look("ImagePositionPatient", "PlanePositionSequence"), 3)
        cosines = _numbers(look("ImageOrientationPatient", "PlaneOrientationSequence"), 6)
        spacing = _numbers(look("PixelSpacing", "PixelMeasuresSequence") or header.get("ImagerPixelSpacing"), 2)
        distance = [look(name, "PixelMeasuresSequence") for name in ("SpacingBetweenSlices", "SliceThickness")]
        thickness = next((abs(float(d)) for d in distance if d not in (None, "") and float(d)), 1.0)
        orientation = np.eye(3)[:2] if cosines is None else cosines.reshape(2, 3)
        lengths = np.linalg.norm(orientation, axis=1, keepdims=True)
        if lengths.min() < 0.5:  # a header of zeros says nothing
            orientation, lengths = np.eye(3)[:2], np.ones((2, 1))
        frames.append(Frame(
            header, path, number, None if cosines is None else position, orientation / lengths,
            (1.0, 1.0) if spacing is None or spacing.min() <= 0 else (float(spacing[0]), float(spacing[1])), thickness,
            (_number(header, "TemporalPositionIdentifier"), _number(header, "TriggerTime"), _number(header, "EchoTime"),
             _number(header, "AcquisitionNumber"), _number(header, "InstanceNumber"), float(number))))
    return frames


def _without_repeats(frames: list[Frame]) -> list[Frame]:
    """Each SOP instance once, and no localizers where there are other images."""
    unique: dict[Any, Frame] = {}
    for frame in frames:
        unique.setdefault((str(frame.header.get("SOPInstanceUID", frame.path)), frame.number), frame)
    images = [f for f in unique.values() if "LOCALIZER" not in [str(t) for t in f.header.get("ImageType") or []]]
    return images or list(unique.values())


def _choose(groups: list[list[Frame]], wanted: int | None, source: str, reason: str) -> list[Frame]:
    count = len(groups[0])
    if wanted is None and count > 1:
        raise ImageError(complain(f"{source} holds {count} {reason}", f"{count} per slice position", "one image volume",
                                  f"Choose one: '{source}#t=0' … '#t={count - 1}', or the argument frame"))
    if wanted is not None and not 0 <= wanted < count:
        raise ImageError(complain(f"volume index for {source}", wanted, f"0 … {count - 1}"))
    return [group[wanted or 0] for group in groups]


def stack(frames: list[Frame], source: str, wanted: int | None = None) -> tuple[list[Frame], np.ndarray]:
    """Order the frames of one series into a volume.

    Args:
        frames: all frames of the series.
        source: name for messages.
        wanted: which volume, when every position is occupied by the same number (at least 2) of frames.

    Returns:
        The frames along the slice normal (row direction x column direction), and the affine ``[4, 4]`` from
        (column, row, slice) to LPS millimetres. A tilted gantry gives a sheared affine, which is exact.

    Raises:
        ImageError: if frames differ in size, orientation or pixel spacing; if some positions occur twice; if several
            volumes are there and none is chosen; if slices are missing or unevenly spaced.
    """
    frames = _without_repeats(frames)
    placed = [f for f in frames if f.position is not None]
    places = np.array([f.position for f in placed], dtype=float)
    if not placed:
        ordered = sorted(frames, key=lambda f: f.sequence)
        return _single(_choose([ordered], wanted, source, "images without position (a cine or several views)"))
    _check_alike(placed, source)
    normal = np.cross(*placed[0].orientation)
    depth = places @ normal
    groups: list[list[int]] = []
    nearest = max(min(f.thickness_mm for f in placed), 1e-3) * 1e-2
    for index in np.argsort(depth, kind="stable"):
        if groups and depth[index] - depth[groups[-1][0]] <= nearest:
            groups[-1].append(int(index))
        else:
            groups.append([int(index)])
    sizes = sorted({len(g) for g in groups})
    if len(sizes) > 1:
        twice = next(g for g in groups if len(g) == sizes[-1])
        raise ImageError(complain(
            f"{source}: slice positions occur unequally often", f"{sizes[0]} to {sizes[-1]} images per position, e.g. "
            f"{sizes[-1]} at {np.round(places[twice[0]], 2).tolist()} mm",
            "one image per position", "Separate the acquisitions into folders of their own"))
    chosen = _choose([sorted((placed[i] for i in g), key=lambda f: f.sequence) for g in groups], wanted, source,
                     "volumes (times, echoes or diffusion weights)")
    if len(chosen) == 1:
        return _single(chosen)
    return chosen, _regular(chosen, normal, source)


def _check_alike(frames: list[Frame], source: str) -> None:
    first = frames[0]
    for frame in frames[1:]:
        sizes = [(int(f.header.Rows), int(f.header.Columns)) for f in (first, frame)]
        same = (sizes[0] == sizes[1]
                and np.abs(first.orientation - frame.orientation).max() <= ORIENTATION_TOLERANCE
                and np.allclose(first.spacing_mm, frame.spacing_mm, rtol=ORIENTATION_TOLERANCE))
        if not same:
            raise ImageError(complain(
                f"{source}: images of one series do not form a stack",
                f"{first.path.name} {sizes[0]} spacing {first.spacing_mm} orientation "
                f"{np.round(first.orientation, 3).ravel().tolist()} and {frame.path.name} {sizes[1]} spacing "
                f"{frame.spacing_mm} orientation {np.round(frame.orientation, 3).ravel().tolist()}",
                "equal size, orientation and spacing", "Separate them into folders of their own"))


def _plane(frame: Frame) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, 0] = frame.orientation[0] * frame.spacing_mm[1]
    affine[:3, 1] = frame.orientation[1] * frame.spacing_mm[0]
    affine[:3, 2] = np.cross(*frame.orientation) * frame.thickness_mm
    if frame.position is not None:
        affine[:3, 3] = frame.position
    return affine


def _single(frames: list[Frame]) -> tuple[list[Frame], np.ndarray]:
    return frames[:1], _plane(frames[0])


def _regular(frames: list[Frame], normal: np.ndarray, source: str) -> np.ndarray:
    positions = np.array([f.position for f in frames], dtype=float)
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if len(gaps) > 1 and gaps.max() >= MISSING_GAP_FRAC * usual:
        where = [f"{int(round(g / usual)) - 1} behind {np.round(positions[n], 2).tolist()} mm"
                 for n, g in enumerate(gaps) if g >= MISSING_GAP_FRAC * usual]
        raise ImageError(complain(f"{source}: slices are missing", "; ".join(where),
                                  f"a slice every {usual:.4g} mm", "Send the complete series again"))
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    drift = np.abs(positions - positions[0] - np.arange(len(frames))[:, None] * step).max()
    if np.abs(gaps - usual).max() > SPACING_TOLERANCE_FRAC * usual or drift > DRIFT_TOLERANCE_FRAC * usual:
        raise ImageError(complain(
            f"{source}: slices are not evenly spaced", f"{gaps.min():.4g} to {gaps.max():.4g} mm, drift {drift:.3g} mm",
            f"distances equal to {SPACING_TOLERANCE_FRAC:.0%}", "Resample the series to even spacing first"))
    affine = _plane(frames[0])
    affine[:3, 2] = step
    return affine


def pixels_of(frame: Frame, dataset: Any) -> np.ndarray:
    """Intensities of a frame: rescaled (slope and intercept of this very frame), grey ``[rows, columns]`` float32 or
    colour ``[rows, columns, 3]`` uint8.

    Args:
        frame: which frame.
        dataset: its file with pixels.

    Raises:
        ImageError: if the pixels are missing or cannot be decoded.
    """
    pixels = require("pydicom.pixels", "reading DICOM")
    try:
        array = pixels.pixel_array(dataset, index=frame.number)
        kind = str(dataset.get("PhotometricInterpretation", ""))
        if kind == "PALETTE COLOR":
            array = pixels.apply_color_lut(array, dataset)
            array = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
        if array.ndim == 3:
            return array[..., :3].astype(np.uint8)
        slope, intercept = _rescale(frame)
        if dataset.get("ModalityLUTSequence"):
            return np.asarray(pixels.apply_modality_lut(array, dataset), dtype=np.float32)
    except Exception as error:  # every decoder raises its own
        syntax = getattr(dataset.file_meta, "TransferSyntaxUID", "unknown")
        raise ImageError(complain(
            f"cannot decode the pixels of {frame.path.name}", f"{type(error).__name__}: {error}",
            f"complete pixel data in a supported transfer syntax (here {getattr(syntax, 'name', syntax)})",
            "For compressed images: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg")) from error
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


def _rescale(frame: Frame) -> tuple[float, float]:
    header = frame.header
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [per_frame[frame.number]] if frame.number < len(per_frame) else []
    groups += list(header.get("SharedFunctionalGroupsSequence") or [])
    for group in groups:
        inner = _item(group.get("PixelValueTransformationSequence"))
        if inner is not None:
            return float(inner.get("RescaleSlope", 1)), float(inner.get("RescaleIntercept", 0))
    return float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
