"""Everything about TensorRT that needs no GPU.

The TensorRT builder is replaced by "keep the ONNX file" and its runtime by ONNX Runtime, inside MONAI's own
TrtCompiler: the export, the plan files, the names, the batch and the hand-over of tensors are the real ones.
"""
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from promptzoo.core.errors import EngineError
from promptzoo.engines import compile_image_encoder, compile_module
from promptzoo.engines.backend import Request
from promptzoo.engines.parity import compare
from promptzoo.engines.tensorrt_engine import (
    CompiledEncoder,
    TensorRTBackend,
    encoder_name,
    encoder_to_onnx,
    plan_path,
    probe_encoder,
)
from promptzoo.engines.tolerances import TOLERANCES


class FakeEngine:
    """Stands in for ``TRTEngine``; like it, returns its own buffers, which the next call overwrites."""

    loaded: list = []

    def __init__(self, plan_path, logger=None):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(Path(plan_path).read_bytes(), providers=["CPUExecutionProvider"])
        self.input_names = [entry.name for entry in self.session.get_inputs()]
        self.output_names = [entry.name for entry in self.session.get_outputs()]
        self.feeds, self.buffers = [], {}
        FakeEngine.loaded.append(Path(plan_path).name)

    def set_inputs(self, feed, stream):
        self.feeds.append(feed)

    def allocate_buffers(self, device):
        pass

    def infer(self, stream, use_cuda_graph=False):
        outputs = self.session.run(None, {k: v.numpy() for k, v in self.feeds[-1].items() if v is not None})
        for name, value in zip(self.output_names, outputs):
            if name in self.buffers and self.buffers[name].shape == value.shape:
                self.buffers[name].copy_(torch.from_numpy(value))
            else:
                self.buffers[name] = torch.from_numpy(value.copy())
        return self.buffers


@pytest.fixture
def fake_tensorrt(monkeypatch):
    """MONAI's TrtCompiler with a simulated TensorRT; returns the module."""
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is in the export extra")
    from monai.networks import trt_compiler

    class FakeTorch:
        cuda = SimpleNamespace(
            is_available=lambda: True, current_device=lambda: "cpu", empty_cache=lambda: None,
            current_stream=lambda: None,
            Stream=lambda device: SimpleNamespace(cuda_stream=0, wait_stream=lambda _: None),
        )

        def __getattr__(self, name):
            return getattr(torch, name)

    monkeypatch.setattr(trt_compiler, "torch", FakeTorch())
    monkeypatch.setattr(trt_compiler, "trt_imported", True)
    monkeypatch.setattr(trt_compiler, "polygraphy_imported", True)
    monkeypatch.setattr(trt_compiler, "TRTEngine", FakeEngine)
    monkeypatch.setattr(trt_compiler.TrtCompiler, "_onnx_to_trt", lambda self, path: Path(path).read_bytes())
    monkeypatch.setattr(TensorRTBackend, "unavailable", lambda *_: "")
    monkeypatch.setattr(FakeEngine, "loaded", [])
    return trt_compiler


def request_for(nets, dims):
    """A request on the CPU, where the simulated TensorRT runs."""
    module, example = nets[dims]
    return Request(module, (example[0].numpy(),), "fp16", "cpu")


@pytest.mark.parametrize("dims", [2, 3])
def test_build_and_load(fake_tensorrt, nets, dims):
    request = request_for(nets, dims)
    runner, plan = TensorRTBackend().build(request)
    assert plan and FakeEngine.loaded == ["network.image_encoder.compiled.plan"]
    again = TensorRTBackend().load(plan, request)
    image = torch.randn(3, *request.example[0].shape[1:])
    with torch.no_grad():
        wanted = [o.numpy() for o in request.module(image)]
    for run in (runner, again):
        assert compare(wanted, run([image.numpy()]), TOLERANCES["fp32"]).passed
    assert not isinstance(request.module.image_encoder, CompiledEncoder), "the caller's network is left alone"


def test_outputs_survive_the_next_call(fake_tensorrt, nets, tmp_path):
    """An encoded image is kept while other images are encoded."""
    import copy

    network = copy.deepcopy(nets[2][0])
    compile_image_encoder(network, tmp_path / "model.pt", nets[2][1], fallback=False)
    with torch.no_grad():
        first = network.image_encoder(torch.randn(1, 3, 16, 20))
        kept = [f.clone() for f in first]
        network.image_encoder(torch.randn(1, 3, 16, 20))
    assert isinstance(first, list)
    for a, b in zip(first, kept):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert plan_path(tmp_path / "model.pt", nets[2][0]).is_file()


class Prompted(nn.Module):
    """A network with an optional keyword prompt: what must never be given to trt_compile."""

    def forward(self, x, prompt=None):
        return x if prompt is None else x + prompt


