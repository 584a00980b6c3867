"""DICOM files as the store answers with them: header, frames one by one, bulk data, the whole file in chunks.

Nothing larger than one frame or one chunk is held. Reference: PS3.5 8.1.1 (native pixel data, bits packed without gap
between frames), 8.2 and A.4 (encapsulated), PS3.18 10.4.
"""
from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Iterator

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from promptzoo.core.errors import ImageError, NotFoundError, complain
from promptzoo.data.dicomweb.quiet import quiet_pydicom

CHUNK_BYTES = 1 << 20
"""A file is sent in pieces of this size."""

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Float, double float and integer pixel data."""

_UNDEFINED = 0xFFFFFFFF
_LONG_FORM = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"UT", b"SQ")


def has_preamble(path: Path) -> bool:
    """Whether a file starts as PS3.10 wants; others are read too, and completed when they are sent."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def transfer_syntax(dataset: Dataset) -> str:
    """Transfer syntax UID of a dataset that was read; of a file without meta information the one it was parsed with."""
    told = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if told:
        return str(told)
    implicit, little = dataset.original_encoding
    return str(ImplicitVRLittleEndian if implicit or implicit is None else
               ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def read_header(path: Path) -> Dataset:
    """The dataset of a file without pixels.

    Raises:
        NotFoundError: if the file is gone.
        ImageError: if it cannot be parsed.
    """
    try:
        with path.open("rb") as stream:
            return _header(stream, path)
    except OSError as error:
        raise NotFoundError(complain("DICOM file", path.name, "an existing file", "Search again")) from error


def pixel_tag(dataset: Dataset) -> str:
    """Tag of the pixel data that a header announces; empty if it announces none."""
    if not dataset.get("Rows") or not dataset.get("Columns"):
        return ""
    if dataset.get("PixelRepresentation") is None and dataset.get("BitsAllocated") in (32, 64):
        return "7FE00008" if dataset.BitsAllocated == 32 else "7FE00009"
    return "7FE00010"


@dataclass(frozen=True, eq=False)
class Pixels:
    """Where the pixel data of an open file lies.

    Args:
        stream: the open file, or the inflated dataset.
        header: its dataset without pixels.
        syntax: transfer syntax of the frames.
        start: offset of the first byte of the value.
        length: length of the value; None if it is encapsulated.
    """

    stream: BinaryIO
    header: Dataset
    syntax: str
    start: int
    length: int | None

    @property
    def frame_count(self) -> int:
        """Number of frames, at least 1."""
        return max(1, int(self.header.get("NumberOfFrames") or 1))

    def frame(self, number: int) -> bytes:
        """Frame ``number`` (from 1) in its transfer syntax.

        Raises:
            NotFoundError: if there is no such frame.
            ImageError: if the pixel data are broken.
        """
        if not 1 <= number <= self.frame_count:
            raise NotFoundError(complain("frame", number, f"1 … {self.frame_count}"))
        if self.length is None:
            self.stream.seek(self.start)
            offsets = None
            if self.header.get("ExtendedOffsetTable"):
                offsets = (self.header.ExtendedOffsetTable, self.header.ExtendedOffsetTableLengths)
            try:
                return bytes(get_frame(self.stream, number - 1, extended_offsets=offsets,
                                       number_of_frames=self.frame_count))
            except (ValueError, IndexError, EOFError, struct.error) as error:
                raise ImageError(complain("compressed pixel data", str(error), "one item or more per frame")) from error
        bits = _bits_per_frame(self.header)
        first, last = (number - 1) * bits, number * bits
        self.stream.seek(self.start + first // 8)
        data = self.stream.read((last + 7) // 8 - first // 8)
        if (last + 7) // 8 > self.length or len(data) < (last + 7) // 8 - first // 8:
            raise ImageError(complain("pixel data too short", f"{self.length} bytes", f"{(last + 7) // 8} bytes for "
                                      f"{number} frame(s)", "Copy the file again"))
        if bits % 8 == 0:
            return data
        unpacked = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")[first % 8:first % 8 + bits]
        return np.packbits(unpacked, bitorder="little").tobytes()


def _bits_per_frame(header: Dataset) -> int:
    samples = int(header.get("SamplesPerPixel") or 1)
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two luminances share their colour
    return int(header.Rows) * int(header.Columns) * samples * int(header.get("BitsAllocated") or 16)


@contextlib.contextmanager
def open_pixels(path: Path) -> Iterator[Pixels]:
    """Open a file at its pixel data.

    Raises:
        NotFoundError: if the file is gone or has no pixels.
        ImageError: if it cannot be read.
    """
    with contextlib.ExitStack() as opened:
        try:
            stream: BinaryIO = opened.enter_context(path.open("rb"))
        except OSError as error:
            raise NotFoundError(complain("DICOM file", path.name, "an existing file", "Search again")) from error
        header = _header(stream, path)
        syntax = transfer_syntax(header)
        if syntax == DeflatedExplicitVRLittleEndian:
            stream, syntax = BytesIO(_inflated(path)), ExplicitVRLittleEndian
            header = _header(stream, path)
        start, length = _value_place(stream, header, syntax, path)
        yield Pixels(stream, header, str(syntax), start, length)


def _header(stream: BinaryIO, path: Path) -> Dataset:
    try:
        with quiet_pydicom():
            return dcmread(stream, stop_before_pixels=True, force=True)
    except Exception as error:  # a parser error of any kind
        raise ImageError(complain(f"cannot read {path.name} as DICOM", f"{type(error).__name__}: {error}",
                                  "a complete DICOM file")) from error


def _inflated(path: Path) -> bytes:
    dataset = dcmread(path, force=True)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _value_place(stream: BinaryIO, header: Dataset, syntax: str, path: Path) -> tuple[int, int | None]:
    """Offset and length of the pixel data's value; pydicom leaves the stream before the element it stopped at."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    start = stream.read(8)
    if len(start) == 8:
        group, number = struct.unpack(order + "HH", start[:4])
        if (group << 16) + number in PIXEL_TAGS:
            if UID(syntax).is_implicit_VR and not UID(syntax).is_encapsulated:
                length = struct.unpack(order + "L", start[4:])[0]
            elif start[4:6] in _LONG_FORM:
                length = struct.unpack(order + "L", stream.read(4))[0]
            else:
                length = struct.unpack(order + "H", start[6:])[0]
            return stream.tell(), None if length == _UNDEFINED else length
    raise NotFoundError(complain(f"frames of {path.name}", f"{header.get('Modality') or 'an object'} without pixels",
                                 "an image"))


def whole_file(path: Path) -> Iterator[bytes]:
    """A file in chunks; one without preamble is completed to PS3.10 first.

    Raises:
        NotFoundError: if it is gone; raised at the call, not while it is sent.
        ImageError: if it has to be completed and cannot.
    """
    try:
        stream: BinaryIO = path.open("rb")
    except OSError as error:
        raise NotFoundError(complain("DICOM file", path.name, "an existing file", "Search again")) from error
    if not has_preamble(path):
        stream.close()
        stream = BytesIO(_completed(path))
    return _chunks(stream)


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _completed(path: Path) -> bytes:
    try:
        dataset: Any = dcmread(path, force=True)
        dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax(dataset))
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        return buffer.getvalue()
    except Exception as error:  # a parser error of any kind
        raise ImageError(complain(f"cannot send {path.name}", f"{type(error).__name__}: {error}",
                                  "a complete DICOM file")) from error
