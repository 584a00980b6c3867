"""Text-driven volume networks as a MONAI inferer."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from monai.inferers import Inferer

from promptzoo.inference.monai_inferer import InteractiveInferer, Part
from promptzoo.inference.text_universal import Settings, UniversalPredictor
from promptzoo.text.lexicon import Lexicon
from promptzoo.text.towers import shipped_tower

Arrays = Sequence[np.ndarray]
Halves = tuple[Callable[..., Arrays], Callable[..., Arrays]]
"""Encoder and head as plain callables."""


class TextInferer(InteractiveInferer):
    """Inferer of text-driven volume bundles.

    Args:
        classes: ids of the lexicon that the network knows.
        text: ``tower`` for vectors of the shipped text tower, ``onehot`` for one number per class.
        settings: arguments of :class:`promptzoo.inference.text_universal.Settings`.
        overlap: owner of voxels claimed by several objects: ``last``, ``first`` or ``probability``.
    """

    def __init__(self, classes: Sequence[str], text: str = "tower", settings: Mapping[str, Any] | None = None,
                 overlap: str = "probability") -> None:
        Inferer.__init__(self)
        self.classes, self.text, self.overlap = tuple(classes), text, overlap
        self.settings = Settings(**(settings or {}))  # type: ignore[assignment]

    def vectors(self) -> np.ndarray:
        """Text vectors of the classes' names, ``[C, T]`` float32."""
        if self.text == "onehot":
            return np.eye(len(self.classes), dtype=np.float32)
        return np.asarray(shipped_tower()([Lexicon.load().concept(name).name for name in self.classes]), np.float32)

    def predictor(self, network: Halves, name: str = "text_universal", engine: str = "torch"  # type: ignore[override]
                  ) -> UniversalPredictor:
        """The predictor around the two halves of a plain or compiled network."""
        return UniversalPredictor(*network, self.vectors(), self.classes, self.settings,  # type: ignore[arg-type]
                                  name, engine)

    def wrap(self, network: Any) -> tuple[Callable[..., Arrays], Callable[..., Arrays]]:
        """A torch network as what :meth:`predictor` takes."""
        return self.called(network.image_encoder), self.called(network.head)

    def called(self, module: torch.nn.Module) -> Callable[..., Arrays]:
        """A part of a torch network as a plain callable."""
        place = next(module.parameters()).device

        def call(*inputs: np.ndarray) -> Arrays:
            with torch.inference_mode():
                found = module.eval()(*(torch.from_numpy(np.ascontiguousarray(i)).to(place) for i in inputs))
            return [out.float().cpu().numpy() for out in (found if isinstance(found, tuple) else (found,))]

        return call

    def parts(self, network: Any) -> dict[str, Part]:
        """Image encoder and head, which engines compile apart."""
        side = self.settings.window
        image = torch.zeros(1, 4, side, side, side)
        with torch.inference_mode():
            encoded = [part.clone() for part in network.eval().image_encoder(image)]
        text, box = torch.from_numpy(self.vectors()[:1]), torch.zeros(1, 1, side, side, side)
        return {"image_encoder": Part(network.image_encoder.eval(), (image,), ()),
                "head": Part(network.head.eval(), (text, box, *encoded), (0,))}

    def assemble(self, compiled: Mapping[str, Any]) -> tuple[Callable[..., Arrays], Callable[..., Arrays]]:
        """The compiled parts as what :meth:`predictor` takes."""
        return compiled["image_encoder"], compiled["head"]
