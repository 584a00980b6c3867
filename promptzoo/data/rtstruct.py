"""DICOM RT Structure Sets: outlines per slice, written on the frames of the source series, and read back.

Reference: DICOM PS3.3 A.19, C.8.8.5 (structure set), C.8.8.6 (ROI contour) and C.8.8.8 (observations). rt-utils, the
library for this, needs OpenCV's desktop build and a folder with nothing but one series; so outlines come from
scikit-image, datasets from pydicom, and the matching of mask and source from :mod:`promptzoo.data.dicom_seg`.

An outline runs half-way between the centres of voxels inside and outside, so that the voxels whose centres lie inside
it are exactly those of the mask. Holes are outlines of their own inside another one (even-odd rule), which is how
planning systems read them.
"""
from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Mapping

import numpy as np

import promptzoo
from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import LPS_TO_RAS, Grid
from promptzoo.core.optional import require
from promptzoo.data.colors import object_color
from promptzoo.data.dicom import find_series, ordered
from promptzoo.data.dicom_provenance import SHORT_TEXT, provenance_text
from promptzoo.data.dicom_seg import source_stack, usable_headers

STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""
_COPIED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDate",
           "StudyTime", "AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet")


def write_rtstruct(path: str | Path, labels: np.ndarray, grid: Grid, reference: str | Path, *,
                   names: Mapping[int, str] | None = None, provenance: Mapping[str, Any] | None = None,
                   series_uid: str | None = None) -> None:
    """Write a structure set with one region of interest per label present; its number is the label value.

    Args:
        path: file to write.
        labels: ``[i, j, k]`` boolean or labels on ``grid``.
        grid: must share voxel centres with the source series (axis order and flips may differ).
        reference: folder or file of the source series, of single-frame images.
        names: name by label value; default ``object N``.
        provenance: its essentials go to the description of the contributing equipment (1024 characters).
        series_uid: the source series of a mixed folder; default the one of the mask's own size.

    Raises:
        ImageError: if the mask is empty, or lies on no series of ``reference``, or that is a multi-frame image.
        NotFoundError: if ``reference`` does not exist.
    """
    pydicom = require("pydicom", "writing RTSTRUCT")
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    present = [int(v) for v in np.unique(labels) if v]
    if not present:
        raise ImageError(complain("empty mask for RTSTRUCT", "no voxel marked", "at least one voxel of one object"))
    frames, own, stack = source_stack(reference, grid, labels, series_uid)
    headers = usable_headers(frames)
    first = headers[frames[0].path]
    if len(headers) != len(frames):
        raise ImageError(complain("RTSTRUCT on a multi-frame image", Path(reference).name, "a series of single frames",
                                  "Write DICOM SEG instead"))
    dataset = _header(pydicom, first, frames, headers)
    for value in present:
        name = str((names or {}).get(value) or f"object {value}")
        _add_roi(pydicom, dataset, value, name, object_color(value), stack == value, own, frames, headers)
    maker = pydicom.Dataset()
    maker.Manufacturer = maker.ManufacturerModelName = "promptzoo"
    maker.SoftwareVersions = promptzoo.__version__
    maker.ContributionDescription = provenance_text(provenance or {}, SHORT_TEXT)
    maker.PurposeOfReferenceCodeSequence = [_code(pydicom, "109103", "DCM", "Modifying Equipment")]
    dataset.ContributingEquipmentSequence = [maker]
    dataset.save_as(path, enforce_file_format=True)


def _header(pydicom: Any, first: Any, frames: Any, headers: Mapping[Path, Any]) -> Any:
    now = datetime.datetime.now(datetime.timezone.utc)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for keyword in _COPIED:
        if keyword in first:
            setattr(dataset, keyword, first.get(keyword))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = STORAGE
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.SeriesInstanceUID, dataset.Modality, dataset.SeriesNumber = pydicom.uid.generate_uid(), "RTSTRUCT", 901
    dataset.SeriesDescription, dataset.InstanceNumber, dataset.OperatorsName = "promptzoo structures", 1, ""
    dataset.Manufacturer = dataset.ManufacturerModelName = "promptzoo"
    dataset.SoftwareVersions, dataset.ApprovalStatus = promptzoo.__version__, "UNAPPROVED"
    dataset.StructureSetLabel = "PROMPTZOO"
    dataset.StructureSetDescription = "Made from prompts; research use, not a medical device"
    dataset.StructureSetDate, dataset.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.FrameOfReferenceUID = first.FrameOfReferenceUID
    series = pydicom.Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_image(pydicom, headers[frame.path]) for frame in frames]
    study = pydicom.Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    place = pydicom.Dataset()
    place.FrameOfReferenceUID, place.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    dataset.ReferencedFrameOfReferenceSequence = [place]
    dataset.StructureSetROISequence, dataset.ROIContourSequence, dataset.RTROIObservationsSequence = [], [], []
    return dataset


