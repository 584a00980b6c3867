"""Plain torch: the engine that always works and the reference of all others."""
from __future__ import annotations

import contextlib
import threading
from typing import Iterator

import numpy as np
import torch

from promptzoo.engines.backend import Request, Runner, as_tensors, as_tuple, module_on

_THREADS_LOCK = threading.Lock()


class TorchBackend:
    """Eager torch in fp32, or under bf16 autocast (fp16 on CUDA)."""

    name = "torch"
    precisions = ("fp32", "bf16", "fp16")

    def version(self) -> str:
        """Version of torch."""
        return str(torch.__version__)

    def unavailable(self, device: str) -> str:
        """Why torch cannot run on ``device``; empty if it can."""
        if device.startswith("cuda") and not torch.cuda.is_available():
            return "torch sees no CUDA device"
        return ""

    def blocked(self, precision: str, device: str, calibrated: bool) -> str:
        """fp16 is for CUDA; everything else runs everywhere."""
        if precision == "fp16" and not device.startswith("cuda"):
            return "torch runs fp16 on CUDA only"
        return ""

    def build(self, request: Request) -> tuple[Runner, bytes | None]:
        """A runner over the module itself (or a copy on the asked device); there is nothing to store."""
        return TorchRunner(request), None

    def load(self, payload: bytes, request: Request) -> Runner:
        """Torch stores nothing, so this builds."""
        return TorchRunner(request)


class TorchRunner:
    """Runs a module eagerly without gradients.

    Args:
        request: what to run; ``threads`` sets torch's process-wide number of threads during each call.
        exact: keep TF32 off on CUDA, for reference values.
    """

    def __init__(self, request: Request, exact: bool = False) -> None:
        self.module = module_on(request.module, request.device)
        self.device = request.device
        self.threads = request.threads
        self.autocast = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(request.precision)
        self.exact = exact

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Arrays ``[B, ...]`` in, fresh float32 arrays out."""
        kind = self.device.split(":")[0]
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if self.autocast is not None:
                stack.enter_context(torch.autocast(kind, self.autocast))
            if self.exact and kind == "cuda":
                stack.enter_context(torch.backends.cudnn.flags(allow_tf32=False))
            if self.threads is not None and self.threads != torch.get_num_threads():
                stack.enter_context(_threads(self.threads))
            outputs = as_tuple(self.module(*as_tensors(inputs, self.device)))
            return [np.array(o.float().cpu().numpy(), dtype=np.float32) for o in outputs]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's thread count for a while; calls that want another count wait for each other."""
    with _THREADS_LOCK:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)
