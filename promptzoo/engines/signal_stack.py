"""Keep the memory on which signal handlers run, whatever a library does about it."""
from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Iterator


class _Stack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2) on Linux."""

    _fields_ = [("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t)]


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the calling thread its alternate signal stack (sigaltstack(2)) back afterwards.

    Every CPU plugin of OpenVINO (each ``openvino.Core`` loads its own, and so does ``openvino.compile_model``) puts a
    stack of its own in place, unmaps it at its end, and brings back the one it had found. When plugins do not end in
    the reverse order of their beginning, or end on another thread, the thread is left with a stack that is gone; the
    next signal with a Python handler (Ctrl-C, SIGTERM, SIGCHLD) then kills the process without a word. Python's own
    stack is large enough for AVX-512 and AMX frames. Does nothing but on Linux.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, found = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(found))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(found), None)
