"""``/dicom-web`` passed on to a PACS, so that a viewer in a browser needs one address and no credentials of the PACS.

MONAI Label has such a proxy too, but it drops the query, so that every search finds everything.
"""
from __future__ import annotations

from typing import AsyncIterator, Mapping

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from promptzoo.cli.server.dicomweb import PREFIX
from promptzoo.core.errors import complain
from promptzoo.data.dicomweb.errors import QueryError, UpstreamError

PASSED_ON = ("accept", "content-type", "content-length", "range")
PASSED_BACK = ("content-type", "content-range", "warning")


def pacs_router(url: str, user: str = "", password: str = "",
                transport: httpx.AsyncBaseTransport | None = None) -> APIRouter:
    """The routes.

    Args:
        url: DICOMweb root of the PACS.
        user, password: of HTTP basic authentication; empty for none.
        transport: of httpx; for tests.
    """
    root = url.rstrip("/")
    auth = httpx.BasicAuth(user, password) if user else None
    client = httpx.AsyncClient(auth=auth, timeout=httpx.Timeout(30.0, read=300.0), transport=transport)
    router = APIRouter(prefix=PREFIX, include_in_schema=False)

    @router.api_route("/{path:path}", methods=["GET", "POST"])
    async def pass_on(request: Request, path: str) -> Response:
        if ".." in path.split("/"):
            raise QueryError(complain("path of the DICOMweb server", path, "one without .."))
        headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
        headers["accept-encoding"] = "identity"
        body = request.stream() if request.method == "POST" else None
        target = httpx.URL(f"{root}/{path}").copy_with(query=request.url.query.encode() or None)
        try:
            answer = await client.send(client.build_request(request.method, target, headers=headers, content=body),
                                       stream=True)
        except httpx.TransportError as error:
            raise UpstreamError(complain("DICOMweb server", type(error).__name__, f"an answer of {root}",
                                         "Check address, credentials and that it runs")) from error
        return await _answer(answer, root, str(request.base_url).rstrip("/") + PREFIX)

    return router


async def _answer(answer: httpx.Response, root: str, ours: str) -> Response:
    """The PACS's answer; in JSON, its own address becomes ours."""
    headers: Mapping[str, str] = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
    if "json" in answer.headers.get("content-type", ""):
        text = await answer.aread()
        await answer.aclose()
        return Response(text.replace(root.encode(), ours.encode()), answer.status_code, dict(headers))

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await answer.aclose()

    return StreamingResponse(chunks(), answer.status_code, dict(headers))