def test_monai_keeps_keyword_inputs_between_calls(fake_tensorrt, tmp_path):
    """The bug that the adapter is there for. When this test fails, MONAI has repaired it."""
    compiler = fake_tensorrt.TrtCompiler(Prompted(), str(tmp_path / "plan"), input_names=["x", "prompt"])
    compiler.engine = SimpleNamespace(
        feeds=[], set_inputs=lambda feed, stream: compiler.engine.feeds.append(dict(feed)),
        allocate_buffers=lambda device: None, infer=lambda stream, use_cuda_graph: {"y": torch.zeros(1)},
    )
    compiler.forward(None, (torch.ones(1),), {"prompt": torch.full((1,), 5.0)})
    compiler.forward(None, (torch.ones(1) * 2,), {})
    assert "prompt" in compiler.engine.feeds[1], "MONAI no longer keeps keyword inputs"


def test_the_adapter_takes_no_keywords(fake_tensorrt, nets, tmp_path):
    import copy

    network = copy.deepcopy(nets[2][0])
    compile_image_encoder(network, tmp_path / "model.pt", nets[2][1], fallback=False)
    image = torch.randn(1, 3, 16, 20)
    for call in (lambda: network.image_encoder(image=image), lambda: network.image_encoder(image, image)):
        with pytest.raises(TypeError):
            call()
    with torch.no_grad():
        for _ in range(2):
            network.image_encoder(torch.randn(1, 3, 16, 20))
    engine = network.image_encoder.compiled._trt_compiler.engine
    assert all(list(feed) == ["image"] for feed in engine.feeds)


class KeywordCaller(nn.Module):
    """Calls its encoder in ways that a compiled encoder does not take."""

    def __init__(self, how):
        super().__init__()
        self.image_encoder, self.how = Prompted(), how

    def forward(self, x):
        if self.how == "keyword":
            return self.image_encoder(x, prompt=x)
        if self.how == "two":
            return self.image_encoder(x, x)
        return self.image_encoder(self.image_encoder(x)) if self.how == "twice" else x


@pytest.mark.parametrize("how, message", [
    ("keyword", r"keywords \['prompt'\]"),
    ("two", "2 positional"),
    ("twice", "called 2 times"),
    ("never", "called 0 times"),
])
def test_unsuitable_encoders_are_refused(how, message):
    with pytest.raises(EngineError, match=message):
        probe_encoder(KeywordCaller(how).eval(), (torch.zeros(1, 1),))


def test_encoder_is_found_inside_wrappers(nets):
    wrapped = nn.Sequential(nn.Identity(), nn.ModuleDict({"network": nets[2][0]})["network"])
    assert encoder_name(wrapped) == "1.image_encoder"
    for network in (nn.Identity(), nn.ModuleList([nets[2][0], KeywordCaller("two")])):
        with pytest.raises(EngineError, match="one submodule image_encoder"):
            encoder_name(network)


def test_without_tensorrt_the_config_helper_is_a_logged_no_op(nets, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    module, example = nets[2]
    with caplog.at_level(logging.WARNING, "promptzoo.engines"):
        assert compile_image_encoder(module, tmp_path / "model.pt", example) is module
    assert "TensorRT is not used, the image encoder stays in torch: there is no CUDA device." in caplog.text
    assert not isinstance(module.image_encoder, CompiledEncoder)
    with pytest.raises(EngineError, match="got int8; allowed: fp32, fp16, bf16"):
        compile_image_encoder(module, tmp_path / "model.pt", example, precision="int8")


@pytest.mark.parametrize("dims", [2, 3])
def test_encoder_export_is_dynamic_and_agrees(nets, dims):
    for name in ("onnx", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is in the export extra")
    import onnxruntime

    module, example = nets[dims]
    content = encoder_to_onnx(Request(module, (example[0].numpy(),), "fp16", "cpu"))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    image = torch.randn(3, *example[0].shape[1:])
    with torch.no_grad():
        wanted = [o.numpy() for o in module.image_encoder(image)]
    parity = compare(wanted, session.run(None, {"image": image.numpy()}), TOLERANCES["fp32"], ())
    assert parity.passed, parity


def test_constants_are_folded(nets):
    for name in ("polygraphy", "onnx_graphsurgeon"):
        pytest.importorskip(name, reason=f"{name} is in the trt extra")
    onnx = pytest.importorskip("onnx", reason="onnx is in the export extra")
    module, example = nets[2]
    graph = onnx.load_from_string(encoder_to_onnx(Request(module, (example[0].numpy(),), "fp16", "cpu"))).graph
    assert not any(node.op_type == "Constant" for node in graph.node)


@pytest.mark.gpu
def test_real_tensorrt(nets, engine_cache):
    pytest.importorskip("tensorrt", reason="tensorrt is in the trt extra")
    compiled = compile_module(*nets[2], engine="tensorrt", precision="fp16")
    assert compiled.name == "tensorrt", compiled.reason
    assert compiled(np.zeros((3, 3, 16, 20), np.float32))[0].shape == (3, 1, 16, 20)


@pytest.mark.gpu
def test_torch_on_cuda(nets):
    compiled = compile_module(*nets[2], engine="torch", precision="fp16")
    assert compiled.device == "cuda" and compiled.precision == "fp16"
