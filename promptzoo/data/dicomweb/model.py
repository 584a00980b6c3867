"""Instances and the DICOM JSON model (PS3.18 annex F).

The JSON of an element is pydicom's own (``DataElement.to_json_dict``). Datasets are walked here element by element, so
that one value that cannot be converted costs that element only, also inside sequences, and so that bulk data of nested
elements gets an address: ``00091010`` or ``54000100/1/54001010`` (sequence, item number from 1, element).
"""
from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from promptzoo.data.dicom import NOT_IMAGES

if TYPE_CHECKING:
    from promptzoo.data.dicomweb.wrapped import WrappedSeries

logger = logging.getLogger(__name__)

Json = dict[str, Any]
"""A dataset in the DICOM JSON model: element by tag of eight hexadecimal digits."""

INLINE_BYTES = 4096
"""Binary values up to this size are written into the metadata, larger ones are given as BulkDataURI."""

STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "TimezoneOffsetFromUTC",
         "StudyDescription", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
         "StudyID")
SERIES = ("SeriesDate", "SeriesTime", "Modality", "Manufacturer", "SeriesDescription", "BodyPartExamined",
          "ProtocolName", "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID",
          "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime")
INSTANCE = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "ContentDate", "ContentTime", "Rows", "Columns",
            "BitsAllocated", "NumberOfFrames", "SegmentLabel", "ContentLabel")
"""Attributes of the index by level: what a search can match and returns (PS3.18 10.6.3.3)."""


def tag_of(keyword: str) -> str:
    """Eight hexadecimal digits of a keyword that DICOM has."""
    return f"{tag_for_keyword(keyword):08X}"


TAGS = {level: tuple(tag_of(k) for k in keywords) for level, keywords in
        (("study", STUDY), ("series", SERIES), ("instance", INSTANCE))}
"""The same as tags."""

INDEXED = frozenset(tag for tags in TAGS.values() for tag in tags)


@dataclass(frozen=True, eq=False)
class Instance:
    """One SOP instance of the store.

    Args:
        study_uid, series_uid, sop_uid: who it is.
        attributes: the indexed attributes in the DICOM JSON model; absent ones are absent.
        path: its DICOM file, or the file that is wrapped.
        wrapped: the series it belongs to if it is made on the fly.
        slice_number: which slice of a wrapped series, from 0.
    """

    study_uid: str
    series_uid: str
    sop_uid: str
    attributes: Mapping[str, Json]
    path: Path
    wrapped: WrappedSeries | None = None
    slice_number: int = 0

    @property
    def is_image(self) -> bool:
        """Whether it is an image, not a mask, report or plan beside one."""
        return bool(self.value("Rows")) and self.value("Modality") not in NOT_IMAGES

    def value(self, keyword: str, default: Any = "") -> Any:
        """First value of an indexed attribute."""
        return first_value(self.attributes.get(tag_of(keyword)), default)


def as_number(value: Any) -> float:
    """A value as a number to sort by; 0 for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def first_value(element: Mapping[str, Any] | None, default: Any = "") -> Any:
    """First value of an element in the DICOM JSON model; of a person name its alphabetic form."""
    values = (element or {}).get("Value") or [default]
    first = values[0].get("Alphabetic", default) if isinstance(values[0], dict) else values[0]
    return default if first is None else first


def element(keyword: str, *values: Any) -> Json:
    """An element in the DICOM JSON model, empty without values."""
    vr = dictionary_VR(keyword)
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def _constant(address: str, _: object) -> str:
    return address


def _finite(value: Any) -> Any:
    """NaN and infinity have no JSON; they become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_of(dataset: Dataset, bulk_address: Callable[[str], str] | None = None, place: str = "") -> Json:
    """A dataset in the DICOM JSON model.

    Args:
        dataset: what to convert; group 0002 is left out.
        bulk_address: BulkDataURI by the path of an element; None leaves large binary values out.
        place: path of ``dataset`` in the dataset that holds it, with a slash at its end.

    Returns:
        Element by tag; elements that cannot be converted are left out and logged.
    """
    result: Json = {}
    for tag in sorted(dataset.keys()):
        name = f"{int(tag):08X}"
        if tag.group <= 2 or tag.element == 0:  # file meta and group lengths
            continue
        try:
            entry = dataset[tag]
            if entry.VR == "SQ":
                items = [json_of(item, bulk_address, f"{place}{name}/{number}/")
                         for number, item in enumerate(entry.value or (), 1)]
                result[name] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
                continue
            address = bulk_address(place + name) if bulk_address else ""
            told = entry.to_json_dict(partial(_constant, address), INLINE_BYTES * 4 // 3)
            if told.get("BulkDataURI") == "":
                continue
            if "Value" in told:
                told["Value"] = [_finite(value) for value in told["Value"]]
            result[name] = told
        except Exception as error:  # every value representation fails in its own way on what real files hold
            logger.info("element %s%s is left out: %s", place, name, type(error).__name__)
    return result


def bulk_value(dataset: Dataset, place: str) -> bytes | None:
    """The bytes at a path that :func:`json_of` gave out; None if there is no binary value."""
    parts = place.strip("/").split("/")
    try:
        for sequence, number in zip(parts[:-1:2], parts[1::2]):
            dataset = dataset[int(sequence, 16)].value[int(number) - 1]
        value = dataset[int(parts[-1], 16)].value if len(parts) % 2 else None
    except (KeyError, ValueError, IndexError, TypeError, OverflowError):
        return None
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None
