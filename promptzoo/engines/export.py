"""A network as a file for another program: ONNX, OpenVINO IR or a torch.export archive, with a note of what it is."""
from __future__ import annotations

import hashlib
import itertools
import json
import os
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import numpy as np
import torch

from promptzoo.core.errors import EngineError, complain
from promptzoo.core.optional import available, require
from promptzoo.engines import registry
from promptzoo.engines.backend import FixedOrder, Request, Runner, as_array, as_tensors, checked_example, module_on
from promptzoo.engines.compile import MAX_CALIBRATION, check_parity
from promptzoo.engines.fingerprint import hardware_name, library_versions
from promptzoo.engines.onnx_engine import OnnxRuntimeBackend, input_names, to_onnx
from promptzoo.engines.openvino_engine import OpenVINORunner, compile_ir, hints, to_ir
from promptzoo.engines.tensorrt_engine import FlatEncoder, TensorRTBackend, encoder_name, encoder_to_onnx, probe_encoder
from promptzoo.engines.tolerances import Tolerance, tolerance_for
from promptzoo.engines.torch_engine import TorchRunner

NOTE = "export.json"


@dataclass(frozen=True)
class _Artefact:
    """Files written, a runner that read them back (None if nothing here runs them), what they must agree with."""

    files: tuple[Path, ...]
    runner: Runner | None
    reference: Request
    names: tuple[str, ...]
    runtime: dict[str, Any]


def export_bundle_module(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor | np.ndarray],
    out_dir: str | Path,
    engine: str = "onnxruntime",
    precision: str = "fp32",
    *,
    name: str = "model",
    calibration: Iterable[Sequence[torch.Tensor | np.ndarray]] | None = None,
    mask_outputs: Sequence[int] = (0,),
    parity_tolerance: Tolerance | None = None,
) -> dict[str, Any]:
    """Write a network for ``engine`` and check the written file against torch.

    ``onnxruntime``: ``<name>.onnx``. ``openvino``: ``<name>.xml`` and ``.bin`` (bf16 is fp32 weights and a hint for the
    runtime). ``torch``: ``<name>.pt2`` (fp32). ``tensorrt``: ``image_encoder.onnx``, what TensorRT builds from, and the
    plan ``image_encoder.plan`` where TensorRT is installed. The batch is free in all of them, other axes are fixed.

    Args:
        module: torch network in eval mode, as for :func:`promptzoo.engines.compile_module`.
        example: its inputs ``[B, ...]``.
        out_dir: folder, made if missing; files of the same names are replaced once the check has passed.
        engine: an engine's name, or ``auto``.
        precision: one of the engine's precisions (``auto`` is fp32).
        name: stem of the files.
        calibration: samples for int8.
        mask_outputs: outputs that are mask logits.
        parity_tolerance: bounds instead of those of the precision.

    Returns:
        The content of ``export.json``, written beside: engine, precision, files with sizes and hashes, inputs, outputs,
        parity, runtime options, versions, hardware.

    Raises:
        EngineError: for unknown names, a precision that cannot be exported here, or a file that disagrees with torch.
        MissingDependencyError: if a package is not installed.
    """
    arrays = checked_example(module, example)
    chosen = registry.choose_engine("auto")[0] if engine == "auto" else registry.engine_name(engine)
    precision = "fp32" if precision == "auto" else precision
    allowed = ("fp32",) if chosen == "torch" else registry.backend_for(chosen).precisions
    if precision not in allowed:
        raise EngineError(complain(f"precision of a {chosen} export", precision, ", ".join(("auto", *allowed))))
    samples = tuple(tuple(as_array(a) for a in s) for s in itertools.islice(calibration or (), MAX_CALIBRATION))
    blocked = registry.backend_for(chosen).blocked(precision, "cpu", bool(samples))
    if blocked:
        raise EngineError(complain(f"export for {chosen}", precision, "a precision that can be had here", blocked))
    request = Request(module, arrays, precision, "cpu", None, samples)
    tolerance = parity_tolerance or tolerance_for("fp32" if chosen == "tensorrt" else precision)
    target = Path(out_dir)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".export-") as folder:
        made = _WRITERS[chosen](request, Path(folder), name)
        note = _note(chosen, request, made, tolerance, mask_outputs)
        for file in made.files:
            os.replace(file, target / file.name)
        text = Path(folder, NOTE)
        text.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        os.replace(text, target / NOTE)
    return note


