"""Bundles that are told a task, as a MONAI inferer."""
from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Mapping, Sequence

import torch
from monai.inferers import Inferer

from promptzoo.data.tasks import chosen
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.sentences import torch_call
from promptzoo.inference.task_parts import TaskParts
from promptzoo.inference.task_prompts import TaskPredictor


class Encoder(torch.nn.Module):
    """The encoder as engines compile it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Images, and modalities where the network takes them, to maps."""
        return self.network.encode(*inputs)


class Decoder(torch.nn.Module):
    """The part of the network that another task runs again."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Rows and maps to logits."""
        return self.network.decode(*inputs)


class TaskInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        tasks: names of the tasks, see :data:`promptzoo.data.tasks.TASKS`; all for none.
        window: side of the network's window.
        weights: the weights that learned prompts belong to.
        overlap: owner of voxels claimed by several objects: ``last``, ``first`` or ``probability``.
    """

    def __init__(self, tasks: Sequence[str] = (), window: int = 128, weights: str = "", overlap: str = "probability"
                 ) -> None:
        Inferer.__init__(self)
        self.tasks, self.window, self.weights, self.overlap = chosen(tasks), window, Path(weights), overlap
        self._told: dict[str, Any] = {}

    def predictor(self, network: TaskParts, name: str = "tasks", engine: str = "torch"  # type: ignore[override]
                  ) -> TaskPredictor:
        """The predictor around the parts of a plain or compiled network."""
        sha = hashlib.sha256(self.weights.read_bytes()).hexdigest() if self.weights.is_file() else None
        return TaskPredictor(network, self.tasks, self.window, name, engine, sha)

    def wrap(self, network: Any) -> TaskParts:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.eval().parameters()).device
        encoder = Encoder(network)
        return TaskParts(lambda views, kinds: torch_call(encoder, place, *_given(views, kinds)),
                         lambda *inputs: torch_call(network.decode, place, *inputs)[0],
                         lambda views: torch_call(network.router, place, views)[0], **self._constants(network))

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: encoder, decoder, router."""
        image = torch.zeros(1, 1, self.window, self.window)
        self._told = self._constants(network.eval())
        kinds = (torch.from_numpy(self._told["modalities"][:1]),) if network.modal else ()
        with torch.inference_mode():
            maps = tuple(one.clone() for one in network.encode(image, *kinds))
        row = torch.from_numpy(self._told["rows"][:1])
        return {"image_encoder": Part(Encoder(network).eval(), (image, *kinds), ()),
                "decoder": Part(Decoder(network).eval(), (row, *maps), (0,)),
                "router": Part(network.router, (image,), ())}

    def assemble(self, compiled: Mapping[str, Any]) -> TaskParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return TaskParts(lambda views, kinds: compiled["image_encoder"](*_given(views, kinds)),
                         lambda *inputs: compiled["decoder"](*inputs)[0],
                         lambda views: compiled["router"](views)[0], **self._told)

    def _constants(self, network: Any) -> dict[str, Any]:
        with torch.inference_mode():
            row, tuned = network.fresh()
            return {"rows": network.rows().float().cpu().numpy(), "fresh": (row.cpu().numpy(), tuned.cpu().numpy()),
                    "modalities": network.kinds.cpu().numpy() if network.modal else None}


def _given(*inputs: Any) -> tuple[Any, ...]:
    """The inputs that there are."""
    return tuple(one for one in inputs if one is not None)
