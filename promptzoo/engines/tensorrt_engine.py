"""TensorRT on CUDA, through MONAI's ``trt_compile`` on the submodule ``image_encoder`` and on nothing else.

Why only there, and why behind an adapter: ``TrtCompiler.forward`` of MONAI 1.6.1 starts with ``args = self.defaults;
args.update(kwargs)``, so a keyword input of one call is still fed to the engine in the next one. A network whose
prompts are optional keywords would silently answer with somebody else's prompt. :class:`CompiledEncoder` takes one
positional tensor and refuses anything else, so there is nothing that could stick. It also clones the outputs, which
otherwise are buffers that the next call overwrites (an encoded image must survive the encoding of another one).
"""
from __future__ import annotations

import copy
import logging
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Mapping, Sequence

import torch

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.optional import available, require
from promptzoo.engines.backend import Request, Runner, as_tensors, as_tuple
from promptzoo.engines.onnx_engine import OPSET, output_names, quiet_exporter
from promptzoo.engines.torch_engine import TorchRunner

logger = logging.getLogger(__name__)

ENCODER = "image_encoder"
_MAX_BATCH = 8


class TensorRTBackend:
    """The image encoder in TensorRT, the rest of the network in torch on the same device; the plan is cached."""

    name = "tensorrt"
    precisions = ("fp32", "fp16", "bf16")

    def version(self) -> str:
        """Version of TensorRT, empty if it is not installed."""
        try:
            return metadata.version("tensorrt")
        except metadata.PackageNotFoundError:
            return ""

    def unavailable(self, device: str) -> str:
        """Why TensorRT cannot run on ``device``; empty if it can."""
        if not torch.cuda.is_available():
            return "there is no CUDA device"
        missing = [name for name in ("tensorrt", "polygraphy", "onnx") if not available(name)]
        if not (available("cuda.bindings.runtime") or available("cuda.cudart")):  # MONAI synchronises streams with it
            missing.append("cuda-python")
        if missing:
            return f"not installed: {', '.join(missing)} (pip install 'promptzoo[trt,export]')"
        return "" if device.startswith("cuda") else f"TensorRT runs on CUDA, not on {device}"

    def blocked(self, precision: str, device: str, calibrated: bool) -> str:
        """Nothing is blocked beforehand."""
        return ""

    def build(self, request: Request) -> tuple[Runner, bytes | None]:
        """Export the encoder, build its plan by one call, keep the plan's bytes."""
        with tempfile.TemporaryDirectory() as folder:
            runner = self._runner(request, Path(folder, "network"))
            return runner, plan_path(Path(folder, "network"), request.module).read_bytes()

    def load(self, payload: bytes, request: Request) -> Runner:
        """Put the plan where MONAI looks for it and let the first call load it."""
        with tempfile.TemporaryDirectory() as folder:
            plan_path(Path(folder, "network"), request.module).write_bytes(payload)
            return self._runner(request, Path(folder, "network"))

    def _runner(self, request: Request, base: Path) -> Runner:
        network = copy.deepcopy(request.module).to(request.device).eval()
        example = as_tensors(request.example, request.device)
        max_batch = max(_MAX_BATCH, request.example[0].shape[0] + 1)  # the parity check adds one item
        _instrument(network, base, example, request.precision, max_batch, fallback=False)
        runner = TorchRunner(replace(request, module=network, precision="fp32"))
        with quiet_exporter():
            runner(list(request.example))  # MONAI exports and builds, or loads, in the first call
        return runner


@dataclass(frozen=True)
class EncoderCall:
    """How a network calls its image encoder.

    Args:
        image: the one positional tensor ``[B, C, ...]`` that it passes.
        kind: ``tensor``, ``tuple`` or ``list``: what the encoder returns.
        outputs: number of tensors returned.
    """

    image: torch.Tensor
    kind: str
    outputs: int


def encoder_name(network: torch.nn.Module) -> str:
    """Dotted name of the one submodule called ``image_encoder``, at whatever depth a wrapper has put it.

    Raises:
        EngineError: if there is none, or several beside each other.
    """
    found = [name for name, _ in network.named_modules() if name.split(".")[-1] == ENCODER]
    outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    if len(outer) != 1:
        got = f"{type(network).__name__} with {len(outer)} submodules {ENCODER}"
        raise EngineError(complain("TensorRT target", got, f"a network with one submodule {ENCODER}"))
    return outer[0]


def plan_path(base: Path, network: torch.nn.Module) -> Path:
    """Where MONAI keeps the plan of ``network``'s encoder: ``<base>.<dotted name of the encoder>.compiled.plan``."""
    return base.with_name(f"{base.name}.{encoder_name(network)}.compiled.plan")


def probe_encoder(network: torch.nn.Module, example: Sequence[torch.Tensor]) -> EncoderCall:
    """Run ``network(*example)`` once and note how it calls ``image_encoder``.

    Raises:
        EngineError: if there is no such submodule, it is not called exactly once with one positional tensor and no
            keyword, or it does not return a tensor or a tuple or list of tensors.
    """
    encoder = network.get_submodule(encoder_name(network))
    allowed = f"a network that calls its submodule {ENCODER} once, with one positional tensor and nothing else"
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
    hook = encoder.register_forward_hook(
        lambda _, args, kwargs, output: calls.append((args, kwargs, output)), with_kwargs=True
    )
    try:
        with torch.no_grad():
            network(*example)
    finally:
        hook.remove()
    if len(calls) != 1:
        raise EngineError(complain("TensorRT target", f"{ENCODER} called {len(calls)} times", allowed))
    args, kwargs, output = calls[0]
    if kwargs or len(args) != 1 or not isinstance(args[0], torch.Tensor):
        got = f"{ENCODER} called with {len(args)} positional inputs and keywords {sorted(kwargs)}"
        raise EngineError(complain("TensorRT target", got, allowed))
    kind = "tensor" if isinstance(output, torch.Tensor) else "list" if isinstance(output, list) else "tuple"
    return EncoderCall(args[0], kind, len(as_tuple(output)))


