"""A file of another format as a DICOM series: identifiers, headers and slices, made when they are asked for.

Reference: PS3.3 A.3 (CT Image), A.4 (MR Image), A.8.1 (Secondary Capture), C.7.6.2 (Image Plane). Secondary captures
carry the image plane too, as a standard extended SOP class, so that masks and annotations keep their place.
"""
from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.geometry import LPS_TO_RAS
from promptzoo.data.dicomweb.folder import Stamp
from promptzoo.data.dicomweb.model import Json, element, json_of, tag_of
from promptzoo.data.dicomweb.voxels import VoxelMap, voxel_map
from promptzoo.data.dicomweb.wrap import Plan, stored_pixels
from promptzoo.data.io import read_image

SCHEME = "promptzoo wrapped series 1"
"""Part of every identifier; counts up when the same file would be wrapped in another way."""

SOP_CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "OT": SecondaryCaptureImageStorage}


def _ds(*values: float) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]


def _text(value: str, limit: int = 64) -> str:
    """A value of LO, SH or PN: no backslash, caret or equals sign, and not too long."""
    return "".join("_" if c in "\\^=" or ord(c) < 32 else c for c in value)[:limit].strip()


@dataclass(frozen=True, eq=False)
class WrappedSeries:
    """One file as a study of one series.

    Args:
        path: the file.
        stamp: its size and time of change when the plan was made.
        plan: how it is wrapped.
        voxels: its voxels and those of the series.

    The identifiers follow from the file's content and image id alone, so links stay valid over restarts and when the
    folder moves, and change when the file does.
    """

    path: Path
    stamp: Stamp
    plan: Plan
    voxels: VoxelMap

    @classmethod
    def of(cls, path: Path, stamp: Stamp, plan: Plan) -> "WrappedSeries":
        """The series of a plan.

        Raises:
            GeometryError: if DICOM has no words for the grid, see :func:`promptzoo.data.dicomweb.voxels.voxel_map`.
        """
        return cls(path, stamp, plan, voxel_map(plan.grid))

    def _uid(self, what: str) -> str:
        return str(generate_uid(entropy_srcs=[SCHEME, what, self.plan.image_id, self.plan.digest]))

    @cached_property
    def study_uid(self) -> str:
        """StudyInstanceUID."""
        return self._uid("study")

    @cached_property
    def series_uid(self) -> str:
        """SeriesInstanceUID."""
        return self._uid("series")

    @cached_property
    def sop_uids(self) -> tuple[str, ...]:
        """SOPInstanceUID by slice, in the order of position along row direction x column direction."""
        return tuple(self._uid(f"slice {number}") for number in range(self.voxels.series.shape[2]))

    @cached_property
    def common(self) -> Dataset:
        """The header that all slices share."""
        plan, grid = self.plan, self.voxels.series
        header = Dataset()
        header.SpecificCharacterSet = "ISO_IR 192"
        header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if plan.modality == "CT" else "OTHER"]
        header.SOPClassUID, header.Modality = SOP_CLASSES[plan.modality], plan.modality
        header.StudyInstanceUID, header.SeriesInstanceUID = self.study_uid, self.series_uid
        header.FrameOfReferenceUID = self._uid("frame of reference")
        header.PatientName = header.PatientID = header.StudyDescription = _text(plan.image_id)
        header.StudyID, header.SeriesNumber = plan.digest[:16], 1
        header.SeriesDescription = _text(self.path.name)
        header.DerivationDescription = _text(f"wrapped from {self.path.name}", 1024)
        header.Manufacturer, header.ManufacturerModelName = "promptzoo", "embedded DICOMweb store"
        for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate",
                        "PatientSex", "PositionReferenceIndicator", "PatientPosition", "Laterality"):
            setattr(header, keyword, "")
        if plan.modality == "CT":
            header.KVP, header.AcquisitionNumber, header.RescaleType = None, None, "HU"
        elif plan.modality == "MR":
            header.ScanningSequence, header.SequenceVariant, header.ScanOptions = "RM", "NONE", ""
            header.MRAcquisitionType, header.EchoTime, header.EchoTrainLength = "", None, None
        else:
            header.ConversionType = "WSD"
        self._add_plane(header)
        header.SamplesPerPixel, header.Columns, header.Rows = plan.samples, grid.shape[0], grid.shape[1]
        header.BitsAllocated = header.BitsStored = 8 if plan.samples == 3 else 16
        header.HighBit = header.BitsStored - 1
        header.PixelRepresentation = int(plan.stored == "<i2")
        if plan.samples == 3:
            header.PhotometricInterpretation, header.PlanarConfiguration = "RGB", 0
            return header
        header.PhotometricInterpretation = "MONOCHROME2"
        header.RescaleSlope, header.RescaleIntercept = plan.slope, plan.intercept
        if plan.modality != "CT":
            header.RescaleType = "US"
        low, high = plan.window
        header.WindowCenter, header.WindowWidth = _ds((low + high) / 2)[0], _ds(max(high - low, 1e-6))[0]
        return header

    def _add_plane(self, header: Dataset) -> None:
        axes = (LPS_TO_RAS @ self.voxels.series.affine)[:3, :3]
        columns, rows, slices = np.linalg.norm(axes, axis=0)
        along_row = axes[:, 0] / columns
        along_column = axes[:, 1] - (axes[:, 1] @ along_row) * along_row  # exactly at right angles
        along_column /= np.linalg.norm(along_column)
        distance = abs(float(np.cross(along_row, along_column) @ axes[:, 2])) or float(slices)
        header.ImageOrientationPatient = _ds(*along_row, *along_column)
        header.PixelSpacing = _ds(rows, columns)  # between rows first
        header.SliceThickness = _ds(distance)[0]
        if self.plan.modality == "MR":
            header.SpacingBetweenSlices = _ds(distance)[0]

    def varying(self, number: int) -> dict[str, Any]:
        """What sets slice ``number`` (from 0) apart, value by keyword."""
        corner = LPS_TO_RAS @ self.voxels.series.affine @ [0.0, 0.0, float(number), 1.0]
        return {"SOPInstanceUID": self.sop_uids[number], "InstanceNumber": number + 1,
                "ImagePositionPatient": _ds(*corner[:3])}

    def header(self, number: int) -> Dataset:
        """The dataset of a slice without pixels."""
        header = Dataset()
        header.update(self.common)
        for keyword, value in self.varying(number).items():
            setattr(header, keyword, value)
        return header

    @cached_property
    def _common_json(self) -> Json:
        return json_of(self.common)

    def metadata(self, number: int) -> Json:
        """The header of a slice in the DICOM JSON model."""
        told = dict(self._common_json)
        for keyword, value in self.varying(number).items():
            told[tag_of(keyword)] = element(keyword, *(map(float, value) if isinstance(value, list) else [value]))
        return told

    def load(self) -> np.ndarray:
        """All stored pixels, see :func:`promptzoo.data.dicomweb.wrap.stored_pixels`.

        Raises:
            NotFoundError: if the file changed or vanished since its plan was made.
            ImageError: if it cannot be read.
        """
        status = self.path.stat() if self.path.is_file() else None
        if status is None or (status.st_size, status.st_mtime_ns) != self.stamp:
            raise NotFoundError(complain(f"image {self.plan.image_id}", "a file that has changed or is gone",
                                         "the file that was listed", "Search again for its present identifiers"))
        return stored_pixels(read_image(self.path), self.plan, self.voxels)

    def file_of(self, number: int, pixels: np.ndarray) -> bytes:
        """A slice as DICOM file (PS3.10), explicit VR little endian.

        Args:
            number: which slice, from 0.
            pixels: what :meth:`load` returned.
        """
        header = self.header(number)
        data = pixels[number].tobytes()
        header.add_new(0x7FE00010, "OW" if pixels.dtype.itemsize == 2 else "OB", data + b"\0" * (len(data) % 2))
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        buffer = BytesIO()
        dcmwrite(buffer, header, enforce_file_format=True)
        return buffer.getvalue()


class PixelCache:
    """Stored pixels of the wrapped series asked for last; safe to use from several threads.

    Args:
        limit_bytes: most that is kept; a larger series is kept alone, as its slices are asked for one by one.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return sum(array.nbytes for array in self._kept.values())

    def pixels(self, series: WrappedSeries) -> np.ndarray:
        """The pixels of a series; a second thread that wants the same ones waits instead of reading them again.

        Raises:
            NotFoundError, ImageError: see :meth:`WrappedSeries.load`.
        """
        key = series.series_uid
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            gate = self._loading.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            array = series.load()
            with self._lock:
                self._kept[key] = array
                self._loading.pop(key, None)
                held = sum(entry.nbytes for entry in self._kept.values())
                while held > self._limit and len(self._kept) > 1:
                    held -= self._kept.popitem(last=False)[1].nbytes
            return array
