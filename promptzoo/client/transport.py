"""Requests with retries, and errors with the server's own words."""
from __future__ import annotations

import time
from typing import Any, Callable

import httpx

from promptzoo.core.errors import PromptZooError

RETRY_STATUS = (429, 503)
"""The server asks to come again; ``Retry-After`` says when."""
LONGEST_WAIT_S = 60.0


class ServerError(PromptZooError):
    """The server refused a request.

    Args:
        status: HTTP status.
        reason: the server's words: what was wrong, the value received, what is allowed.
        request_id: by which the server's log has it.
    """

    def __init__(self, status: int, reason: str, request_id: str = "") -> None:
        super().__init__(f"{reason} (HTTP {status}{f', request {request_id}' if request_id else ''})")
        self.status, self.reason, self.request_id = status, reason, request_id


class Transport:
    """HTTP to one server.

    Args:
        url: of the server.
        token: bearer token; empty for none.
        timeout_s: of one request; a decode on a slow machine takes seconds.
        retries: how often a request is sent again when the server is busy or cannot be reached. Requests that write
            are sent again only if the server did not take them.
        sleep: waits; for tests.
        transport: of httpx; for tests.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 120.0, retries: int = 4,
                 sleep: Callable[[float], None] = time.sleep, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s, transport=transport)
        self.retries, self._sleep = retries, sleep

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def send(self, method: str, path: str, body: Any = None, taken: Callable[[], Any] | None = None,
             **query: Any) -> Any:
        """Send a request.

        Args:
            method, path: of the request.
            body: sent as JSON; None for none.
            taken: for requests that write: asks the server whether an attempt that got no answer was carried out, and
                returns what to answer with; None if it was not.
            query: parameters of the address; those that are None are left out.

        Returns:
            The :class:`httpx.Response`, or what ``taken`` returned.

        Raises:
            ServerError: if the server refuses.
            ConnectionError: if it cannot be reached.
        """
        parameters = {name: value for name, value in query.items() if value is not None}
        attempt = -1
        while True:
            attempt += 1
            last = attempt == self.retries
            try:
                answer = self._http.request(method, path, params=parameters, json=body)
            except httpx.TransportError as error:
                if last:
                    raise ConnectionError(f"{self._http.base_url} cannot be reached: {error}") from error
                self._sleep(min(LONGEST_WAIT_S, 0.5 * 2 ** attempt))
                done = self._asked(taken)
                if done is not None:
                    return done
                continue
            if answer.status_code in RETRY_STATUS and not last:
                self._sleep(_wait_of(answer, attempt))
                continue
            if answer.status_code >= 400:
                raise _error_of(answer)
            return answer

    @staticmethod
    def _asked(taken: Callable[[], Any] | None) -> Any:
        try:
            return None if taken is None else taken()
        except ConnectionError:
            return None


def _wait_of(answer: httpx.Response, attempt: int) -> float:
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(answer.headers.get("Retry-After", ""))))
    except ValueError:
        return min(LONGEST_WAIT_S, 0.5 * 2 ** attempt)


def _error_of(answer: httpx.Response) -> ServerError:
    try:
        detail = answer.json()["detail"]
        return ServerError(answer.status_code, str(detail["reason"]), str(detail.get("request_id", "")))
    except (ValueError, KeyError, TypeError):
        return ServerError(answer.status_code, answer.text[:200] or answer.reason_phrase)
