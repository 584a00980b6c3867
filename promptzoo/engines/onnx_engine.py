"""ONNX export with dynamic batch, and ONNX Runtime on the CPU: fp32, int8 for networks made of matrix products."""
from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.optional import available, require
from promptzoo.engines.backend import FixedOrder, Request, Runner, as_tensors, module_on

OPSET = 17
_QUANTISABLE = ("MatMul", "Gemm")


class OnnxRuntimeBackend:
    """Portable engine: the ONNX file is what is cached."""

    name = "onnxruntime"
    precisions = ("fp32", "int8")

    def version(self) -> str:
        """Version of ONNX Runtime, empty if it is not installed."""
        try:
            return metadata.version("onnxruntime")
        except metadata.PackageNotFoundError:
            return ""

    def unavailable(self, device: str) -> str:
        """Why ONNX Runtime cannot run on ``device``; empty if it can."""
        missing = [name for name in ("onnxruntime", "onnx") if not available(name)]
        if missing:
            return f"not installed: {', '.join(missing)} (pip install 'promptzoo[export]')"
        return "" if device == "cpu" else f"ONNX Runtime is used on the CPU, not on {device}"

    def blocked(self, precision: str, device: str, calibrated: bool) -> str:
        """Nothing is blocked beforehand; int8 of a purely convolutional network is refused by :meth:`build`."""
        return ""

    def build(self, request: Request) -> tuple[Runner, bytes | None]:
        """Export, quantise if asked, open a session; the payload is the ONNX file."""
        payload = to_onnx(request)
        return self.load(payload, request), payload

    def load(self, payload: bytes, request: Request) -> Runner:
        """Open a session on an ONNX file's bytes."""
        runtime = require("onnxruntime", "the ONNX Runtime engine", "export")
        options = runtime.SessionOptions()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if request.threads is not None:
            options.intra_op_num_threads = request.threads
        return OnnxRunner(runtime.InferenceSession(payload, options, providers=["CPUExecutionProvider"]))


class OnnxRunner:
    """Runs a session; ONNX Runtime itself is safe to call from several threads.

    Args:
        session: an ``onnxruntime.InferenceSession``.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._names = [entry.name for entry in session.get_inputs()]

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Arrays ``[B, ...]`` in, fresh float32 arrays out."""
        outputs = self._session.run(None, dict(zip(self._names, inputs)))
        return [np.asarray(o, dtype=np.float32) for o in outputs]


def input_names(count: int) -> list[str]:
    """Names of an exported network's inputs: ``input_0`` …"""
    return [f"input_{i}" for i in range(count)]


def output_names(count: int) -> list[str]:
    """Names of an exported network's outputs: ``output_0`` …"""
    return [f"output_{i}" for i in range(count)]


def to_onnx(request: Request) -> bytes:
    """The network as an ONNX file with dynamic batch.

    torch's tracing exporter is used, not the newer one: it is ten times faster, needs no onnxscript, and its graph ran
    up to three times faster in ONNX Runtime.

    Raises:
        EngineError: for int8 of a network without matrix products.
        MissingDependencyError: if onnx (onnxruntime for int8) is not installed.
    """
    require("onnx", "ONNX export", "export")
    network = FixedOrder(module_on(request.module, "cpu"))
    example = as_tensors(request.example)
    with torch.no_grad():
        count = len(network(*example))
    names = [*input_names(len(example)), *output_names(count)]
    with tempfile.TemporaryDirectory() as folder, quiet_exporter(), torch.no_grad():
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            network, example, path, dynamo=False, opset_version=OPSET, input_names=names[:len(example)],
            output_names=names[len(example):], dynamic_axes={name: {0: "batch"} for name in names},
        )
        content = path.read_bytes()
    return _quantised(content) if request.precision == "int8" else content


def _quantised(content: bytes) -> bytes:
    """Dynamic int8 of the matrix products' weights.

    Convolutions stay in fp32: ONNX Runtime's dynamic integer convolution is slower than its fp32 one, and static
    quantisation by NNCF was slower too on the networks measured (13 against 9 ms in 2D).
    """
    onnx = require("onnx", "ONNX export", "export")
    quantisation = require("onnxruntime.quantization", "int8 quantisation", "export")
    nodes = onnx.load_from_string(content).graph.node
    if not any(node.op_type in _QUANTISABLE for node in nodes):
        raise EngineError(complain("int8 in ONNX Runtime", "a network without matrix products",
                                   "networks with linear or attention layers", "Use the openvino engine for int8"))
    with tempfile.TemporaryDirectory() as folder, quiet_exporter():
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(content)
        quantisation.quantize_dynamic(source, target, op_types_to_quantize=list(_QUANTISABLE))
        return target.read_bytes()


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Hide the exporters' deprecation and tracer warnings, their advice on the root logger and prints to stdout.

    What tracing may freeze (control flow, batch size) is caught by the parity check, which uses another batch size.
    """
    root = logging.getLogger()

    def drop(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or record.name != "root"

    root.addFilter(drop)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(drop)
