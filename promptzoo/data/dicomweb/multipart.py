"""multipart/related messages (RFC 2387, PS3.18 8.6.1.2), written part by part and read from a file."""
from __future__ import annotations

import mmap
import re
from email.message import Message
from typing import BinaryIO, Iterable, Iterator

from promptzoo.core.errors import ImageError, complain
from promptzoo.data.dicomweb.errors import UnsupportedMediaError

Part = tuple[str, Iterable[bytes]]
"""Content type of a part, and its content in chunks."""


def write_multipart(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """The message in chunks; a part's content is asked for when its turn comes."""
    for content_type, chunks in parts:
        yield f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
        yield from chunks
    yield f"\r\n--{boundary}--\r\n".encode()


def parameters(content_type: str) -> tuple[str, dict[str, str]]:
    """Media type in lower case, and its parameters."""
    message = Message()
    message["content-type"] = content_type
    return message.get_content_type(), {str(k).lower(): str(v) for k, v in message.get_params([])[1:]}


def read_multipart(stream: BinaryIO, content_type: str) -> Iterator[bytes]:
    """The DICOM files of a request to store.

    Args:
        stream: a real file with the message; only one part at a time is held in memory.
        content_type: of the message: ``multipart/related; type="application/dicom"; boundary=…``, or
            ``application/dicom`` for a single file without parts.

    Raises:
        UnsupportedMediaError: if it is of another type.
        ImageError: if the message has no part, or is not closed.
    """
    kind, given = parameters(content_type)
    stream.seek(0, 2)
    length = stream.tell()
    if kind == "application/dicom":
        stream.seek(0)
        yield stream.read()
        return
    if kind != "multipart/related" or given.get("type", "application/dicom").lower() != "application/dicom" \
            or not given.get("boundary"):
        raise UnsupportedMediaError(complain("content type of a request to store", content_type or "none",
                                             'multipart/related; type="application/dicom"; boundary=…'))
    marker = b"--" + given["boundary"].encode()
    if not length:
        raise ImageError(complain("request to store", "an empty body", "one DICOM instance or more"))
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as body:
        begin = 0 if body[:len(marker)] == marker else body.find(b"\r\n" + marker)
        if begin < 0:
            raise ImageError(complain("request to store", "no part", f"parts between lines of {marker.decode()}"))
        begin = body.find(marker, begin) + len(marker)
        while body[begin:begin + 2] != b"--":
            end = body.find(b"\r\n" + marker, begin)
            if end < 0:
                raise ImageError(complain("request to store", "a message without its last line",
                                          f"{marker.decode()}-- at the end", "Send it again completely"))
            start = body.find(b"\r\n\r\n", begin, end + 4)
            head = body[begin:max(start, begin)].decode("latin-1")
            told = re.search(r"content-type:\s*([^;\s]+)", head, re.IGNORECASE)
            if told and told[1].lower() not in ("application/dicom", "application/octet-stream"):
                raise UnsupportedMediaError(complain("content type of a part to store", told[1], "application/dicom"))
            yield body[start + 4:end]
            begin = end + 2 + len(marker)