class FlatEncoder(torch.nn.Module):
    """The part that TensorRT replaces: one tensor ``image`` in, a tuple of tensors out.

    Args:
        encoder: the network's own image encoder.
    """

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The encoder's outputs as a tuple."""
        return as_tuple(self.encoder(image))


class CompiledEncoder(torch.nn.Module):
    """Stands in for ``image_encoder``: exactly one positional tensor in, the encoder's own output structure out.

    Args:
        encoder: the network's own image encoder; ``compiled`` wraps it and is the module that MONAI instruments.
        call: how the network uses it.
    """

    def __init__(self, encoder: torch.nn.Module, call: EncoderCall) -> None:
        super().__init__()
        self.compiled = FlatEncoder(encoder)
        self.kind = call.kind
        self.names = output_names(call.outputs)
        self.eval()

    def forward(self, image: torch.Tensor, /) -> Any:
        """Encode ``image`` ``[B, C, ...]``; a keyword or a second input is a ``TypeError``."""
        outputs = self.compiled(image)
        if isinstance(outputs, Mapping):  # TensorRT's own buffers, by name
            outputs = [outputs[name].clone() for name in self.names]
        if self.kind == "tensor":
            return outputs[0]
        return list(outputs) if self.kind == "list" else tuple(outputs)


def compile_image_encoder(
    network: torch.nn.Module, base_path: str | Path, example: Sequence[torch.Tensor], *, precision: str = "fp16",
    max_batch: int = _MAX_BATCH, fallback: bool = True,
) -> torch.nn.Module:
    """Let TensorRT run ``network.image_encoder``; for ``configs/inference_trt.json``. Without TensorRT a logged no-op.

    Args:
        network: on its device, in eval mode; changed in place.
        base_path: the plan goes to :func:`plan_path` of it; if it names an existing file (the checkpoint), a plan older
            than that file is built anew.
        example: the network's positional inputs, to see how it calls its encoder.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        max_batch: largest batch of the plan.
        fallback: run torch for inputs that the plan does not take, instead of raising.

    Returns:
        ``network``, for use in a config.

    Raises:
        EngineError: for an unknown precision, or a network that cannot be compiled (see :func:`probe_encoder`).
    """
    if precision not in TensorRTBackend.precisions:
        raise EngineError(complain("TensorRT precision", precision, ", ".join(TensorRTBackend.precisions)))
    reason = TensorRTBackend().unavailable("cuda")
    if reason:
        logger.warning("TensorRT is not used, the image encoder stays in torch: %s.", reason)
        return network
    _instrument(network, Path(base_path), example, precision, max_batch, fallback)
    return network


def _instrument(
    network: torch.nn.Module,
    base: Path,
    example: Sequence[torch.Tensor],
    precision: str,
    max_batch: int,
    fallback: bool,
) -> None:
    trt_compile = require("monai.networks", "the TensorRT engine").trt_compile
    name, call = encoder_name(network), probe_encoder(network, example)
    network.set_submodule(name, CompiledEncoder(network.get_submodule(name), call))
    args = {
        "precision": precision, "dynamic_batchsize": [1, 1, max_batch], "fallback": fallback, "input_names": ["image"],
        "output_names": output_names(call.outputs), "export_args": _export_args(),
    }
    trt_compile(network, str(base), args=args, submodule=f"{name}.compiled")


def _export_args() -> dict[str, Any]:
    """The exporter's options; a new dict each time because TrtCompiler writes into it."""
    return {"dynamo": False, "opset_version": OPSET}


def encoder_to_onnx(request: Request) -> bytes:
    """What TensorRT would be given: the encoder as ONNX, exported as ``TrtCompiler`` does it.

    Casts around norms, dynamic batch, constants folded if polygraphy is installed. Needs neither CUDA nor TensorRT.

    Returns:
        An ONNX file with the input ``image`` and the outputs ``output_0`` …

    Raises:
        EngineError: if the network cannot be compiled (see :func:`probe_encoder`).
        MissingDependencyError: if onnx is not installed.
    """
    require("onnx", "ONNX export", "export")
    utils = require("monai.networks.utils", "the TensorRT export")
    network = copy.deepcopy(request.module).cpu().eval()
    call = probe_encoder(network, as_tensors(request.example))
    encoder = FlatEncoder(network.get_submodule(encoder_name(network))).eval()
    with tempfile.TemporaryDirectory() as folder, quiet_exporter():
        utils.add_casts_around_norms(encoder)
        path = Path(folder, "encoder.onnx")
        utils.convert_to_onnx(
            encoder, {"image": call.image}, filename=str(path), input_names=["image"],
            output_names=output_names(call.outputs), dynamic_axes={"image": [0]}, **_export_args(),
        )
        return path.read_bytes()
