"""The embedded DICOMweb store over HTTP: QIDO-RS, WADO-RS and STOW-RS under ``/dicom-web`` (PS3.18 chapter 10).

Every endpoint is a plain function, so it runs in the pool of threads and never holds up the event loop; only the body
of a request to store is received asynchronously, into a temporary file. Answers of many instances are made part by part
while they are sent. Errors are those of :mod:`promptzoo.cli.server.problems`.
"""
from __future__ import annotations

import itertools
import json
import logging
import tempfile
import uuid
from typing import Any, AsyncIterator, BinaryIO, Callable, Iterable, Iterator

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from promptzoo.core.errors import ConflictError, ImageError, PromptZooError, TooLargeError, complain
from promptzoo.data.dicomweb.errors import NotAcceptableError, QueryError
from promptzoo.data.dicomweb.model import Instance, Json, element
from promptzoo.data.dicomweb.multipart import Part, read_multipart, write_multipart
from promptzoo.data.dicomweb.query import parse_query
from promptzoo.data.dicomweb.store import DicomStore

logger = logging.getLogger(__name__)

PREFIX = "/dicom-web"
"""Where the router answers; clients are given the server's address followed by it."""

DICOM_JSON, DICOM, OCTETS = "application/dicom+json", "application/dicom", "application/octet-stream"

_JSON_TYPES = (DICOM_JSON, "application/json", "text/json", "application/*", "*/*")
_FAILURES = {ConflictError: 0x0111, ImageError: 0xC000}
"""Failure reasons of PS3.18 table 10.5.3-1 and PS3.4 table B.2-1: duplicate instance, cannot understand."""


def _base(request: Request) -> str:
    """Address of the service as the client reached it.

    ``dicomweb_client`` leaves the port out of its Host header; where that names the very address of this server, as it
    does without a proxy, the server's own port is put back.
    """
    url, server = request.url, request.scope.get("server") or ("", None)
    if url.port is None and url.hostname == server[0] and server[1] not in (None, 80, 443):
        url = url.replace(port=server[1])
    return str(url).partition(f"{PREFIX}/")[0] + PREFIX


def _accepted(request: Request) -> list[str]:
    """Media types that the client takes, in lower case; of a multipart the type of its parts, as ``multipart:TYPE``."""
    accepted = []
    for entry in (request.headers.get("accept") or "*/*").lower().split(","):
        kind, *given = (part.strip() for part in entry.split(";"))
        inner = next((g.partition("=")[2].strip('" ') for g in given if g.startswith("type=")), "*/*")
        accepted.append(f"multipart:{inner}" if kind in ("multipart/related", "multipart/*") else kind)
    return accepted


def _check_accepts(request: Request, allowed: Iterable[str]) -> list[str]:
    """The types accepted.

    Raises:
        NotAcceptableError: if none of them is allowed.
    """
    accepted, allowed = _accepted(request), list(allowed)
    if not set(accepted) & set(allowed):
        raise NotAcceptableError(complain("Accept header", request.headers.get("accept", ""), ", ".join(allowed)))
    return accepted


def _json_stream(datasets: Iterator[Json]) -> StreamingResponse:
    """Datasets as a JSON array, one by one; the first is made at once, so that its errors have a status."""
    first = next(datasets, None)

    def lines() -> Iterator[bytes]:
        yield b"["
        for number, dataset in enumerate(itertools.chain([] if first is None else [first], datasets)):
            yield (b",\n" if number else b"") + json.dumps(dataset, separators=(",", ":")).encode()
        yield b"]"
    return StreamingResponse(lines(), media_type=DICOM_JSON)


def _multipart(parts: Iterable[Part], kind: str) -> StreamingResponse:
    boundary = uuid.uuid4().hex
    return StreamingResponse(write_multipart(parts, boundary),
                             media_type=f'multipart/related; type="{kind}"; boundary={boundary}')


