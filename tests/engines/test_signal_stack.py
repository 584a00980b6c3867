"""A process in which OpenVINO compiled something still takes signals."""
import ctypes
import subprocess
import sys

import pytest
import torch

from promptzoo.engines import compile_module
from promptzoo.engines.signal_stack import _Stack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack(2) of Linux")

SCRIPT = """
import faulthandler, os, signal
import openvino, torch
from promptzoo.engines.signal_stack import kept_signal_stack

faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
model = openvino.convert_model(torch.nn.Linear(4, 4).eval(), example_input=torch.zeros(1, 4))
for _ in range(4):
    with kept_signal_stack():
        compiled = openvino.compile_model(model, "CPU")  # the one before ends after this one began
del compiled
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_models_may_end_in_any_order():
    """Without the guard the signal kills this script (return code -11, nothing on standard error)."""
    pytest.importorskip("openvino", reason="OpenVINO is in the label extra")
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and ended.stdout == "heard\n", (ended.returncode, ended.stderr)


def stack():
    """Where the signal handlers of this thread run, and in how many bytes."""
    now = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
    return now.ss_sp, now.ss_flags, now.ss_size


def test_the_engine_leaves_the_stack_as_it_was(engine_cache):
    pytest.importorskip("openvino", reason="OpenVINO is in the label extra")
    before = stack()
    for width in (3, 4):
        compile_module(torch.nn.Linear(width, 2).eval(), (torch.zeros(1, width),), engine="openvino")
        assert stack() == before
