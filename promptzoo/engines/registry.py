"""Which engines there are, which of them run here, and which one is chosen."""
from __future__ import annotations

import logging
from typing import Any, Mapping, Sequence

import torch

from promptzoo.core.errors import EngineError, MissingDependencyError, complain
from promptzoo.engines.backend import Backend
from promptzoo.engines.onnx_engine import OnnxRuntimeBackend
from promptzoo.engines.openvino_engine import OpenVINOBackend
from promptzoo.engines.tensorrt_engine import TensorRTBackend
from promptzoo.engines.tolerances import TOLERANCES
from promptzoo.engines.torch_engine import TorchBackend

logger = logging.getLogger(__name__)

_BACKENDS: dict[str, Backend] = {
    b.name: b for b in (TorchBackend(), OpenVINOBackend(), OnnxRuntimeBackend(), TensorRTBackend())
}
ENGINES: tuple[str, ...] = tuple(_BACKENDS)
PRECISIONS: tuple[str, ...] = tuple(TOLERANCES)
_ALIASES = {"onnx": "onnxruntime"}
_ON_CPU_ONLY = ("openvino", "onnxruntime")


def engine_name(requested: str) -> str:
    """The engine's own name for a name that a person may type (``onnx`` is ``onnxruntime``); ``auto`` stays.

    Raises:
        EngineError: for an unknown name.
    """
    name = _ALIASES.get(requested, requested)
    if name != "auto" and name not in _BACKENDS:
        raise EngineError(complain("unknown engine", requested, ", ".join(("auto", *ENGINES))))
    return name


def backend_for(name: str) -> Backend:
    """The engine called ``name`` (an engine's own name).

    Raises:
        EngineError: for an unknown name.
    """
    found = engine_name(name)
    if found == "auto":
        raise EngineError(complain("engine", name, ", ".join(ENGINES)))
    return _BACKENDS[found]


def pick_device(requested: str = "auto") -> str:
    """``auto``: ``cuda`` if torch sees one, else ``cpu``; a name is checked.

    Raises:
        EngineError: if the device is unknown or absent.
    """
    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if requested.split(":")[0] not in ("cpu", "cuda"):
        raise EngineError(complain("unknown device", requested, "auto, cpu, cuda, cuda:N"))
    if requested.startswith("cuda") and not torch.cuda.is_available():
        raise EngineError(complain("device", requested, "cpu", "torch sees no CUDA device here"))
    return requested


def choose_engine(requested: str = "auto", device: str = "auto") -> tuple[str, str]:
    """Choose an engine and say why.

    ``auto`` is TensorRT on CUDA where it is installed, OpenVINO on the CPU, else torch. A named engine is taken; only
    TensorRT without CUDA or its packages gives torch with a warning, so that one configuration serves any machine.

    Args:
        requested: ``auto``, ``torch``, ``openvino``, ``onnxruntime`` (or ``onnx``), ``tensorrt``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The engine's name and one sentence without full stop.

    Raises:
        EngineError: for an unknown engine or device, or an engine that does not run on the device.
        MissingDependencyError: if a named engine's package is not installed.
    """
    name, place = engine_name(requested), pick_device(device)
    if name == "auto":
        preferred = "tensorrt" if place.startswith("cuda") else "openvino"
        reason = _BACKENDS[preferred].unavailable(place)
        if not reason:
            return preferred, f"auto: {preferred} is the fastest engine found for {place}"
        return "torch", f"auto: torch on {place}, because {preferred} is not usable: {reason}"
    place = "cpu" if name in _ON_CPU_ONLY and device == "auto" else place
    reason = _BACKENDS[name].unavailable(place)
    if not reason:
        return name, f"{name} was asked for"
    if name == "tensorrt":
        sentence = f"tensorrt was asked for, but {reason}: trt_compile has no effect here and torch runs"
        logger.warning("%s.", sentence)
        return "torch", sentence
    if not _BACKENDS[name].version():
        raise MissingDependencyError(f"The engine {name!r} cannot be used: {reason}.")
    raise EngineError(complain("engine", name, "an engine for this device", reason))


def engine_device(name: str, device: str = "auto") -> str:
    """Where the engine ``name`` runs if the caller says ``device``."""
    return "cpu" if name in _ON_CPU_ONLY else pick_device(device)


def candidate_precisions(
    name: str, requested: str, policy: Mapping[str, str | Sequence[str]] | None, device: str, calibrated: bool
) -> list[str]:
    """Precisions to try in order.

    Args:
        name: the engine.
        requested: a precision, or ``auto`` for what ``policy`` allows.
        policy: per engine a precision or several, fastest first; a bundle's ``promptzoo.precision``.
        device: where the engine runs.
        calibrated: whether calibration samples for int8 are at hand.

    Returns:
        At least one entry, among them ``fp32``; a named precision that this machine cannot give is left out with a
        warning.

    Raises:
        EngineError: for a precision that the engine does not have, in the request or in the policy.
    """
    backend = backend_for(name)
    wanted: Sequence[str] = (requested,)
    if requested == "auto":
        allowed = (policy or {}).get(name, "fp32")
        wanted = [allowed] if isinstance(allowed, str) else list(allowed)
    usable = []
    for precision in wanted:
        if precision not in backend.precisions:
            raise EngineError(complain(f"precision of {name}", precision, ", ".join(("auto", *backend.precisions))))
        reason = backend.blocked(precision, device, calibrated)
        if not reason:
            usable.append(precision)
            continue
        level = logging.INFO if requested == "auto" else logging.WARNING
        logger.log(level, "%s in %s is not possible: %s. The next precision is taken.", name, precision, reason)
    if "fp32" not in usable:
        usable.append("fp32")
    return usable


def engine_report() -> list[dict[str, Any]]:
    """What is found on this machine, one entry per engine.

    Returns:
        ``engine``, ``available``, ``version`` (empty if not installed), ``device``, ``precisions`` that run now
        (int8 given calibration samples), ``why`` (what is missing; empty if nothing) and ``auto`` (taken by ``auto``).
    """
    chosen = choose_engine("auto")[0]
    report = []
    for name, backend in _BACKENDS.items():
        device = "cuda" if name == "tensorrt" else engine_device(name)
        reason = backend.unavailable(device)
        blocked = {p: backend.blocked(p, device, True) for p in backend.precisions} if not reason else {}
        report.append({
            "engine": name,
            "available": not reason,
            "version": backend.version(),
            "device": device,
            "precisions": [p for p, why in blocked.items() if not why],
            "why": reason or "; ".join(f"{p}: {why}" for p, why in blocked.items() if why),
            "auto": name == chosen,
        })
    return report
