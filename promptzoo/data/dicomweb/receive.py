"""STOW-RS: check instances that a client sends, and put them where they belong (PS3.18 10.5).

Masks and other objects that describe images go to ``<studies>/labels/dicom/<SOPInstanceUID>.dcm``, images to
``<studies>/received/<SeriesInstanceUID>/<SOPInstanceUID>.dcm``, where the MONAI Label server finds them too; below the
user's data folder if the folder of studies cannot be written.
"""
from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from promptzoo.core.errors import ConflictError, ImageError, complain
from promptzoo.data.dicom import NOT_IMAGES
from promptzoo.data.dicomweb.folder import LABELS
from promptzoo.data.dicomweb.quiet import quiet_pydicom

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
LABEL_FOLDER, IMAGE_FOLDER = Path(LABELS, "dicom"), Path("received")
"""Sub-folders for masks and for images."""


@dataclass(frozen=True, eq=False)
class Received:
    """One instance that was sent and found valid.

    Args:
        data: the DICOM file.
        study_uid, series_uid, sop_uid, sop_class: who it is.
        is_image: whether it is an image, not a mask, report or plan.
    """

    data: bytes
    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    is_image: bool

    @property
    def place(self) -> Path:
        """Where it goes, relative to the folder of studies."""
        if self.is_image:
            return IMAGE_FOLDER / self.series_uid / f"{self.sop_uid}.dcm"
        return LABEL_FOLDER / f"{self.sop_uid}.dcm"


def is_uid(text: str) -> bool:
    """Whether a text is a UID (PS3.5 9.1), tolerating leading zeros; such a text is safe as a file name."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def check_received(data: bytes, study_uid: str | None = None) -> Received:
    """Check a DICOM file that was sent.

    Args:
        data: the file.
        study_uid: the study named in the address; None if none was.

    Raises:
        ImageError: if it is not a complete DICOM file with proper identifiers.
        ConflictError: if it belongs to another study than named.
    """
    if data[128:132] != b"DICM":
        raise ImageError(complain("stored instance", f"{len(data)} bytes without DICM at 128", "a DICOM file (PS3.10)"))
    try:
        with quiet_pydicom():
            dataset = dcmread(BytesIO(data))
            names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
            uids = {name: str(dataset.get(name) or "") for name in names}
            syntax = str(dataset.file_meta.get("TransferSyntaxUID") or "")
            _check_pixels(dataset, syntax)
    except ImageError:
        raise
    except Exception as error:  # a parser error of any kind
        raise ImageError(complain("stored instance cannot be parsed", f"{type(error).__name__}: {error}",
                                  "a complete DICOM file (PS3.10)")) from error
    for name, value in {**uids, "TransferSyntaxUID": syntax}.items():
        if not is_uid(value):
            raise ImageError(complain(f"{name} of a stored instance", value or "none", "a DICOM UID"))
    if study_uid is not None and uids["StudyInstanceUID"] != study_uid:
        raise ConflictError(complain("study of a stored instance", uids["StudyInstanceUID"], study_uid,
                                     "Send it to the address of its own study"))
    is_image = bool(dataset.get("Rows")) and str(dataset.get("Modality") or "") not in NOT_IMAGES
    return Received(data, uids["StudyInstanceUID"], uids["SeriesInstanceUID"], uids["SOPInstanceUID"],
                    uids["SOPClassUID"], is_image)


def _check_pixels(dataset: Dataset, syntax: str) -> None:
    if not dataset.get("Rows") or "PixelData" not in dataset or UID(syntax).is_compressed:
        return
    expected, got = get_expected_length(dataset), len(dataset.PixelData)
    if got < expected:
        raise ImageError(complain("pixel data of a stored instance", f"{got} bytes", f"{expected} bytes",
                                  "Send the complete file"))


def same_content(path: Path, received: Received) -> bool:
    """Whether a file holds the same dataset as what was received, whoever wrote its file meta information."""
    try:
        if path.read_bytes() == received.data:
            return True
        with quiet_pydicom():
            return bool(dcmread(path, force=True) == dcmread(BytesIO(received.data)))
    except Exception:  # unreadable is not the same
        return False


def put(received: Received, base: Path) -> Path:
    """Write into a folder: complete or not at all.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    target = base / received.place
    if not target.parent.resolve().is_relative_to(base.resolve()):  # a link in its way
        raise PermissionError(f"{target.parent} leads out of {base}")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(received.data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return target
