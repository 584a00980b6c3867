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

    Gradients that are not finite are thrown away with a warning: one bad sample must not end a long training.

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
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
    if torch.isfinite(norm):
        engine.optimizer.step()
    else:
        logger.warning("iteration %s: gradients are not finite (loss %s); no step is taken", engine.state.iteration,
                       float(loss.detach()))
    engine.fire_event(IterationEvents.MODEL_COMPLETED)


def share_gradients(network: nn.Module) -> None:
    """Average the gradients over the processes of a run; parts of a network are called past the wrapper that would."""
    if not dist.is_available() or not dist.is_initialized():
        return
    for parameter in network.parameters():
        if parameter.requires_grad:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            dist.all_reduce(grad)
            parameter.grad = grad / dist.get_world_size()
