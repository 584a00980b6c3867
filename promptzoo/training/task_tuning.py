"""A new structure for a network of many tasks: one more prompt, tuned with everything else frozen."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Sequence

import numpy as np
import torch
from torch import nn

from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.learned import LearnedPredictor
from promptzoo.inference.loader import load_network
from promptzoo.inference.task_inferer import TaskInferer
from promptzoo.training.prompt_tuning import Encode, Form, Learning

RATE = 3e-2
"""Highest learning rate of a row."""


class TaskRow(nn.Module):
    """The prompt of one new structure in front of a frozen network.

    Args:
        network: a :class:`promptzoo.networks.task_prompts.TaskNetwork`; not part of the module's state.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        row, mask = network.fresh()
        self._network, self._row, self._mask = [network], row, mask
        self.tuned = nn.Parameter(row[mask].clone())

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        """Logits ``[B, 1, h, w]`` of the structure against the background, from the network's maps."""
        row = self._row.clone()
        row[self._mask] = self.tuned
        logits = self._network[0].decode(row.expand(len(maps[0]), -1), *maps)
        return logits[:, 1:2] - logits[:, :1]

    def alike(self) -> torch.Tensor:
        """No penalty: there is one prompt."""
        return torch.zeros(())


def tuning(network: Any, settings: Learning = Learning(), window: int = 128) -> tuple[Encode, Form, Learning]:
    """What :func:`promptzoo.training.prompt_tuning.learn_prompt` is to be given for a network of many tasks.

    Args:
        network: in eval mode; its parameters are frozen.
        settings: whose window and rate are replaced.
        window: side of the network's window.
    """
    network.eval().requires_grad_(False)

    def encode(views: np.ndarray) -> Sequence[np.ndarray]:
        with torch.inference_mode():
            image = torch.from_numpy(np.asarray(views, np.float32))
            kinds = network.modality_of(network.router(image).argmax(1)) if network.modal else None
            return [one.numpy() for one in network.encode(image, kinds)]

    with torch.inference_mode():
        count = len(encode(np.zeros((1, 1, window, window), np.float32)))
    return encode, Form(lambda own, maps: TaskRow(network), count, 0), replace(settings, window=window, rate=RATE)


def teaching(info: BundleInfo, engine: str, settings: Learning, variant: str | None = None
             ) -> tuple[Encode, Form, Learning, str | None]:
    """How a bundle is taught a structure: encoder, form of its prompts, settings, SHA-256 of the frozen weights.

    Args:
        info: a bundle that learns.
        engine: for the encoder, where the prompt does not reach into the network.
        settings: seed and the like.
        variant: system id of a variant overlay; None for the bundle itself.

    Raises:
        BundleError: for a variant whose prompts are of another kind, and not learned one by one.
    """
    from promptzoo.inference import load_predictor

    network, parser = load_network(info, variant)
    inferer = parser.get_parsed_content("inferer")
    if isinstance(inferer, TaskInferer):
        return *tuning(network, settings, inferer.window), inferer.predictor(inferer.wrap(network)).base_sha256
    predictor = load_predictor(info.path, engine, variant=variant)
    if not isinstance(predictor, LearnedPredictor):
        raise BundleError(complain(f"variant of {info.name} to teach", variant, "one that takes further prompts of the "
                                   "bundle's kind", f"Leave --variant away to teach {info.name} itself"))
    return predictor.parts.encode, Form(), settings, predictor.base_sha256