def _image(pydicom: Any, header: Any) -> Any:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _code(pydicom: Any, value: str, scheme: str, meaning: str) -> Any:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _add_roi(pydicom: Any, dataset: Any, number: int, name: str, color: tuple[int, int, int], mask: np.ndarray,
             grid: Grid, frames: Any, headers: Mapping[Path, Any]) -> None:
    roi, contours, seen = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name[:64], "SEMIAUTOMATIC"
    roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
    contours.ReferencedROINumber, contours.ROIDisplayColor, contours.ContourSequence = number, list(color), []
    for k in np.flatnonzero(mask.any((0, 1))):
        for outline in outlines(mask[:, :, k]):
            index = np.column_stack([outline, np.full(len(outline), float(k))])
            lps = grid.to_world(index) @ LPS_TO_RAS[:3, :3].T
            item = pydicom.Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(outline)
            item.ContourImageSequence = [_image(pydicom, headers[frames[int(k)].path])]
            item.ContourData = [f"{value:.6g}" if abs(value) < 1e9 else f"{value:.8e}" for value in lps.ravel()]
            contours.ContourSequence.append(item)
    seen.ObservationNumber, seen.ReferencedROINumber = number, number
    seen.RTROIInterpretedType, seen.ROIInterpreter = "", ""
    dataset.StructureSetROISequence.append(roi)
    dataset.ROIContourSequence.append(contours)
    dataset.RTROIObservationsSequence.append(seen)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines ``[n, 2]`` of a boolean image ``[i, j]`` in voxel indices, without the repeated last point."""
    from skimage.measure import find_contours

    found = find_contours(np.pad(mask.astype(np.float64), 1), 0.5, fully_connected="low")
    return [outline[:-1] - 1 for outline in found]


def read_rtstruct(path: str | Path, reference: str | Path) -> tuple[np.ndarray, Grid, dict[int, str]]:
    """Read a structure set as a label map on the grid of its source series.

    Args:
        path: the file.
        reference: folder of the source series.

    Returns:
        Labels ``[i, j, k]`` uint16 (region number; the later of two on top), their grid, names by value.

    Raises:
        ImageError: if it is no structure set, or its series is not in ``reference``.
        NotFoundError: if ``reference`` does not exist.
    """
    from skimage.draw import polygon2mask

    pydicom = require("pydicom", "reading RTSTRUCT")
    dataset = pydicom.dcmread(path)
    if dataset.get("SOPClassUID") != STORAGE:
        raise ImageError(complain("structure set", Path(path).name, "an RT Structure Set"))
    wanted = {str(entry.SeriesInstanceUID) for place in dataset.get("ReferencedFrameOfReferenceSequence", [])
              for study in place.get("RTReferencedStudySequence", [])
              for entry in study.get("RTReferencedSeriesSequence", [])}
    series = [entry for entry in find_series(Path(reference)) if entry.uid in wanted]
    if not series:
        raise ImageError(complain(f"series of {Path(path).name}", ", ".join(sorted(wanted)) or "none named",
                                  f"a series in {Path(reference).name}"))
    grid = ordered(series[0], Path(reference).name)[1]
    labels, names = np.zeros(grid.shape, np.uint16), {}
    titles = {int(roi.ROINumber): str(roi.get("ROIName", "")) for roi in dataset.get("StructureSetROISequence", [])}
    for region in dataset.get("ROIContourSequence", []):
        number = int(region.ReferencedROINumber)
        names[number] = titles.get(number, f"object {number}")
        inside = np.zeros(grid.shape, bool)
        for item in region.get("ContourSequence", []):
            lps = np.asarray(item.ContourData, float).reshape(-1, 3)
            index = grid.to_index(lps @ LPS_TO_RAS[:3, :3].T)
            k = int(np.rint(index[:, 2].mean()))
            if len(lps) >= 3 and 0 <= k < grid.shape[2]:
                inside[:, :, k] ^= polygon2mask(grid.shape[:2], index[:, :2])
        labels[inside] = number
    return labels, grid, names
