"""The bearer token of a server."""
from __future__ import annotations

import logging
import os
from pathlib import Path

from promptzoo.core.errors import NotFoundError, PromptZooError, complain

logger = logging.getLogger(__name__)

SHORTEST = 16


def read_token(path: str | Path | None) -> str:
    """The token in a file, without surrounding white space; empty for no file.

    Raises:
        NotFoundError: if there is no such file.
        PromptZooError: if the token is shorter than 16 characters or holds anything but printable ASCII without spaces.
    """
    if not path:
        return ""
    place = Path(path).expanduser()
    if not place.is_file():
        raise NotFoundError(complain("token file", str(path), "an existing file",
                                     "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))' > FILE"))
    token = place.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < SHORTEST or not all(33 <= ord(c) <= 126 and c not in ';,"\\' for c in token):
        raise PromptZooError(complain("token", f"{len(token)} characters", f"{SHORTEST} or more printable ASCII "
                                      "characters without spaces, quotes, commas and semicolons"))
    if os.name == "posix" and place.stat().st_mode & 0o077:
        logger.warning("the token file %s can be read by others: chmod 600 it", place)
    return token
