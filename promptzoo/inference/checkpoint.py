"""Weights of a bundle, loaded when an engine starts."""
from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events

from promptzoo.inference.loader import load_weights


class WeightsLoader:
    """Loads a state dictionary of any float precision into a network at the start of a run.

    Args:
        network: network to fill.
        path: file written by the training configuration.
    """

    def __init__(self, network: torch.nn.Module, path: str) -> None:
        self.network, self.path = network, Path(path)

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load now.

        Raises:
            BundleError: if the file is missing or does not fit.
        """
        load_weights(self.network, self.path, self.path.parent.parent.name)