def _note(
    engine: str, request: Request, made: _Artefact, tolerance: Tolerance, mask_outputs: Sequence[int]
) -> dict[str, Any]:
    """The content of ``export.json``.

    Raises:
        EngineError: if the written file gives another answer than torch.
    """
    parity = None
    if made.runner is not None:
        masks = mask_outputs if made.reference is request else ()
        parity = check_parity(made.runner, made.reference, tolerance, masks)
        if not parity.passed:
            raise EngineError(f"The {engine} export disagrees with torch: {parity.problem}. Nothing was kept.")
    reference = made.reference
    outputs = TorchRunner(replace(reference, precision="fp32"))([a.copy() for a in reference.example])
    return {
        "engine": engine,
        "precision": request.precision,
        "module": type(request.module).__name__,
        "files": [{"name": f.name, "bytes": f.stat().st_size, "sha256": _sha256(f)} for f in made.files],
        "inputs": [{"name": n, "shape": ["batch", *a.shape[1:]]} for n, a in zip(made.names, reference.example)],
        "outputs": [{"name": f"output_{i}", "shape": ["batch", *o.shape[1:]]} for i, o in enumerate(outputs)],
        "parity": parity.to_dict() if parity else None,
        "runtime": made.runtime,
        "versions": library_versions(),
        "hardware": hardware_name(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_torch(request: Request, folder: Path, name: str) -> _Artefact:
    network = FixedOrder(module_on(request.module, "cpu"))
    two = [a if a.shape[0] > 1 else np.repeat(a, 2, axis=0) for a in request.example]  # a batch of 1 would be frozen
    batch = torch.export.Dim("batch", min=1)
    path = folder / f"{name}.pt2"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(network, as_tensors(two), dynamic_shapes=(tuple({0: batch} for _ in two),))
        except Exception as error:  # torch.export has many exception types of its own
            raise EngineError(f"torch.export cannot export {type(request.module).__name__}: {error}") from error
        torch.export.save(program, path)
        loaded = torch.export.load(path).module()

    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [o.numpy() for o in loaded(*as_tensors(inputs))]

    return _Artefact((path,), run, request, tuple(input_names(len(request.example))), {"format": "torch.export"})


def _write_onnx(request: Request, folder: Path, name: str) -> _Artefact:
    path = folder / f"{name}.onnx"
    path.write_bytes(to_onnx(request))
    runner = OnnxRuntimeBackend().load(path.read_bytes(), request)
    return _Artefact((path,), runner, request, tuple(input_names(len(request.example))), {"format": "ONNX"})


def _write_openvino(request: Request, folder: Path, name: str) -> _Artefact:
    openvino = require("openvino", "the OpenVINO export")
    model = to_ir(request)
    names = tuple(input_names(len(request.example)))
    for port, label in zip(model.inputs, names):
        port.get_tensor().set_names({label})
    for index, port in enumerate(model.outputs):
        port.get_tensor().set_names({f"output_{index}"})
    path = folder / f"{name}.xml"
    openvino.save_model(model, path, compress_to_fp16=False)
    del model
    runtime = {"format": "OpenVINO IR", "device": "CPU", "config": hints(request)}
    runner = OpenVINORunner(compile_ir(path, request))
    return _Artefact((path, path.with_suffix(".bin")), runner, request, names, runtime)


def _write_tensorrt(request: Request, folder: Path, name: str) -> _Artefact:
    path = folder / "image_encoder.onnx"
    path.write_bytes(encoder_to_onnx(request))
    files = [path]
    if not TensorRTBackend().unavailable("cuda"):
        payload = TensorRTBackend().build(replace(request, device="cuda"))[1]
        files.append(folder / "image_encoder.plan")
        files[-1].write_bytes(payload or b"")
    network = module_on(request.module, "cpu")
    image = probe_encoder(network, as_tensors(request.example)).image
    encoder = FlatEncoder(network.get_submodule(encoder_name(network))).eval()
    reference = replace(request, module=encoder, example=(as_array(image),), precision="fp32")
    runner = OnnxRuntimeBackend().load(path.read_bytes(), reference) if available("onnxruntime") else None
    runtime = {"format": "ONNX of the image encoder" + (" and TensorRT plan" if len(files) > 1 else "")}
    return _Artefact(tuple(files), runner, reference, ("image",), runtime)


_WRITERS: dict[str, Callable[[Request, Path, str], _Artefact]] = {
    "torch": _write_torch, "onnxruntime": _write_onnx, "openvino": _write_openvino, "tensorrt": _write_tensorrt,
}
