"""Exceptions of promptzoo.

Every message says what was wrong, the value received, what is allowed and what to do next, because the text reaches
annotators through the server and the command line unchanged.
"""
from __future__ import annotations

from typing import Sequence


class PromptZooError(Exception):
    """Base of all errors that a user can cause or cure.

    Attributes:
        http_status: status code a server answers with when this error ends a request.
    """

    http_status = 400

    @property
    def kind(self) -> str:
        """Machine-readable name of the error: the class name."""
        return type(self).__name__


class PromptError(PromptZooError, ValueError):
    """A prompt is malformed, lies outside the image or is not taken by the bundle."""

    http_status = 422


class UnclearTextError(PromptError):
    """A text prompt that is unknown or ambiguous.

    Args:
        question: what to ask the person, a sentence.
        candidates: what may be meant, the likeliest first.
    """

    def __init__(self, question: str, candidates: Sequence[str] = ()) -> None:
        super().__init__(question)
        self.candidates = tuple(candidates)


class GeometryError(PromptZooError, ValueError):
    """An affine, shape or spacing is unusable."""

    http_status = 422


class ImageError(PromptZooError, ValueError):
    """An image or mask file cannot be read, or cannot be written in the wanted format."""

    http_status = 422


class NotFoundError(PromptZooError, LookupError):
    """A named thing (bundle, image, variant, object, file) does not exist."""

    http_status = 404

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class BundleError(PromptZooError):
    """A bundle folder is incomplete or its configuration cannot be used."""

    http_status = 500


class EngineError(PromptZooError, RuntimeError):
    """An inference engine is missing, failed to compile or failed its parity check."""

    http_status = 500


class ConflictError(PromptZooError):
    """Someone else changed the thing first, or it is no longer what the request speaks of."""

    http_status = 409


class StoreError(PromptZooError):
    """A file that promptzoo keeps records in is damaged, foreign, too new or cannot be written."""

    http_status = 500


class BusyError(PromptZooError):
    """Too many requests wait already.

    Args:
        message: what the user is told.
        retry_after_s: when another attempt makes sense, in seconds.
    """

    http_status = 429

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(max(1, int(retry_after_s)))}


class AccessError(PromptZooError):
    """A request without the right to what it asks for."""

    http_status = 401
    headers = {"WWW-Authenticate": "Bearer"}


class TooLargeError(PromptZooError):
    """A request with a larger body than the server takes."""

    http_status = 413


class MissingDependencyError(PromptZooError, ImportError):
    """A feature needs a package that is not installed."""

    http_status = 501


def complain(what: str, got: object, allowed: str, then: str = "") -> str:
    """Compose an error message in the house form.

    Args:
        what: what was wrong, a short sentence without full stop.
        got: the value received; shortened to 200 characters.
        allowed: what would have been accepted.
        then: what to do next.

    Returns:
        One line: ``what: got …; allowed: …. then.``
    """
    shown = repr(got) if not isinstance(got, str) else got
    shown = shown if len(shown) <= 200 else shown[:197] + "..."
    return f"{what}: got {shown}; allowed: {allowed}." + (f" {then.rstrip('.')}." if then else "")
