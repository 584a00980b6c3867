"""The predictor that finished cases prompt, as a MONAI inferer."""
from __future__ import annotations

from functools import cached_property
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from monai.inferers import Inferer

from promptzoo.inference.examples import ContextParts, ContextSettings
from promptzoo.inference.in_context import ContextPredictor
from promptzoo.inference.loader import load_predictor
from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.sentences import torch_call
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS


class ContextForward(torch.nn.Module):
    """The decoder as engines compile it: its batch axis is the context, so that the number of examples is free. The
    query is repeated along it and read once."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Four maps and prompts of the query, four maps and prompts of the examples, ``[N, …]`` each; logits
        ``[1, 1, S/2, S/2]``."""
        query, asked, templates, shown = inputs[:4], inputs[4], inputs[5:9], inputs[9]
        return self.network.decode([one[:1] for one in query], asked[:1], [one[None] for one in templates], shown[None])


class SelectForward(torch.nn.Module):
    """The selector as engines compile it."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, query: torch.Tensor, template: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        """See :meth:`promptzoo.networks.in_context.InContextNet.select`."""
        return self.network.select(query, template, shown)


class ContextInferer(InteractiveInferer):
    """The predictor as a MONAI inferer.

    Args:
        corrector: folder of the promptable 2D bundle that answers clicks and strokes; its engine is torch.
        overlap: owner of pixels claimed by several objects: ``last``, ``first`` or ``probability``.
        local_after: see :class:`promptzoo.inference.in_context.ContextPredictor`.
        settings: arguments of :class:`promptzoo.inference.examples.ContextSettings`.
    """

    def __init__(self, corrector: str, overlap: str = "last", local_after: int = 1, **settings: Any) -> None:
        Inferer.__init__(self)
        self.folder, self.overlap, self.local_after = corrector, overlap, local_after
        self.context = ContextSettings(**settings)

    @cached_property
    def corrector(self) -> Any:
        """The promptable predictor, loaded once."""
        return load_predictor(self.folder, "torch")

    def predictor(self, network: ContextParts, name: str = "in_context", engine: str = "torch"  # type: ignore[override]
                  ) -> ContextPredictor:
        """The predictor around the parts of a plain or compiled network."""
        return ContextPredictor(network, self.context, self.corrector, self.local_after, name, engine)

    def wrap(self, network: Any) -> ContextParts:
        """A torch network as what :meth:`predictor` takes."""
        place = next(network.eval().parameters()).device
        return self._parts(lambda image: torch_call(network.image_encoder, place, image),
                           lambda *inputs: torch_call(ContextForward(network), place, *inputs)[0],
                           lambda *inputs: torch_call(SelectForward(network), place, *inputs)[0])

    def parts(self, network: Any) -> dict[str, Part]:
        """What engines compile: encoder, decoder, selector."""
        side = self.context.window
        image, told = torch.zeros(1, 1, side, side), torch.zeros(1, len(CONTEXT_CHANNELS), side, side)
        shown = told.clone()
        shown[:, 0, side // 4:side // 2, side // 4:side // 2] = shown[:, -1] = 1
        with torch.inference_mode():
            maps = tuple(one.clone() for one in network.eval().image_encoder(image))
        return {"image_encoder": Part(network.image_encoder, (image,), ()),
                "decoder": Part(ContextForward(network).eval(), (*maps, told, *maps, shown), (0,)),
                "selector": Part(SelectForward(network).eval(), (maps[0], maps[0], shown), ())}

    def assemble(self, compiled: Mapping[str, Any]) -> ContextParts:
        """The compiled parts as what :meth:`predictor` takes."""
        return self._parts(lambda image: compiled["image_encoder"](image), lambda *i: compiled["decoder"](*i)[0],
                           lambda *i: compiled["selector"](*i)[0])

    @staticmethod
    def _parts(encode: Any, decode: Any, select: Any) -> ContextParts:
        def beside(query: Sequence[np.ndarray], asked: np.ndarray, templates: Sequence[np.ndarray], shown: np.ndarray
                   ) -> np.ndarray:
            repeated = [np.repeat(one, len(shown), 0) for one in (*query, asked)]
            return decode(*repeated, *templates, shown)

        return ContextParts(encode, beside, select)
