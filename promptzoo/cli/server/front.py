"""What stands before MONAI Label's application: who may ask, how much may be sent, and which routes are ours.

Both ``promptzoo serve`` and ``monailabel start_server`` run MONAI Label's own application; :func:`install` puts the
front before it as plain ASGI middleware, so that the two behave alike.
"""
from __future__ import annotations

import hmac
import re
import time
import uuid
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any, Awaitable, Callable, Mapping, MutableMapping, Pattern, Sequence

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from promptzoo.cli.server.problems import REQUEST_ID, answer_of
from promptzoo.cli.server.telemetry import Telemetry
from promptzoo.core.errors import AccessError, TooLargeError, complain

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "promptzoo_token"
OPEN_PATHS = ("/healthz", "/readyz", "/promptzoo/login")
"""Answered without a token: they tell nothing about studies."""
MOST_UPLOAD_BYTES = 2 << 30


@dataclass(frozen=True)
class FrontSettings:
    """What the front demands.

    Args:
        token: bearer token of every request; empty for none.
        most_bytes: largest body of a request.
    """

    token: str = ""
    most_bytes: int = MOST_UPLOAD_BYTES


class Front:
    """ASGI middleware: request id, token, size limit, metrics, and our routes before those of the host.

    Args:
        app: the host's application, called for what is not ours.
        ours: our application.
        paths: which paths are ours, as ``(methods, pattern)``; no methods means all.
        settings: see :class:`FrontSettings`.
        telemetry: counts and logs.
    """

    def __init__(self, app: App, ours: App, paths: Sequence[tuple[Sequence[str], Pattern[str]]],
                 settings: FrontSettings, telemetry: Telemetry) -> None:
        self.app, self.ours, self.paths = app, ours, tuple(paths)
        self.settings, self.telemetry = settings, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket" and self.settings.token and not self._may(scope):
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        identity, started = uuid.uuid4().hex[:12], time.perf_counter()
        scope.setdefault("state", {})[REQUEST_ID] = identity
        body = _CountedBody(receive, self.settings.most_bytes)

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", identity.encode())]}
                self.telemetry.answered(scope["method"], self._route(scope), message["status"],
                                        time.perf_counter() - started, identity)
            await send(message)

        async def told_unless_too_large(message: MutableMapping[str, Any]) -> None:
            if body.refused is None:  # whatever the application made of the broken body is dropped
                await told(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, told)
            return
        try:
            await (self.ours if self._mine(scope) else self.app)(scope, body, told_unless_too_large)
        except TooLargeError:
            pass
        if body.refused is not None:
            await answer_of(body.refused, identity)(scope, receive, told)

    def _mine(self, scope: Scope) -> bool:
        return any((not methods or scope["method"] in methods) and pattern.fullmatch(scope["path"])
                   for methods, pattern in self.paths)

    def _route(self, scope: Scope) -> str:
        """The pattern of the route, never the path itself, which holds ids."""
        route = getattr(scope.get("route"), "path", "")
        return route or "/" + scope["path"].lstrip("/").partition("/")[0]

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        identity = scope["state"][REQUEST_ID]
        if self.settings.token and scope["path"] not in OPEN_PATHS and scope["method"] != "OPTIONS" \
                and not self._may(scope):
            return answer_of(AccessError(complain("token of the request", "none or a wrong one",
                                                  "Authorization: Bearer TOKEN", "Ask who runs this server")), identity)
        length = _header(scope, b"content-length")
        if length.isdigit() and int(length) > self.settings.most_bytes:
            return answer_of(_too_large(length, self.settings.most_bytes), identity)
        return None

    def _may(self, scope: Scope) -> bool:
        scheme, _, given = _header(scope, b"authorization").partition(" ")
        given = given.strip() if scheme.lower() == "bearer" else ""
        if not given:
            try:
                cookie = SimpleCookie(_header(scope, b"cookie")).get(COOKIE)
            except CookieError:
                cookie = None
            given = cookie.value if cookie else ""
        return hmac.compare_digest(given.encode(), self.settings.token.encode())


class _CountedBody:
    """Reads the body of a request until it is larger than allowed."""

    def __init__(self, receive: Receive, most_bytes: int) -> None:
        self.receive, self.most_bytes, self.taken = receive, most_bytes, 0
        self.refused: TooLargeError | None = None

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        self.taken += len(message.get("body", b""))
        if self.taken > self.most_bytes:
            self.refused = _too_large(self.taken, self.most_bytes)
            raise self.refused
        return message


def _too_large(got: object, most: int) -> TooLargeError:
    return TooLargeError(complain("bytes of the request", str(got), f"at most {most}",
                                  "Start the server with a larger --upload-mb"))


def install(host: FastAPI, ours: FastAPI, paths: Mapping[str, Sequence[str]], settings: FrontSettings,
            telemetry: Telemetry) -> None:
    """Put the front before a running application; a second call replaces the first one's.

    Args:
        host: the application; its chain of middleware is built anew at the next request.
        ours: our routes.
        paths: regular expression of a path to the methods that are ours there; no methods means all.
        settings: see :class:`FrontSettings`.
        telemetry: counts and logs.
    """
    known = [(tuple(methods), re.compile(pattern)) for pattern, methods in paths.items()]
    host.user_middleware = [entry for entry in host.user_middleware if entry.cls is not Front]
    host.user_middleware.insert(0, Middleware(Front, ours=ours, paths=known, settings=settings, telemetry=telemetry))
    host.middleware_stack = None


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
