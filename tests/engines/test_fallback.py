"""A compiled network that is wrong, or does not compile, is replaced by torch with a warning."""
import logging

import numpy as np
import pytest
import torch
from torch import nn

from promptzoo.engines import Tolerance, compile_module
from promptzoo.engines.openvino_engine import OpenVINOBackend

pytestmark = pytest.mark.usefixtures("engine_cache")
LOG = "promptzoo.engines.compile"


class FrozenBatch(nn.Module):
    """Python code on the batch size: a trace keeps the number that it saw."""

    def forward(self, x):
        return x + len(x)


class Untraceable(nn.Module):
    """Works in torch, fails in every tracer."""

    def forward(self, x):
        if torch.jit.is_tracing():
            raise RuntimeError("cannot be traced\nsecond line")
        return x + 1


def wrong(factor):
    """A replacement for ``OpenVINOBackend.build`` whose results are off by a factor."""
    def build(self, request, original=OpenVINOBackend.build):
        runner, payload = original(self, request)
        return (lambda inputs: [o * factor for o in runner(inputs)]), payload
    return build


def test_wrong_results_fall_back(nets, monkeypatch, caplog, engine_cache):
    monkeypatch.setattr(OpenVINOBackend, "build", wrong(1.1))
    module, example = nets[2]
    with caplog.at_level(logging.WARNING, LOG):
        compiled = compile_module(module, example, engine="openvino")
    assert (compiled.name, compiled.precision) == ("torch", "fp32")
    assert "parity check against torch failed: output 0 differs by 0.1" in compiled.reason
    assert "Falling back to torch for TinyNet" in caplog.text
    assert not list(engine_cache.glob("*")), "a refused network must not be cached"
    with torch.no_grad():
        np.testing.assert_array_equal(compiled(example[0].numpy())[0], module(*example)[0].numpy())


def test_flipped_masks_fall_back(nets):
    """A small error may still move the outline: the mask is checked apart."""
    module, example = nets[2]
    tolerance = Tolerance(relative_l2=10.0, mask_flips_frac=0.0)
    shifted = pytest.MonkeyPatch()
    with shifted.context() as patch:
        def build(self, request, original=OpenVINOBackend.build):
            runner, _ = original(self, request)
            return (lambda inputs: [o - 0.3 for o in runner(inputs)]), None
        patch.setattr(OpenVINOBackend, "build", build)
        assert "thresholded" in compile_module(module, example, parity_tolerance=tolerance).reason
        assert compile_module(module, example, parity_tolerance=tolerance, mask_outputs=()).name == "openvino"


def test_precision_falls_back_within_the_engine(nets, monkeypatch):
    def build(self, request, original=OpenVINOBackend.build):
        if request.precision == "bf16":
            raise RuntimeError("no such kernel")
        return original(self, request)

    monkeypatch.setattr(OpenVINOBackend, "build", build)
    monkeypatch.setattr(OpenVINOBackend, "blocked", lambda *_: "")
    module, example = nets[2]
    compiled = compile_module(module, example, engine="openvino", precision="bf16")
    assert (compiled.name, compiled.precision) == ("openvino", "fp32")
    assert "no such kernel" in compiled.reason


def test_frozen_batch_is_noticed():
    """The trace at batch 1 bakes the batch size in; the check uses another batch size and sees it."""
    compiled = compile_module(FrozenBatch().eval(), (torch.randn(1, 2, 8, 8),), engine="openvino")
    assert compiled.name == "torch"
    two = np.ones((2, 2, 8, 8), np.float32)
    np.testing.assert_array_equal(compiled(two)[0], two + 2)


def test_compile_error_falls_back(caplog):
    with caplog.at_level(logging.WARNING, LOG):
        compiled = compile_module(Untraceable().eval(), (torch.zeros(1, 2),), engine="openvino")
    assert compiled.name == "torch"
    assert "cannot be traced" in caplog.text and "second line" not in caplog.text
    np.testing.assert_array_equal(compiled(np.zeros((3, 2), np.float32))[0], np.ones((3, 2), np.float32))


def test_int8_without_matrix_products_is_refused_by_onnxruntime():
    pytest.importorskip("onnxruntime", reason="onnxruntime is in the export extra")
    pytest.importorskip("onnx", reason="onnx is in the export extra")
    conv = nn.Conv2d(1, 1, 3, padding=1).eval()
    compiled = compile_module(conv, (torch.randn(1, 1, 8, 8),), engine="onnx", precision="int8")
    assert (compiled.name, compiled.precision) == ("onnxruntime", "fp32")
    assert "without matrix products" in compiled.reason
