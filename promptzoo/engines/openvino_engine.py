"""OpenVINO on the CPU: fp32, bf16 by execution hint, int8 by NNCF post-training quantisation."""
from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import torch

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.optional import available, require
from promptzoo.engines.backend import FixedOrder, Request, Runner, as_tensors, module_on
from promptzoo.engines.signal_stack import kept_signal_stack
from promptzoo.engines.telemetry import silence_telemetry

_HINT = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # without a hint a CPU with AMX silently computes in bf16


class OpenVINOBackend:
    """Traces the module, converts it in memory and compiles it for low latency; the compiled blob is what is cached."""

    name = "openvino"
    precisions = ("fp32", "bf16", "int8")

    def version(self) -> str:
        """Version of OpenVINO, empty if it is not installed."""
        try:
            return metadata.version("openvino")
        except metadata.PackageNotFoundError:
            return ""

    def unavailable(self, device: str) -> str:
        """Why OpenVINO cannot run on ``device``; empty if it can."""
        if not available("openvino"):
            return "the package openvino is not installed (pip install openvino)"
        return "" if device == "cpu" else f"OpenVINO is used on the CPU, not on {device}"

    def blocked(self, precision: str, device: str, calibrated: bool) -> str:
        """bf16 needs a CPU that has it, int8 needs NNCF and calibration samples."""
        if precision == "bf16" and "BF16" not in _capabilities():
            return "this CPU has no bf16 instructions (OpenVINO would compute in fp32)"
        if precision == "int8" and not available("nncf"):
            return "int8 needs the package nncf (pip install 'promptzoo[export]')"
        if precision == "int8" and not calibrated:
            return "int8 needs calibration samples"
        return ""

    def build(self, request: Request) -> tuple[Runner, bytes | None]:
        """Convert, quantise if asked, compile; the payload is OpenVINO's exported blob."""
        compiled = compile_ir(to_ir(request), request)
        stream = compiled.export_model()
        payload = stream if isinstance(stream, bytes) else stream.getvalue()
        return OpenVINORunner(compiled), bytes(payload)

    def load(self, payload: bytes, request: Request) -> Runner:
        """Import a blob; the execution hints are given again because the blob does not carry them."""
        return OpenVINORunner(_core().import_model(io.BytesIO(payload), "CPU", hints(request)))


class OpenVINORunner:
    """One infer request behind a lock: requests from several threads take turns, as the latency hint assumes.

    Args:
        compiled: an ``openvino.CompiledModel``.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._ports = list(compiled.outputs)
        self._lock = threading.Lock()

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Arrays ``[B, ...]`` in, fresh float32 arrays out."""
        with self._lock:
            results = self._request.infer(inputs, share_inputs=True, share_outputs=False)
            return [np.array(results[port], dtype=np.float32) for port in self._ports]


def to_ir(request: Request) -> Any:
    """The network as an ``openvino.Model`` with dynamic batch, quantised if the precision is int8.

    The module is traced here, once: left to itself the converter runs the network several times.

    Raises:
        EngineError: for int8 without calibration samples.
        MissingDependencyError: if openvino, or nncf for int8, is not installed.
    """
    openvino = require("openvino", "the OpenVINO engine")
    silence_telemetry()
    network = FixedOrder(module_on(request.module, "cpu"))
    example = as_tensors(request.example)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer warnings; frozen control flow is caught by the parity check
        traced = torch.jit.trace(network, example, check_trace=False)
        model = openvino.convert_model(traced, example_input=example)
    shapes = {port: openvino.PartialShape([-1, *a.shape[1:]]) for port, a in zip(model.inputs, request.example)}
    model.reshape(shapes)
    return _quantised(model, request) if request.precision == "int8" else model


def _quantised(model: Any, request: Request) -> Any:
    """NNCF post-training quantisation: symmetric weights, asymmetric activations (SiLU and friends are lopsided)."""
    if not request.calibration:
        raise EngineError(complain("int8 without calibration", "no samples", "an iterable of tuples of arrays",
                                   "Pass calibration=, for example windows of procedural images"))
    silence_telemetry()
    nncf = require("nncf", "int8 quantisation", "export")
    nncf.set_log_level(logging.ERROR)
    samples = [list(sample) for sample in request.calibration]
    bars = io.StringIO()  # progress bars, which would land in the output of --json commands
    with kept_signal_stack(), contextlib.redirect_stdout(bars):
        return nncf.quantize(
            model, nncf.Dataset(samples), subset_size=len(samples), preset=nncf.QuantizationPreset.MIXED
        )


def compile_ir(model: Any, request: Request) -> Any:
    """An ``openvino.CompiledModel`` from a model in memory or the path of an ``.xml`` file."""
    with kept_signal_stack():
        return _core().compile_model(model, "CPU", hints(request))


def hints(request: Request) -> dict[str, Any]:
    """Execution options for the request's precision and threads."""
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINT[request.precision]}
    if request.threads is not None:
        config["INFERENCE_NUM_THREADS"] = request.threads
    return config


@lru_cache(maxsize=1)
def _core() -> Any:
    return require("openvino", "the OpenVINO engine").Core()


@lru_cache(maxsize=1)
def _capabilities() -> tuple[str, ...]:
    with kept_signal_stack():
        return tuple(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
