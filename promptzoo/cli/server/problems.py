"""Errors as JSON: ``{"detail": {"reason", "kind", "request_id", …}}`` with a status that says whose fault it is."""
from __future__ import annotations

import json
import logging
import uuid
from http import HTTPStatus
from typing import Any, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from promptzoo.core.errors import MissingDependencyError, PromptZooError, UnclearTextError

logger = logging.getLogger(__name__)

REQUEST_ID = "request_id"
"""Where the state of a request holds its id."""
_HOST_STATUS = {"INVALID_INPUT": 400, "APP_INIT_ERROR": 404, "APP_ERROR": 404}
"""Status by name of MONAI Label's own error: unknown tasks and strategies, images and labels that do not exist."""


def problem(error: Exception, request_id: str = "") -> tuple[int, dict[str, Any]]:
    """Status and body that an error is answered with.

    Args:
        error: one of ours, of FastAPI, of MONAI Label (told by its members ``error`` and ``msg``), or a defect.
        request_id: of the request; empty makes one.

    Returns:
        The status, and ``{"detail": {"reason", "kind", "request_id"}}``, of an unclear text also ``candidates``. Of a
        defect the reason tells nothing but the type of the error; the log has the traceback under the same request id.
    """
    detail: dict[str, Any] = {"reason": str(error), "kind": type(error).__name__,
                              "request_id": request_id or uuid.uuid4().hex[:12]}
    if isinstance(error, PromptZooError):
        status, detail["kind"] = error.http_status, error.kind
        if isinstance(error, UnclearTextError):
            detail["candidates"] = list(error.candidates)
    elif isinstance(error, RequestValidationError):
        status = 422
        places = [".".join(str(part) for part in entry["loc"]) + ": " + entry["msg"] for entry in error.errors()]
        detail["reason"] = "; ".join(places)
    elif isinstance(error, (HTTPException, StarletteHTTPException)):
        status, told = error.status_code, error.detail
        detail["reason"] = told if isinstance(told, str) else json.dumps(told, default=str)
        detail["kind"] = HTTPStatus(status).phrase
    elif hasattr(error, "msg") and hasattr(getattr(error, "error", None), "name"):
        detail["reason"], detail["kind"] = str(error.msg), error.error.name
        status = _HOST_STATUS.get(error.error.name, 500)
    elif isinstance(error, json.JSONDecodeError):
        status, detail["reason"], detail["kind"] = 422, f"not JSON: {error}", "PromptError"
    else:
        status, detail["reason"] = 500, f"the server failed with {type(error).__name__}; its log has more"
    return status, {"detail": detail}


def _headers(error: Exception) -> Mapping[str, str] | None:
    return getattr(error, "headers", None)


def answer_of(error: Exception, request_id: str = "") -> JSONResponse:
    """The answer to an error where no exception handler is near."""
    status, body = problem(error, request_id)
    return JSONResponse(body, status, headers=_headers(error))


async def answer_problem(request: Request, error: Exception) -> JSONResponse:
    """The exception handler: log and answer."""
    status, body = problem(error, request.scope.get("state", {}).get(REQUEST_ID, ""))
    told = body["detail"]
    defect = status >= 500 and not isinstance(error, (MissingDependencyError, StarletteHTTPException))
    logger.log(logging.ERROR if defect else logging.INFO, "%s %s -> %d %s [%s]: %s", request.method, request.url.path,
               status, told["kind"], told["request_id"], told["reason"], exc_info=error if defect else None)
    return JSONResponse(body, status, headers=_headers(error))


def install(app: FastAPI, *host_errors: type[Exception]) -> None:
    """Let an application answer every error as JSON; can be done while it runs, more than once.

    MONAI Label imports an app only when its own application has started. Starlette has built the chain of middleware by
    then and would ignore new handlers; so the chain is dropped, and the next request builds it again.

    Args:
        app: the application.
        host_errors: exception types of the host that are to be answered, besides ours and those of FastAPI.
    """
    ours = (PromptZooError, StarletteHTTPException, RequestValidationError, json.JSONDecodeError)
    for kind in (*ours, *host_errors, Exception):
        app.add_exception_handler(kind, answer_problem)
    app.middleware_stack = None
