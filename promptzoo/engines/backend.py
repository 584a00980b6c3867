"""The small contract between :func:`promptzoo.engines.compile_module` and the engines, and helpers that they share."""
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Callable, Protocol, Sequence

import numpy as np
import torch

from promptzoo.core.errors import EngineError, complain

Runner = Callable[[list[np.ndarray]], list[np.ndarray]]
"""Runs contiguous float32 arrays ``[B, ...]`` through a network; returns its outputs as fresh float32 arrays."""


@dataclass(frozen=True)
class Request:
    """One network to compile.

    Args:
        module: torch network in eval mode: positional tensors in, a tensor or a tuple of tensors out.
        example: its inputs as float32 arrays ``[B, ...]``; all axes but the first are fixed.
        precision: one of the engine's precisions.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: CPU threads, or None for the library's choice.
        calibration: samples like ``example`` for int8, possibly none.
    """

    module: torch.nn.Module
    example: tuple[np.ndarray, ...]
    precision: str
    device: str
    threads: int | None = None
    calibration: tuple[tuple[np.ndarray, ...], ...] = ()


class Backend(Protocol):
    """One engine."""

    @property
    def name(self) -> str:
        """The engine's name."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """All precisions that the engine knows, wherever it runs."""

    def version(self) -> str:
        """Version of the library, empty if it is not installed."""

    def unavailable(self, device: str) -> str:
        """Why the engine cannot run on ``device`` here; empty if it can."""

    def blocked(self, precision: str, device: str, calibrated: bool) -> str:
        """Why ``precision`` cannot be had here although the engine runs; empty if it can."""

    def build(self, request: Request) -> tuple[Runner, bytes | None]:
        """Compile; returns the runner and what :meth:`load` needs to make it again (None: nothing worth storing)."""

    def load(self, payload: bytes, request: Request) -> Runner:
        """Make a runner from what :meth:`build` returned on the same machine with the same libraries."""


class FixedOrder(torch.nn.Module):
    """A network whose outputs are always a tuple of tensors; what the exporters see.

    Args:
        module: the network.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module
        self.eval()

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The network's outputs, each ``[B, ...]`` float32."""
        return tuple(output.float() for output in as_tuple(self.module(*inputs)))


def as_tuple(outputs: object) -> tuple[torch.Tensor, ...]:
    """A network's output as a tuple of tensors.

    Raises:
        EngineError: if it is neither a tensor nor a non-empty tuple or list of tensors.
    """
    if isinstance(outputs, torch.Tensor):
        return (outputs,)
    if isinstance(outputs, (tuple, list)) and outputs and all(isinstance(o, torch.Tensor) for o in outputs):
        return tuple(outputs)
    raise EngineError(complain("network output", type(outputs).__name__, "a tensor or a tuple of tensors",
                               "Wrap the network so that it returns plain tensors"))


def as_array(value: torch.Tensor | np.ndarray) -> np.ndarray:
    """A contiguous float32 array of any tensor or array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.ascontiguousarray(value, dtype=np.float32)


def checked_example(
    module: torch.nn.Module, example: Sequence[Any], threads: int | None = None
) -> tuple[np.ndarray, ...]:
    """The example as arrays, after checking it and the module.

    Raises:
        EngineError: if ``module`` is no module or in training mode, ``threads`` is below 1, or ``example`` is not a
            non-empty tuple or list of finite tensors that have a batch axis.
    """
    if not isinstance(module, torch.nn.Module):
        raise EngineError(complain("network", type(module).__name__, "a torch.nn.Module"))
    if module.training:
        name = type(module).__name__
        raise EngineError(complain("network in training mode", name, "eval mode", "Call module.eval() first"))
    if threads is not None and threads < 1:
        raise EngineError(complain("number of threads", threads, "at least 1, or None"))
    if not isinstance(example, (tuple, list)) or not example:
        raise EngineError(complain("example", type(example).__name__, "a non-empty tuple of tensors [B, ...]"))
    arrays = tuple(as_array(a) for a in example)
    if any(a.ndim == 0 or a.size == 0 or not np.isfinite(a).all() for a in arrays):
        raise EngineError(complain("example", [a.shape for a in arrays], "finite tensors with a batch axis"))
    return arrays


def as_tensors(arrays: Sequence[np.ndarray], device: str = "cpu") -> tuple[torch.Tensor, ...]:
    """Float32 tensors on ``device`` from arrays; a read-only array is copied, another is shared where possible."""
    return tuple(torch.from_numpy(a if a.flags.writeable else a.copy()).to(device) for a in arrays)


def module_on(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """``module`` itself if all its tensors are on ``device`` (and float32 or integer), else a copy there; eval mode."""
    wanted = torch.device(device)
    tensors = [*module.parameters(), *module.buffers()]
    if all(t.device.type == wanted.type and wanted.index in (None, t.device.index) for t in tensors):
        return module
    return copy.deepcopy(module).to(wanted).eval()


def shape_text(shape: Sequence[int]) -> str:
    """``[B, 1, 128, 128]`` for a shape whose first axis is the batch."""
    return "[" + ", ".join(["B", *(str(n) for n in shape[1:])]) + "]"
