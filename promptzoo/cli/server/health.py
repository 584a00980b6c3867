"""Routes for those who run the server: alive, ready, metrics, and signing in with a token from a browser."""
from __future__ import annotations

import hmac
from typing import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse, RedirectResponse, Response

from promptzoo.cli.server.front import COOKIE
from promptzoo.cli.server.telemetry import Telemetry
from promptzoo.core.errors import AccessError, PromptError, complain

A_WEEK_S = 7 * 24 * 3600


def health_router(telemetry: Telemetry, unready: Callable[[], str], token: str = "") -> APIRouter:
    """The routes ``/healthz``, ``/readyz``, ``/metrics`` and ``/promptzoo/login``.

    Args:
        telemetry: what ``/metrics`` tells.
        unready: says what the server still waits for; empty once it can answer.
        token: what ``/promptzoo/login`` compares with; empty if none is demanded.
    """
    router = APIRouter(tags=["promptzoo: operation"])

    @router.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Bundles are loaded and studies are listed",
                responses={503: {"description": "Not yet; the reason is told"}})
    async def readyz() -> JSONResponse:
        reason = unready()
        return JSONResponse({"status": "waiting", "reason": reason} if reason else {"status": "ready"},
                            503 if reason else 200)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        text, kind = telemetry.text()
        return Response(text, headers={"Content-Type": kind})

    @router.get("/promptzoo/login", summary="Keep the token as a cookie, for OHIF in a browser",
                response_class=RedirectResponse, status_code=303,
                responses={401: {"description": "A wrong token"}, 422: {"description": "next leaves this server"}})
    async def login(given: str = "", next: str = "/ohif/") -> RedirectResponse:
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            raise AccessError(complain("token", "a wrong one", "the token of --token-file", "Ask who runs this server"))
        if not next.startswith("/") or next.startswith(("//", "/\\")) or any(ord(c) < 33 for c in next):
            raise PromptError(complain("next", next, "a path of this server"))
        answer = RedirectResponse(next, 303)
        if token:
            answer.set_cookie(COOKIE, token, max_age=A_WEEK_S, httponly=True, samesite="strict")
        return answer

    return router
