"""Every engine gives torch's answer, at the traced batch and at others."""
import threading

import numpy as np
import pytest
import torch
from torch import nn

from promptzoo.core.errors import EngineError
from promptzoo.core.protocols import Engine
from promptzoo.engines import compile_module
from promptzoo.engines.backend import FixedOrder
from promptzoo.engines.openvino_engine import OpenVINOBackend
from promptzoo.engines.parity import compare
from promptzoo.engines.tolerances import TOLERANCES

pytestmark = pytest.mark.usefixtures("engine_cache")
NEEDS = {"onnxruntime": ("onnx", "onnxruntime"), "int8": ("nncf",)}
PAIRS = [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
         ("onnxruntime", "fp32"), ("onnxruntime", "int8")]


def need(engine, precision):
    """Skip where an optional package, or the processor's bf16, is missing."""
    for name in (*NEEDS.get(engine, ()), *(NEEDS["int8"] if (engine, precision) == ("openvino", "int8") else ())):
        pytest.importorskip(name, reason=f"{name} is in the export extra")
    if (engine, precision) == ("openvino", "bf16") and OpenVINOBackend().blocked("bf16", "cpu", False):
        pytest.skip("this CPU has no bf16")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("engine, precision", PAIRS)
def test_agrees_with_torch(nets, dims, engine, precision):
    need(engine, precision)
    module, example = nets[dims]
    calibration = [(torch.randn_like(example[0]),) for _ in range(4)] if precision == "int8" else None
    compiled = compile_module(module, example, engine=engine, precision=precision, calibration=calibration)
    assert isinstance(compiled, Engine)
    assert (compiled.name, compiled.precision) == (engine, precision), compiled.reason
    assert compiled.device == "cpu" and engine in compiled.reason
    for batch in (1, 3):
        image = torch.randn(batch, *example[0].shape[1:])
        with torch.no_grad():
            wanted = [o.numpy() for o in module(image)]
        got = compiled(image.numpy())
        assert all(o.dtype == np.float32 and o.flags.writeable for o in got)
        parity = compare(wanted, got, TOLERANCES[precision])
        assert parity.passed, parity


def test_the_answer_is_the_callers(nets):
    module, example = nets[2]
    compiled = compile_module(module, example, engine="openvino")
    first = compiled(example[0].numpy())[0]
    kept = first.copy()
    compiled(example[0].numpy() * 2)
    np.testing.assert_array_equal(first, kept)
    first += 1
    np.testing.assert_array_equal(compiled(example[0].numpy())[0], kept)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_takes_read_only_strided_and_double_arrays(nets, engine):
    module, example = nets[2]
    compiled = compile_module(module, example, engine=engine)
    image = example[0].numpy()
    wanted = compiled(image)[0]
    frozen = image.copy()
    frozen.setflags(write=False)
    for variant in (frozen, np.asfortranarray(image), image.astype(np.float64)):
        np.testing.assert_allclose(compiled(variant)[0], wanted, atol=1e-5)


def test_several_threads_share_an_engine(nets):
    module, example = nets[2]
    compiled = compile_module(module, example, engine="openvino", threads=1)
    images = [np.full_like(example[0].numpy(), i) + example[0].numpy() for i in range(6)]
    wanted, got = [compiled(i)[0] for i in images], [None] * len(images)

    def work(index):
        for _ in range(5):
            got[index] = compiled(images[index])[0]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for a, b in zip(wanted, got):
        np.testing.assert_array_equal(a, b)


def test_torch_thread_count_is_put_back(nets):
    module, example = nets[2]
    before = torch.get_num_threads()
    compiled = compile_module(module, example, engine="torch", threads=before + 1)
    compiled(example[0].numpy())
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 4, 16, 20), (3, 16, 20), (0, 3, 16, 20)])
def test_refuses_other_shapes(nets, shape):
    module, example = nets[2]
    compiled = compile_module(module, example, engine="torch")
    with pytest.raises(EngineError, match=r"\[B, 3, 16, 20\]"):
        compiled(np.zeros(shape, np.float32))
    with pytest.raises(EngineError, match="inputs of a compiled network"):
        compiled(example[0].numpy(), example[0].numpy())


class TwoInputs(nn.Module):
    """Image and prompt maps in, one tensor out (a list of one)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, image, prompts):
        return [self.conv(torch.cat([image, prompts], 1))]


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnxruntime"])
def test_inputs_keep_their_order(engine):
    need(engine, "fp32")
    module = TwoInputs().eval()
    image, prompts = torch.randn(1, 1, 8, 8), torch.randn(1, 2, 8, 8)
    compiled = compile_module(module, (image, prompts), engine=engine)
    assert compiled.name == engine
    image, prompts = torch.randn(2, 1, 8, 8), torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        wanted = module(image, prompts)[0].numpy()
    np.testing.assert_allclose(compiled(image.numpy(), prompts.numpy())[0], wanted, atol=1e-5)


def test_interactive_network_compiles_at_a_zero_example():
    """The predictor compiles with an example of zeros, which the parity check replaces by noise."""
    from promptzoo.networks.interactive_unet import FusedForward, InteractiveUNet

    torch.manual_seed(0)
    network = InteractiveUNet(2, (8, 16), 8).eval()
    compiled = compile_module(FusedForward(network).eval(), (torch.zeros(1, 1 + network.prompt_channels, 16, 16),))
    assert compiled.name == "openvino" and compiled.parity.passed
    assert max(compiled.parity.relative_l2) > 0


@pytest.mark.parametrize("broken, message", [
    (lambda m, e: (m.train(), e), "training mode"),
    (lambda m, e: (m, ()), "example"),
    (lambda m, e: (m, e[0]), "example"),
    (lambda m, e: (m, (torch.full((1, 3, 4, 4), float("nan")),)), "finite"),
    (lambda m, e: ("net", e), "torch.nn.Module"),
])
def test_refuses_unusable_requests(broken, message):
    module, example = broken(nn.Conv2d(3, 1, 1).eval(), (torch.zeros(1, 3, 4, 4),))
    with pytest.raises(EngineError, match=message):
        compile_module(module, example)


def test_refuses_dictionaries():
    class Named(nn.Module):
        def forward(self, x):
            return {"out": x}

    with pytest.raises(EngineError, match="tensor or a tuple of tensors"):
        FixedOrder(Named())(torch.zeros(1))
