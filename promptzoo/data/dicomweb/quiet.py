"""pydicom without its word on every value that breaks the rules: real files hold thousands of them."""
from __future__ import annotations

import contextlib
import logging
import threading
from typing import Iterator

_HERE = threading.local()


class _ElsewhereOnly(logging.Filter):
    """Lets records pass except from threads that are within :func:`quiet_pydicom`."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_HERE, "depth", 0) or record.levelno >= logging.ERROR


logging.getLogger("pydicom").addFilter(_ElsewhereOnly())


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Drop pydicom's log records below ERROR that this thread causes; others and pydicom's settings stay as they are.

    pydicom's own switch (``settings.reading_validation_mode``) is one for the whole process, so it cannot be used while
    other threads read DICOM.
    """
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1
