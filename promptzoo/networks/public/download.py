"""Downloading public weights: continued where it stopped, checked, and in place only when whole."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import httpx

from promptzoo.core.errors import BundleError, NotFoundError, PromptZooError, complain
from promptzoo.networks.public.catalog import PublicWeights
from promptzoo.networks.public.store import by_hand, check, partial, place

TIMEOUT_S = 30.0
Progress = Callable[[int, int, str], None]
"""``report(bytes so far, bytes in all or 0, file name)``."""


def get(weights: PublicWeights, report: Progress = lambda done, total, name: None,
        transport: httpx.BaseTransport | None = None) -> Path:
    """Download a weight file into its place.

    What arrives goes to ``<file>.part`` first; a later call continues it if the server can. The file takes its place,
    atomically, when its size and digest are right.

    Args:
        weights: what to get.
        report: is told of the progress.
        transport: of httpx; for tests.

    Returns:
        The file.

    Raises:
        NotFoundError: if no address is known that a program can use.
        PromptZooError: if no address answers; the message says how to bring the file by hand.
        BundleError: if what arrived is not the published file; it is thrown away.
    """
    if not weights.urls:
        raise NotFoundError(complain(f"download address of {weights.name}", "none that a program can use",
                                     "; ".join(weights.pages), by_hand(weights)))
    reasons = []
    for url in weights.urls:
        try:
            _fetch(url, partial(weights), report, weights, transport)
            break
        except (httpx.HTTPError, OSError) as error:
            reasons.append(f"{url}: {type(error).__name__}: {error}")
    else:
        raise PromptZooError(complain(f"download of {weights.name}", "; ".join(reasons), "a network that reaches it",
                                      f"No network: {by_hand(weights)}"))
    try:
        check(weights, partial(weights))
    except BundleError:
        partial(weights).unlink()
        raise
    target = place(weights)
    os.replace(partial(weights), target)
    check(weights)
    return target


def _fetch(url: str, part: Path, report: Progress, weights: PublicWeights,
           transport: httpx.BaseTransport | None) -> None:
    """Bring ``part`` to its end."""
    had = part.stat().st_size if part.is_file() else 0
    if had and had == weights.bytes:
        return
    headers = {"Range": f"bytes={had}-", "Accept-Encoding": "identity"} if had else {"Accept-Encoding": "identity"}
    with httpx.Client(transport=transport, timeout=TIMEOUT_S, follow_redirects=True) as client, \
            client.stream("GET", url, headers=headers) as answer:
        if had and answer.status_code == 416:  # nothing follows: the part is whole, or longer than the file
            return
        answer.raise_for_status()
        if answer.headers.get("Content-Type", "").startswith("text/html"):
            raise httpx.HTTPError("the address answers with a page, not with a file")
        begins = had if answer.status_code == 206 and _starts_at(answer) == had else 0
        total = begins + int(answer.headers.get("Content-Length") or 0)
        with part.open("r+b" if begins else "wb") as stream:
            stream.seek(begins)
            done = begins
            for block in answer.iter_raw():  # as it arrives: what was sent is kept if the connection breaks
                stream.write(block)
                done += len(block)
                report(done, weights.bytes or total, weights.file)
            stream.truncate()
        if answer.headers.get("Content-Length") and done != total:
            raise httpx.HTTPError(f"the connection ended after {done} of {total} bytes; the next attempt continues")


def _starts_at(answer: httpx.Response) -> int:
    """First byte of a ``Content-Range: bytes 5-9/10``; -1 if there is none."""
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(text) if text.isdigit() else -1