async def _received(request: Request, limit_bytes: int) -> AsyncIterator[BinaryIO]:
    """The body of a request in a temporary file.

    Raises:
        TooLargeError: if it is larger than allowed.
    """
    with tempfile.TemporaryFile(prefix="promptzoo-stow-") as spool:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise TooLargeError(complain("request to store", f"more than {limit_bytes} bytes",
                                             f"at most {limit_bytes} bytes", "Send fewer instances at a time"))
            await run_in_threadpool(spool.write, chunk)
        yield spool


def _frame_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise QueryError(complain("frame list", text, "numbers from 1 with commas between them")) from None


def dicomweb_router(store: DicomStore, limit_bytes: int = 2 << 30, stored: Callable[[], None] = lambda: None
                    ) -> APIRouter:
    """The routes of a store.

    Args:
        store: what is served.
        limit_bytes: largest request to store.
        stored: called after instances were stored.
    """
    router = APIRouter(prefix=PREFIX, tags=["DICOMweb"])

    async def body(request: Request) -> AsyncIterator[BinaryIO]:
        async for spool in _received(request, limit_bytes):
            yield spool

    def search(request: Request, level: str, study: str | None = None, series: str | None = None) -> Response:
        _check_accepts(request, _JSON_TYPES)
        query = parse_query(request.query_params.multi_items())
        found = store.search(level, query, study, series, _base(request))
        return Response(json.dumps(found), media_type=DICOM_JSON)

    def metadata(request: Request, instances: list[Instance]) -> Response:
        _check_accepts(request, _JSON_TYPES)
        return _json_stream(store.metadata(instance, _base(request)) for instance in instances)

    def files(request: Request, instances: list[Instance]) -> Response:
        accepted = _check_accepts(request, (f"multipart:{DICOM}", "multipart:*/*", DICOM, "application/*", "*/*"))
        first = store.file(instances[0])  # its errors have a status
        if len(instances) == 1 and not any(kind.startswith(("multipart:", "*")) for kind in accepted):
            return StreamingResponse(first, media_type=DICOM)
        rest: Iterator[Part] = ((DICOM, store.file(instance)) for instance in instances[1:])
        return _multipart(itertools.chain([(DICOM, first)], rest), DICOM)

    @router.get("/studies")
    def search_studies(request: Request) -> Response:
        """QIDO-RS: studies."""
        return search(request, "study")

    @router.get("/series")
    def search_all_series(request: Request) -> Response:
        """QIDO-RS: series of all studies."""
        return search(request, "series")

    @router.get("/instances")
    def search_all_instances(request: Request) -> Response:
        """QIDO-RS: instances of all studies."""
        return search(request, "instance")

    @router.get("/studies/{study}/series")
    def search_series(request: Request, study: str) -> Response:
        """QIDO-RS: series of a study."""
        return search(request, "series", study)

    @router.get("/studies/{study}/instances")
    def search_study_instances(request: Request, study: str) -> Response:
        """QIDO-RS: instances of a study."""
        return search(request, "instance", study)

    @router.get("/studies/{study}/series/{series}/instances")
    def search_instances(request: Request, study: str, series: str) -> Response:
        """QIDO-RS: instances of a series."""
        return search(request, "instance", study, series)

    @router.get("/studies/{study}/metadata")
    def study_metadata(request: Request, study: str) -> Response:
        """WADO-RS: metadata of a study."""
        return metadata(request, store.instances(study))

    @router.get("/studies/{study}/series/{series}/metadata")
    def series_metadata(request: Request, study: str, series: str) -> Response:
        """WADO-RS: metadata of a series."""
        return metadata(request, store.instances(study, series))

    @router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
    def instance_metadata(request: Request, study: str, series: str, instance: str) -> Response:
        """WADO-RS: metadata of an instance."""
        return metadata(request, store.instances(study, series, instance))

    @router.get("/studies/{study}")
    def retrieve_study(request: Request, study: str) -> Response:
        """WADO-RS: the files of a study."""
        return files(request, store.instances(study))

    @router.get("/studies/{study}/series/{series}")
    def retrieve_series(request: Request, study: str, series: str) -> Response:
        """WADO-RS: the files of a series."""
        return files(request, store.instances(study, series))

    @router.get("/studies/{study}/series/{series}/instances/{instance}")
    def retrieve_instance(request: Request, study: str, series: str, instance: str) -> Response:
        """WADO-RS: one file."""
        return files(request, store.instances(study, series, instance))

    @router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{numbers}")
    def retrieve_frames(request: Request, study: str, series: str, instance: str, numbers: str) -> Response:
        """WADO-RS: frames, in the transfer syntax of the file."""
        accepted = _check_accepts(request, (f"multipart:{OCTETS}", "multipart:*/*", OCTETS, "application/*", "*/*"))
        wanted = _frame_numbers(numbers)
        syntax, frames = store.frames(store.instances(study, series, instance)[0], wanted)
        if len(wanted) == 1 and not any(kind.startswith(("multipart:", "*")) for kind in accepted):
            return StreamingResponse(frames, media_type=f"{OCTETS}; transfer-syntax={syntax}")
        parts = ((f"{OCTETS}; transfer-syntax={syntax}", [frame]) for frame in frames)
        return _multipart(parts, OCTETS)

    @router.get("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path:path}")
    def retrieve_bulk(request: Request, study: str, series: str, instance: str, path: str) -> Response:
        """WADO-RS: the value that a BulkDataURI of the metadata points to."""
        accepted = _check_accepts(request, (f"multipart:{OCTETS}", "multipart:*/*", OCTETS, "application/*", "*/*"))
        value = store.bulk(store.instances(study, series, instance)[0], path)
        if not any(kind.startswith(("multipart:", "*")) for kind in accepted):
            return StreamingResponse(value, media_type=OCTETS)
        return _multipart([(OCTETS, value)], OCTETS)

    @router.post("/studies")
    def store_instances(request: Request, spool: BinaryIO = Depends(body)) -> Response:
        """STOW-RS: any studies."""
        return _stored(store, spool, request, None, stored)

    @router.post("/studies/{study}")
    def store_in_study(request: Request, study: str, spool: BinaryIO = Depends(body)) -> Response:
        """STOW-RS: one study."""
        return _stored(store, spool, request, study, stored)

    return router


