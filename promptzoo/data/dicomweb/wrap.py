"""Other formats as DICOM: what has to be known of a file before its first slice is asked for.

A volume becomes one classic single-frame image per slice, because OHIF (3.10) builds volumes only from series of
modality CT, MR, PT or NM, and most reliably from classic ones: CT if the intensities are Hounsfield units, else MR.
An image of one slice becomes one Secondary Capture image of modality OT (CT if it is in Hounsfield units).

Intensities are stored in 16 bits with RescaleSlope and RescaleIntercept (PS3.3 C.11.1): whole numbers in a range of
65536 keep their exact value (CT in HU has slope 1, intercept 0), real numbers that lie on a regular ladder keep it up
to float32 rounding, other real numbers are off by at most half a slope. Colour pictures are stored as RGB, 8 bits each.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.valuerep import format_number_as_ds

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.dicomweb.voxels import VoxelMap
from promptzoo.data.io import read_image
from promptzoo.data.windows import display_window, looks_like_hu

LEVELS = 65535
"""Largest stored value of 16 bits."""

LADDER_TOLERANCE_FRAC = 1e-2
"""Values are on a ladder if none is off by more than this fraction of a step: float32 rounding after scl_slope."""


@dataclass(frozen=True)
class Plan:
    """How one file is wrapped. Plain values, so that it can be kept as JSON.

    Args:
        image_id: the id that MONAI Label knows.
        digest: SHA-256 of the file.
        shape: voxels along ``(i, j, k)``.
        affine: sixteen numbers, row by row: voxel indices to RAS+ mm.
        modality: ``CT``, ``MR`` or ``OT``.
        samples: 1, or 3 for colour.
        stored: numpy name of the stored type, ``<i2``, ``<u2`` or ``|u1``.
        slope, intercept: DICOM decimal strings: intensity = stored * slope + intercept.
        window: intensities shown black and white.
    """

    image_id: str
    digest: str
    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    modality: str
    samples: int
    stored: str
    slope: str
    intercept: str
    window: tuple[float, float]

    @property
    def grid(self) -> Grid:
        """Grid of the file's voxels."""
        return Grid(self.shape, np.asarray(self.affine).reshape(4, 4))


def make_plan(path: Path, image_id: str) -> Plan:
    """Read a file and decide how it is wrapped.

    Raises:
        ImageError: if it cannot be read, or holds several volumes.
    """
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    volume = read_image(path)
    colour = "rgb" in volume.meta and volume.grid.shape[2] == 1
    modality = "CT" if looks_like_hu(volume) else "OT" if volume.grid.is_2d else "MR"
    stored, slope, intercept = ("|u1", "1", "0") if colour else encoding_of(volume.data)
    low, high = display_window(volume)
    return Plan(image_id, digest, volume.grid.shape, tuple(float(v) for v in volume.grid.affine.ravel()), modality,
                3 if colour else 1, stored, slope, intercept, (float(low), float(high)))


def encoding_of(data: np.ndarray) -> tuple[str, str, str]:
    """Stored type, slope and intercept for intensities of any shape: exact where 16 bits can be."""
    low, high = float(data.min()), float(data.max())
    if high - low <= LEVELS and abs(low) < 1e14 and np.array_equal(data, np.rint(data)):
        if low >= -32768 and high <= 32767:
            return "<i2", "1", "0"
        return "<u2", "1", "0" if low >= 0 and high <= LEVELS else str(int(low))
    step = _ladder(data) or (high - low) / LEVELS or 1.0
    return "<u2", format_number_as_ds(step), format_number_as_ds(low)


def _ladder(data: np.ndarray) -> float:
    """The step of the regular ladder on which all values lie; 0 if there is none of at most 65536 rungs."""
    flat = data.ravel()
    if np.unique(flat[:: max(1, flat.size // 200_000)]).size > LEVELS + 1:
        return 0.0
    values = np.unique(flat).astype(np.float64)
    if not 2 <= values.size <= LEVELS + 1:
        return 0.0
    gaps = np.diff(values)
    rungs = np.concatenate([[0.0], np.cumsum(np.rint(gaps / gaps.min()))])
    if rungs[-1] > LEVELS:
        return 0.0
    step = float((values[-1] - values[0]) / rungs[-1])
    off = np.abs(values - values[0] - rungs * step).max()
    return step if off <= LADDER_TOLERANCE_FRAC * step else 0.0


def stored_pixels(volume: Volume, plan: Plan, voxels: VoxelMap) -> np.ndarray:
    """What the slices of the series hold.

    Returns:
        ``[slice, row, column]``, of colour pictures ``[1, row, column, 3]``, of the plan's stored type, contiguous;
        slices in the order in which a DICOM reader sorts them.
    """
    if plan.samples == 3:
        return np.ascontiguousarray(np.asarray(volume.meta["rgb"], dtype=np.uint8).transpose(1, 0, 2)[None])
    moved = voxels.array_to_series(volume.data).transpose(2, 1, 0)
    result = np.empty(moved.shape, dtype=plan.stored)
    slope, intercept = float(plan.slope), float(plan.intercept)
    limits = np.iinfo(result.dtype)
    for number, plane in enumerate(moved):
        values = plane if (slope, intercept) == (1.0, 0.0) else (plane.astype(np.float64) - intercept) / slope
        result[number] = np.clip(np.rint(values), limits.min, limits.max)
    return result
