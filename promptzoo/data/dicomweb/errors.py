"""What a DICOMweb store refuses, with the status that PS3.18 gives for it."""
from __future__ import annotations

from promptzoo.core.errors import PromptZooError


class QueryError(PromptZooError, ValueError):
    """A search names an attribute that DICOM does not have, or a frame list that is none."""

    http_status = 400


class NotAcceptableError(PromptZooError):
    """The client accepts no media type that the store can answer with."""

    http_status = 406


class UnsupportedMediaError(PromptZooError):
    """A request to store instances is not multipart/related with application/dicom."""

    http_status = 415


class UpstreamError(PromptZooError):
    """The DICOMweb server behind this one refuses, or cannot be reached."""

    http_status = 502
