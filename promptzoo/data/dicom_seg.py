"""DICOM Segmentation objects, written through highdicom on the frames of the source series.

Reference: DICOM PS3.3 A.51 and C.8.20. Segments of a binary SEG are numbered from 1 without gaps; the label values they
stood for are kept, together with the provenance (contract 4), as JSON in the parameters of the algorithm that each
segment names (AlgorithmParameters, PS3.3 table 10-19): standard attributes that every archive keeps.
"""
from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Mapping

import numpy as np

import promptzoo
from promptzoo.core.errors import ImageError, PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.optional import require
from promptzoo.data.anatomy_codes import codes_of
from promptzoo.data.arrays import onto_grid, split_frame
from promptzoo.data.colors import object_color
from promptzoo.data.dicom import choose_series, find_series, ordered
from promptzoo.data.dicom_frames import Frame
from promptzoo.data.dicom_provenance import provenance_text

_TEXT_LIMITS = {"SH": 16, "LO": 64}
_TYPE_2 = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
           "AccessionNumber", "ReferringPhysicianName")

logger = logging.getLogger(__name__)


def source_stack(reference: str | Path, grid: Grid, labels: np.ndarray, series_uid: str | None
                 ) -> tuple[list[Frame], Grid, np.ndarray]:
    """The source frames on whose grid the mask lies, that grid ``[column, row, slice]``, and the mask on it.

    Of several series that share voxel centres with the mask, one of the mask's own size is preferred.
    """
    place, frame = split_frame(reference)
    series = [choose_series(place, series_uid)[0]] if series_uid else find_series(place)
    fitting: list[tuple[list[Frame], Grid]] = []
    first_error: PromptZooError | None = None
    for entry in series:
        try:
            frames, own = ordered(entry, place.name, frame)
            onto_grid(np.zeros(grid.shape, dtype=bool), grid, own)
            fitting.append((frames, own))
        except PromptZooError as error:
            first_error = first_error or error
    if not fitting and len(series) == 1 and first_error is not None:
        raise first_error
    if not fitting:
        raise ImageError(complain(f"no series in {place.name} has the grid of the mask",
                                  "; ".join(str(s) for s in series), "the series that was segmented"
                                  f" ({' x '.join(str(n) for n in grid.shape)} voxels)")) from first_error
    frames, own = min(fitting, key=lambda f: sorted(f[1].shape) != sorted(grid.shape))
    return frames, own, onto_grid(labels, grid, own)


def usable_headers(frames: list[Frame]) -> dict[Path, Any]:
    """Source headers by file, completed and shortened where highdicom would refuse real-world ones.

    Texts over the length of their value representation are cut, absent type 2 attributes become empty, an absent frame
    of reference is derived from the series, and absent pixel spacing and slice thickness
    are those the image was read with.
    """
    pydicom = require("pydicom", "writing DICOM SEG")
    headers: dict[Path, Any] = {}
    shortened: set[str] = set()
    for frame in frames:
        if frame.path in headers:
            continue
        header = headers[frame.path] = pydicom.dcmread(frame.path, stop_before_pixels=True, force=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of the long texts that are cut here
            for element in header:
                limit = _TEXT_LIMITS.get(element.VR)
                if limit and isinstance(element.value, str) and len(element.value) > limit:
                    shortened.add(element.keyword)
                    element.value = element.value[:limit]
        for keyword in _TYPE_2:
            if keyword not in header:
                setattr(header, keyword, "")
        if not header.get("SpecificCharacterSet", "ISO_IR 100"):
            del header.SpecificCharacterSet
        if frame.position is not None and not header.get("FrameOfReferenceUID"):
            header.FrameOfReferenceUID = pydicom.uid.generate_uid(entropy_srcs=[str(header.get("SeriesInstanceUID"))])
        if not header.get("NumberOfFrames"):
            header.PixelSpacing = header.get("PixelSpacing") or list(frame.spacing_mm)
            header.SliceThickness = header.get("SliceThickness") or frame.thickness_mm
    if shortened:
        logger.warning("too long for their DICOM type, shortened in the SEG: %s", ", ".join(sorted(shortened)))
    return headers


def _describe(hd: Any, number: int, label: int, name: str) -> Any:
    codes = require("highdicom.sr.coding", "writing DICOM SEG")
    category, kind, side = codes_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        description = hd.seg.SegmentDescription(
            segment_number=number, segment_label=name.replace("\\", "/")[:64],
            segmented_property_category=codes.CodedConcept(category[0], "SCT", category[1]),
            segmented_property_type=codes.CodedConcept(kind[0], "SCT", kind[1]),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name="promptzoo", version=promptzoo.__version__,
                family=codes.CodedConcept("123110", "DCM", "Artificial Intelligence")),
            tracking_uid=hd.UID(), tracking_id=f"object {label}",
            display_color=hd.color.CIELabColor.from_rgb(*object_color(label)))
    if side is not None:
        kind_item = description.SegmentedPropertyTypeCodeSequence[0]
        kind_item.SegmentedPropertyTypeModifierCodeSequence = [codes.CodedConcept(side[0], "SCT", side[1])]
    return description


