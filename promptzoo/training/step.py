"""One optimiser step, as all iteration updates take it."""
from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from monai.engines.utils import IterationEvents
from torch import nn

logger = logging.getLogger(__name__)


def optimise(engine: Any, loss: torch.Tensor, clip_norm: float, network: nn.Module | None = None) -> None:
    """Gradients of ``loss``, their mean over the processes of a run, their norm bounded, and a step.

    Gradients that are not finite are thrown away, see :func:`descend`.

    Args:
        engine: a ``monai.engines.SupervisedTrainer``; its optimiser takes the step, and ``MODEL_COMPLETED`` is fired.
        loss: scalar.
        clip_norm: bound of the gradient norm.
        network: whose gradients count; None for the engine's.
    """
    network = engine.network if network is None else network
    engine.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    share_gradients(network)
    descend(engine, loss, clip_norm, network)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)


def descend(engine: Any, loss: torch.Tensor, clip_norm: float, network: nn.Module) -> None:
    """A step along the gradients that ``network`` holds, their norm bounded.

    Gradients that are not finite are thrown away with a warning: one bad sample must not end a long training.
    """
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    if torch.isfinite(norm):
        engine.optimizer.step()
    else:
        logger.warning("iteration %s: gradients are not finite (loss %s); no step is taken", engine.state.iteration,
                       float(loss.detach()))


def mixed_precision(image: torch.Tensor, wanted: bool) -> torch.autocast:
    """bfloat16 for the forward pass of a training on ``image`` ``[B, C, *S]``, where that can be trusted.

    Volumes on a CPU without AMX train in float32: there oneDNN's bfloat16 weight gradients of 3D convolutions hold
    memory that nobody wrote (1e34 and NaN in about one of ten passes of ``InteractiveUNet`` on 32³ voxels; torch 2.13,
    AVX512-BF16), and a pass would be only 15 % shorter.

    Args:
        image: what goes into the network.
        wanted: False for float32 anyway.
    """
    sound = image.device.type != "cpu" or image.dim() < 5 or bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=wanted and sound)


def share_gradients(network: nn.Module) -> None:
    """Average the gradients over the processes of a run; parts of a network are called past the wrapper that would."""
    if not dist.is_available() or not dist.is_initialized():
        return
    for parameter in network.parameters():
        if parameter.requires_grad:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            dist.all_reduce(grad)
            parameter.grad = grad / dist.get_world_size()
