"""From a torch module to the fastest engine that gives the same answer."""
from __future__ import annotations

import itertools
import logging
import time
from dataclasses import dataclass, field, replace
from typing import Any, Iterable, Mapping, Sequence

import numpy as np
import torch

from promptzoo.core.errors import EngineError, complain
from promptzoo.engines import registry
from promptzoo.engines.backend import Request, Runner, as_array, checked_example, shape_text
from promptzoo.engines.cache import EngineCache
from promptzoo.engines.fingerprint import arrays_hash, engine_key, hardware_name
from promptzoo.engines.parity import Parity, compare, parity_inputs
from promptzoo.engines.tolerances import Tolerance, tolerance_for
from promptzoo.engines.torch_engine import TorchRunner

logger = logging.getLogger(__name__)

MAX_CALIBRATION = 300
"""Calibration samples used for int8; more of them change nothing (NNCF's own default)."""


@dataclass(frozen=True, eq=False)
class CompiledEngine:
    """A compiled network, checked against torch; implements :class:`promptzoo.core.protocols.Engine`.

    Args:
        name: the engine that runs (``torch`` after a fallback).
        precision: what it computes in.
        reason: why this engine, one sentence without full stop.
        device: where it runs.
        input_shapes: per input the shape of the example ``[B, ...]``; the first axis is free.
        parity: comparison with torch, None if torch itself in fp32 runs.
        from_cache: whether the compiled network came from disk; it was checked against torch all the same.
        compile_seconds: time spent in compiling or loading, and checking.
    """

    name: str
    precision: str
    reason: str
    device: str
    input_shapes: tuple[tuple[int, ...], ...]
    parity: Parity | None
    from_cache: bool
    compile_seconds: float
    _runner: Runner = field(repr=False)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run the network.

        Args:
            inputs: arrays ``[B, ...]`` like the example, any B >= 1, converted to float32 if needed.

        Returns:
            The network's outputs in order, float32, owned by the caller.

        Raises:
            EngineError: if the number or a shape of the inputs differs from the example beyond the first axis.
        """
        arrays = [np.ascontiguousarray(a, dtype=np.float32) for a in inputs]
        shapes = [a.shape for a in arrays]
        fits = len(shapes) == len(self.input_shapes) and all(
            len(s) == len(e) and s[1:] == e[1:] and s[0] > 0 for s, e in zip(shapes, self.input_shapes)
        )
        if not fits:
            allowed = ", ".join(shape_text(s) for s in self.input_shapes)
            raise EngineError(complain("inputs of a compiled network", shapes, allowed,
                                       "Shapes are fixed when compiling, except the batch"))
        return self._runner(arrays)

    def describe(self) -> dict[str, Any]:
        """Engine, precision, device, reason, parity, cache use and compile time as plain values for JSON."""
        return {
            "engine": self.name, "precision": self.precision, "device": self.device, "reason": self.reason,
            "from_cache": self.from_cache, "compile_seconds": round(self.compile_seconds, 3),
            "parity": self.parity.to_dict() if self.parity else None,
        }


def compile_module(
    module: torch.nn.Module,
    example: Sequence[torch.Tensor | np.ndarray],
    *,
    engine: str = "auto",
    precision: str = "auto",
    precision_policy: Mapping[str, str | Sequence[str]] | None = None,
    key: str = "",
    threads: int | None = None,
    device: str = "auto",
    calibration: Iterable[Sequence[torch.Tensor | np.ndarray]] | None = None,
    mask_outputs: Sequence[int] = (0,),
    parity_tolerance: Tolerance | None = None,
    use_cache: bool = True,
) -> CompiledEngine:
    """Compile a network, check it against torch, and fall back to torch with a warning if that fails.

    Args:
        module: torch network in eval mode: positional float32 tensors in, a tensor or a tuple of tensors out, whatever
            the batch size. Not modified.
        example: its inputs ``[B, ...]``; real values, for the parity check runs on them (a constant one is replaced by
            noise). All axes but the first are fixed.
        engine: ``auto``, ``torch``, ``openvino``, ``onnxruntime``, ``tensorrt``; see :func:`choose_engine`.
        precision: ``auto`` takes what ``precision_policy`` allows for the engine, else ``fp32``; or a precision's name.
            One that fails is followed by the engine's fp32, then by torch.
        precision_policy: per engine a precision or several, fastest first: a bundle's ``promptzoo.precision``.
        key: the caller's part of the cache key (bundle name and version, say); weights, code, shapes, versions and
            device are always in it.
        threads: CPU threads, None for the library's choice.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``.
        calibration: samples like ``example`` for int8; at most ``MAX_CALIBRATION`` are used.
        mask_outputs: which outputs are mask logits, compared also after thresholding at 0; ``()`` for an encoder.
        parity_tolerance: bounds instead of those of the precision.
        use_cache: whether compiled networks are read from and written to disk.

    Returns:
        A callable engine that says what it is (``name``, ``precision``, ``reason``, ``parity``).

    Raises:
        EngineError: for an unknown engine, precision or device, a module in training mode, or an unusable example.
        MissingDependencyError: if a named engine's package is not installed.
    """
    started = time.perf_counter()
    arrays = checked_example(module, example, threads)
    name, reason = registry.choose_engine(engine, device)
    if name == "torch" and registry.engine_name(engine) not in ("auto", "torch"):
        precision = "auto"  # the precision was meant for the engine that is not here
    place = registry.engine_device(name, device)
    samples = tuple(tuple(as_array(a) for a in s) for s in itertools.islice(calibration or (), MAX_CALIBRATION))
    precisions = registry.candidate_precisions(name, precision, precision_policy, place, bool(samples))
    base = Request(module, arrays, "fp32", place, threads, samples)
    shapes = tuple(a.shape for a in arrays)

    failures = []
    for candidate in precisions:
        if (name, candidate) == ("torch", "fp32"):
            break
        request = replace(base, precision=candidate)
        tolerance = parity_tolerance or tolerance_for(candidate)
        try:
            runner, parity, cached = _compiled(name, request, key, tolerance, mask_outputs, use_cache)
        except Exception as error:  # compilers raise whatever they like; torch still works
            failures.append(f"{name} {candidate}: {_first_line(error)}")
            logger.warning("%s cannot be used for %s.", failures[-1], type(module).__name__)
            logger.debug("The error in full:", exc_info=True)
            continue
        why = f"{reason}; {'; '.join(failures)}" if failures else reason
        logger.info("Engine: %s %s on %s (%s).", name, candidate, place, why)
        seconds = time.perf_counter() - started
        return CompiledEngine(name, candidate, why, place, shapes, parity, cached, seconds, runner)

    if failures:
        reason = f"torch, because {'; '.join(failures)}"
        logger.warning("Falling back to torch for %s.", type(module).__name__)
    place = registry.pick_device(device)
    runner = TorchRunner(replace(base, device=place))
    logger.info("Engine: torch fp32 on %s (%s).", place, reason)
    return CompiledEngine("torch", "fp32", reason, place, shapes, None, False, time.perf_counter() - started, runner)


def _compiled(
    name: str, request: Request, key: str, tolerance: Tolerance, mask_outputs: Sequence[int], use_cache: bool
) -> tuple[Runner, Parity, bool]:
    """A runner that passed its parity check, from disk if possible.

    Raises:
        EngineError: if the freshly compiled network fails the check. Whatever the compiler raises passes through.
    """
    backend = registry.backend_for(name)
    cache = EngineCache() if use_cache and name != "torch" else None
    entry = ""
    if cache is not None and cache.max_bytes > 0:
        details = {
            "key": key, "engine": name, "precision": request.precision, "threads": request.threads,
            "device": hardware_name(request.device), "calibration": arrays_hash(request.calibration),
        }
        entry = engine_key(request.module, request.example, details)
        payload = cache.get(entry)
        if payload is not None:
            try:
                runner = backend.load(payload, request)
                parity = check_parity(runner, request, tolerance, mask_outputs, more_batch=False)
                problem = parity.problem
            except Exception as error:  # an unreadable payload counts as absent
                problem = _first_line(error)
            if not problem:
                return runner, parity, True
            logger.warning("A cached %s network is not usable (%s); it is compiled again.", name, problem)
            cache.drop(entry)
    runner, fresh = backend.build(request)
    parity = check_parity(runner, request, tolerance, mask_outputs, more_batch=True)
    if not parity.passed:
        raise EngineError(f"parity check against torch failed: {parity.problem}")
    if cache is not None and entry and fresh is not None:
        description = {"engine": name, "precision": request.precision, "module": type(request.module).__name__}
        cache.put(entry, fresh, {**description, "key": key, "inputs": [list(a.shape) for a in request.example]})
    return runner, parity, False


def check_parity(
    runner: Runner, request: Request, tolerance: Tolerance, mask_outputs: Sequence[int] = (0,), more_batch: bool = True
) -> Parity:
    """Compare a runner with torch in fp32 on the request's example.

    Args:
        runner: the compiled network.
        request: the network, its example and device.
        tolerance: bounds.
        mask_outputs: outputs that are mask logits.
        more_batch: compare at one more item than the example has, to see that the batch is really free.
    """
    inputs = parity_inputs(request.example, more_batch)
    reference = TorchRunner(replace(request, precision="fp32"), exact=True)
    return compare(reference([a.copy() for a in inputs]), runner(inputs), tolerance, mask_outputs)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}".rstrip(".") if text else type(error).__name__