def write_seg(path: str | Path, labels: np.ndarray, grid: Grid, reference: str | Path, *,
              names: Mapping[int, str] | None = None, provenance: Mapping[str, Any] | None = None,
              series_uid: str | None = None) -> None:
    """Write a binary DICOM SEG with one segment per label present, in the order of the labels.

    Args:
        path: file to write.
        labels: ``[i, j, k]`` boolean or labels on ``grid``.
        grid: must share voxel centres with the source series (axis order and flips may differ).
        reference: folder or file of the source series; ``folder#t=1`` names the volume of a series that holds several.
        names: name by label value; default ``object N``. Known anatomy gets its SNOMED CT code.
        provenance: kept in the parameters of the algorithm of the first segment.
        series_uid: the source series of a mixed folder; default the one of the mask's own size.

    Raises:
        ImageError: if the mask is empty, or lies on no series of ``reference``.
        NotFoundError: if ``reference`` does not exist.
        MissingDependencyError: if highdicom is not installed.
    """
    hd = require("highdicom", "writing DICOM SEG")
    labels = labels.astype(np.uint8) if labels.dtype == bool else labels
    present = [int(v) for v in np.unique(labels) if v]
    if not present:
        raise ImageError(complain("empty mask for DICOM SEG", "no voxel marked", "at least one voxel of one object",
                                  "DICOM cannot hold an empty segmentation: write .nii.gz, or do not save"))
    frames, _, on_source = source_stack(reference, grid, labels, series_uid)
    table = np.zeros(max(present) + 1, dtype=np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    planes = table[on_source].transpose(2, 1, 0).astype(np.uint8 if len(present) < 256 else np.uint16)
    files = list(dict.fromkeys(f.path for f in frames))
    headers = usable_headers(frames)
    if len(files) == 1 and int(headers[files[0]].get("NumberOfFrames") or 1) > 1:
        every = np.zeros((int(headers[files[0]].NumberOfFrames), *planes.shape[1:]), dtype=planes.dtype)
        every[[f.number for f in frames]] = planes
        planes = every
    named = {v: str((names or {}).get(v) or f"object {v}") for v in present}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            segmentation = hd.seg.Segmentation(
                source_images=[headers[p] for p in files], pixel_array=planes,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_describe(hd, n, v, named[v]) for n, v in enumerate(present, 1)],
                series_instance_uid=hd.UID(), series_number=900, sop_instance_uid=hd.UID(), instance_number=1,
                manufacturer="promptzoo", manufacturer_model_name="promptzoo",
                software_versions=promptzoo.__version__, device_serial_number="0", content_label="PROMPTZOO",
                content_description="Made from prompts; research use, not a medical device",
                series_description="promptzoo segmentation")
            if not "".join([*named.values(), str(segmentation.get("PatientName", ""))]).isascii():
                segmentation.PatientName = str(segmentation.get("PatientName", ""))
                segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
            record = {"label_values": present, "names": {str(v): n for v, n in named.items()}, **(provenance or {})}
            algorithm = segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
            algorithm.AlgorithmParameters = provenance_text(record)
            segmentation.save_as(path)
    except (ValueError, AttributeError, TypeError, LookupError) as error:  # highdicom: source headers it cannot use
        raise ImageError(complain(f"cannot write a DICOM SEG on {Path(reference).name}",
                                  f"{type(error).__name__}: {error}", "a complete source series",
                                  "Write .nii.gz instead")) from error