def _stored(store: DicomStore, spool: BinaryIO, request: Request, study_uid: str | None,
            then: Callable[[], None]) -> Response:
    """Store every part (PS3.18 10.5.3), ``then`` tell of it.

    Returns:
        200 if all are stored, 202 if some are; the dataset tells which.

    Raises:
        ImageError, ConflictError: the first error, if nothing could be stored.
    """
    good: list[Json] = []
    bad: list[Json] = []
    errors: list[PromptZooError] = []
    base = _base(request)
    for number, data in enumerate(read_multipart(spool, request.headers.get("content-type", "")), 1):
        try:
            one, new = store.store(data, study_uid)
        except (ImageError, ConflictError) as error:
            logger.info("part %d is not stored: %s", number, error)
            errors.append(error)
            bad.append({"00081197": element("FailureReason", _FAILURES[type(error)])})
            continue
        told: dict[str, Any] = {
            "00081150": element("ReferencedSOPClassUID", str(one.value("SOPClassUID"))),
            "00081155": element("ReferencedSOPInstanceUID", one.sop_uid),
            "00081190": element("RetrieveURL", f"{base}/studies/{one.study_uid}/series/{one.series_uid}"
                                               f"/instances/{one.sop_uid}")}
        if not new:
            told["00081196"] = element("WarningReason", 0xB007)
        good.append(told)
    if not good:
        raise errors[0] if errors else ImageError(complain("request to store", "no part", "one instance or more"))
    then()
    first = good[0]["00081190"]["Value"][0]
    answer = {"00081190": element("RetrieveURL", first.partition("/series/")[0]),
              "00081199": element("ReferencedSOPSequence", *good)}
    if bad:
        answer["0008119A"] = element("OtherFailuresSequence", *bad)
    return Response(json.dumps(answer), 202 if bad else 200, media_type=DICOM_JSON)
