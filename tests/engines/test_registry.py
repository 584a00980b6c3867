"""Names, choices and the reasons given for them."""
import logging

import pytest

from promptzoo.core.errors import EngineError, MissingDependencyError
from promptzoo.engines import choose_engine, compile_module, engine_report, registry
from promptzoo.engines.onnx_engine import OnnxRuntimeBackend
from promptzoo.engines.openvino_engine import OpenVINOBackend
from promptzoo.engines.tensorrt_engine import TensorRTBackend


@pytest.fixture
def cuda(monkeypatch):
    """Pretend that torch sees a CUDA device."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)


@pytest.fixture
def no_cuda(monkeypatch):
    """Pretend that there is none."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_auto_on_the_cpu(no_cuda, monkeypatch):
    assert choose_engine("auto") == ("openvino", "auto: openvino is the fastest engine found for cpu")
    monkeypatch.setattr(OpenVINOBackend, "unavailable", lambda *_: "it is not installed")
    assert choose_engine() == ("torch", "auto: torch on cpu, because openvino is not usable: it is not installed")


def test_auto_on_cuda(cuda, monkeypatch):
    monkeypatch.setattr("promptzoo.engines.tensorrt_engine.available", lambda name: name in ("onnx", "cuda.cudart"))
    name, reason = choose_engine("auto")
    assert name == "torch" and "not installed: tensorrt, polygraphy" in reason
    monkeypatch.setattr("promptzoo.engines.tensorrt_engine.available", lambda _: True)
    assert choose_engine("auto")[0] == "tensorrt"
    assert choose_engine("auto", "cpu")[0] == "openvino"


def test_compile_says_what_it_chose(nets, engine_cache, caplog, no_cuda):
    with caplog.at_level(logging.INFO, "promptzoo.engines"):
        compiled = compile_module(*nets[2])
    assert compiled.reason == "auto: openvino is the fastest engine found for cpu"
    assert "Engine: openvino fp32 on cpu (auto: openvino is the fastest engine found for cpu)." in caplog.text
    assert compiled.describe()["parity"]["passed"]


@pytest.mark.parametrize("call", [choose_engine, registry.backend_for, registry.engine_name])
def test_unknown_engine_lists_the_known(call):
    with pytest.raises(EngineError, match="got coreml; allowed: auto, torch, openvino, onnxruntime, tensorrt"):
        call("coreml")


def test_unknown_precision_lists_the_known(nets, engine_cache):
    with pytest.raises(EngineError, match="got fp8; allowed: auto, fp32, bf16, int8"):
        compile_module(*nets[2], engine="openvino", precision="fp8")
    with pytest.raises(EngineError, match="got bf16; allowed: auto, fp32, int8"):
        compile_module(*nets[2], precision_policy={"onnxruntime": "bf16"}, engine="onnx")


def test_devices(no_cuda):
    with pytest.raises(EngineError, match="unknown device"):
        choose_engine("torch", "tpu")
    with pytest.raises(EngineError, match="no CUDA device"):
        choose_engine("torch", "cuda")


def test_openvino_is_not_for_cuda(cuda):
    assert choose_engine("openvino")[0] == "openvino"
    with pytest.raises(EngineError, match="not on cuda"):
        choose_engine("openvino", "cuda:0")


def test_missing_package_of_a_named_engine(monkeypatch, no_cuda):
    monkeypatch.setattr("promptzoo.engines.onnx_engine.available", lambda _: False)
    monkeypatch.setattr(OnnxRuntimeBackend, "version", lambda _: "")
    with pytest.raises(MissingDependencyError, match=r"promptzoo\[export\]"):
        choose_engine("onnx")


def test_tensorrt_without_cuda_is_a_logged_no_op(nets, engine_cache, caplog, no_cuda):
    with caplog.at_level(logging.WARNING, "promptzoo.engines"):
        compiled = compile_module(*nets[2], engine="tensorrt", precision="fp16")
    assert (compiled.name, compiled.precision) == ("torch", "fp32")
    assert "trt_compile has no effect here and torch runs" in caplog.text
    assert "there is no CUDA device" in compiled.reason


class TestPrecisions:
    """Which precisions are tried, in which order."""

    def test_auto_follows_the_policy_and_ends_in_fp32(self, monkeypatch):
        monkeypatch.setattr(OpenVINOBackend, "blocked", lambda *_: "")
        pick = registry.candidate_precisions
        assert pick("openvino", "auto", None, "cpu", False) == ["fp32"]
        assert pick("openvino", "auto", {"torch": "bf16"}, "cpu", False) == ["fp32"]
        assert pick("openvino", "auto", {"openvino": "bf16"}, "cpu", False) == ["bf16", "fp32"]
        assert pick("openvino", "auto", {"openvino": ["int8", "bf16"]}, "cpu", True) == ["int8", "bf16", "fp32"]

    def test_int8_needs_samples(self, caplog):
        with caplog.at_level(logging.WARNING):
            assert registry.candidate_precisions("openvino", "int8", None, "cpu", False) == ["fp32"]
        assert "openvino in int8 is not possible: int8 needs calibration samples" in caplog.text

    def test_bf16_needs_a_processor(self, monkeypatch):
        monkeypatch.setattr("promptzoo.engines.openvino_engine._capabilities", lambda: ("FP32",))
        assert registry.candidate_precisions("openvino", "auto", {"openvino": "bf16"}, "cpu", False) == ["fp32"]

    def test_policy_decides_what_runs(self, nets, engine_cache, monkeypatch):
        compiled = compile_module(*nets[2], engine="torch", precision_policy={"torch": "bf16"})
        assert (compiled.name, compiled.precision) == ("torch", "bf16")


def test_report(no_cuda):
    report = {entry["engine"]: entry for entry in engine_report()}
    assert set(report) == set(registry.ENGINES)
    assert report["torch"]["available"] and report["torch"]["precisions"] == ["fp32", "bf16"]
    assert report["openvino"]["auto"] and report["openvino"]["version"]
    assert not report["tensorrt"]["available"] and report["tensorrt"]["why"] == "there is no CUDA device"
    assert all(entry["why"] or entry["available"] for entry in report.values())


def test_report_names_missing_packages(monkeypatch, cuda):
    monkeypatch.setattr("promptzoo.engines.tensorrt_engine.available", lambda _: False)
    assert "tensorrt, polygraphy, onnx, cuda-python (pip install" in TensorRTBackend().unavailable("cuda")
