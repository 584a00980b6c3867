"""Small ignite handlers of the training configurations."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler

from promptzoo.networks.deltas import save_delta


class AveragedWeights:
    """Exponential moving average of the weights; the average is what a bundle ships.

    Args:
        network: the trained network.
        momentum: share of the new weights per iteration.
        warmup_iterations: iterations over which the share falls from ``warmup_momentum`` to ``momentum``.
        warmup_momentum: share at the start.
    """

    def __init__(self, network: torch.nn.Module, momentum: float = 0.004, warmup_iterations: int = 400,
                 warmup_momentum: float = 0.05) -> None:
        self.handler = EMAHandler(network, momentum=momentum, momentum_warmup=warmup_momentum,
                                  warmup_iters=warmup_iterations)

    @property
    def network(self) -> torch.nn.Module:
        """The averaged network."""
        return self.handler.ema_model


class UpdateAverage:
    """Updates :class:`AveragedWeights` after every iteration of the trainer it is attached to."""

    def __init__(self, average: AveragedWeights) -> None:
        self.average = average

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        self.average.handler.attach(engine)


class SaveSmall:
    """Write a network's state dictionary after every epoch, in half precision if asked, atomically.

    Args:
        network: what to save.
        path: file to write; its folder is created.
        half: store floating-point tensors as float16 (shipped weights stay small; loading restores float32).
    """

    def __init__(self, network: torch.nn.Module, path: str, half: bool = False) -> None:
        self.network, self.path, self.half = network, Path(path), half

    def attach(self, engine: Engine) -> None:
        """Save at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file now."""
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self.network.state_dict().items()}
        if self.half:
            state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.path)


class SaveDelta:
    """Write what a network does not share with its base after every epoch, in half precision, atomically.

    Args:
        network: what to save.
        base: weights of the base, ``…/<bundle>/models/<file>``.
        path: safetensors file to write; its folder is created.
    """

    def __init__(self, network: torch.nn.Module, base: str, path: str) -> None:
        self.network, self.base, self.path = network, base, Path(path)

    def attach(self, engine: Engine) -> None:
        """Save at the end of each epoch."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file now."""
        save_delta(self.network, self.base, self.path)


class CurveLog:
    """Print and store the mean loss and the Dice after each interaction, every few iterations.

    Args:
        path: JSON-lines file that is appended to.
        every: iterations between lines.
    """

    def __init__(self, path: str, every: int = 50) -> None:
        self.path, self.every = Path(path), every
        self._loss: list[float] = []
        self._curves: list[list[float]] = []

    def attach(self, engine: Engine) -> None:
        """Follow a trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Collect one iteration; write a line when due."""
        output: Any = engine.state.output
        self._loss.append(output["loss"])
        self._curves.append(output["dice_per_round"])
        if engine.state.iteration % self.every:
            return
        rounds = max(len(c) for c in self._curves)
        curve = [round(float(np.mean([c[n] for c in self._curves if len(c) > n])), 4) for n in range(rounds)]
        line = {"iteration": engine.state.iteration, "loss": round(float(np.mean(self._loss)), 4), "dice": curve}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        self._loss, self._curves = [], []
