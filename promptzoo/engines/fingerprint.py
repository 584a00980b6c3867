"""What a compiled network depends on, as one hash; and the names of this machine and its libraries."""
from __future__ import annotations

import hashlib
import inspect
import json
import platform
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import torch

import promptzoo

PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime", "tensorrt", "polygraphy", "monai", "numpy")
_RELEASED = ("torch", "monai", "numpy", "builtins")  # their code is pinned by their version


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of promptzoo and of the installed packages that take part in compiling; absent ones are left out."""
    versions = {"promptzoo": promptzoo.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@lru_cache(maxsize=None)
def hardware_name(device: str = "cpu") -> str:
    """The processor's or graphics card's name, with the machine type: compiled code is not portable between them."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters and buffers (non-persistent ones too)."""
    digest = hashlib.sha256()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def code_hash(module: torch.nn.Module) -> str:
    """SHA-256 over the module's printed structure and the source files of its classes, except those of pinned packages.

    A network whose forward was edited must not meet the engine compiled before the edit.
    """
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}|{module}".encode())
    files = set()
    for part in module.modules():
        if type(part).__module__.split(".")[0] in _RELEASED:
            continue
        try:
            files.add(inspect.getfile(type(part)))
        except (TypeError, OSError):  # a class typed at a prompt has no file
            continue
    for file in sorted(files):
        try:
            digest.update(Path(file).read_bytes())
        except OSError:
            digest.update(file.encode())
    return digest.hexdigest()


def arrays_hash(samples: Sequence[Sequence[np.ndarray]]) -> str:
    """SHA-256 over the shapes and bytes of calibration samples."""
    digest = hashlib.sha256()
    for sample in samples:
        for array in sample:
            digest.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def engine_key(module: torch.nn.Module, example: Sequence[np.ndarray], details: Mapping[str, Any]) -> str:
    """The cache key of a compiled network.

    Args:
        module: the torch network.
        example: its inputs; all axes but the first (batch) count.
        details: everything else that matters: engine, precision, device, threads, the caller's key, calibration hash.

    Returns:
        64 hexadecimal digits.
    """
    parts = {
        "weights": weights_hash(module),
        "code": code_hash(module),
        "inputs": [list(a.shape[1:]) for a in example],
        "versions": library_versions(),
        **details,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
