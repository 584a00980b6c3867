"""Folders: the user cache, the user's data, public weights and the bundles."""
from __future__ import annotations

import os
from pathlib import Path

from promptzoo.core.errors import NotFoundError, complain


def cache_dir(*parts: str) -> Path:
    """The user cache folder with ``parts`` below it, created if need be.

    ``$PROMPTZOO_CACHE``, else ``$XDG_CACHE_HOME/promptzoo``, else ``~/.cache/promptzoo``.
    """
    base = os.environ.get("PROMPTZOO_CACHE")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "promptzoo"
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def data_dir(*parts: str) -> Path:
    """The folder of what a person made and would miss, with ``parts`` below it, created if need be.

    ``$PROMPTZOO_DATA``, else ``$XDG_DATA_HOME/promptzoo``, else ``~/.local/share/promptzoo``.
    """
    base = os.environ.get("PROMPTZOO_DATA")
    root = Path(base) if base else Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "promptzoo"
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def weights_dir() -> Path:
    """The folder of public weights, created if need be: ``$PROMPTZOO_WEIGHTS``, else ``weights`` in the user cache."""
    chosen = os.environ.get("PROMPTZOO_WEIGHTS")
    if not chosen:
        return cache_dir("weights")
    folder = Path(chosen)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def versions_dir() -> Path | None:
    """The folder of the versions of bundles that were trained here: ``$PROMPTZOO_VERSIONS``, else ``versions`` in
    :func:`data_dir`; None if the variable is ``off``: bundles are then used as they were shipped."""
    chosen = os.environ.get("PROMPTZOO_VERSIONS", "")
    if chosen == "off":
        return None
    return Path(chosen) if chosen else data_dir("versions")


def embeddings_dir() -> Path | None:
    """The folder of what ``promptzoo batch --embeddings`` computed: ``$PROMPTZOO_EMBEDDINGS``; None without it.

    Raises:
        NotFoundError: if there is no such folder.
    """
    chosen = os.environ.get("PROMPTZOO_EMBEDDINGS")
    if chosen and not Path(chosen).is_dir():
        raise NotFoundError(complain("folder of embeddings", chosen, "an existing folder",
                                     "Make it with promptzoo batch --embeddings, or unset PROMPTZOO_EMBEDDINGS"))
    return Path(chosen) if chosen else None


def bundles_dir() -> Path:
    """The folder of bundles: ``$PROMPTZOO_BUNDLES`` or ``bundles/`` beside the package.

    Raises:
        NotFoundError: if there is no such folder.
    """
    chosen = os.environ.get("PROMPTZOO_BUNDLES")
    folder = Path(chosen) if chosen else Path(__file__).resolve().parents[2] / "bundles"
    if not folder.is_dir():
        raise NotFoundError(complain("bundles folder", str(folder), "an existing folder of bundles",
                                     "Set PROMPTZOO_BUNDLES, or pip install -e the repository"))
    return folder
