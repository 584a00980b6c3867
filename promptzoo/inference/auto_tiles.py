"""A SAM-like network with a prompt head as plain callables, and the tiles of an image that it sees."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import torch

from promptzoo.inference.resample import Window
from promptzoo.inference.sam import Arrays, EncodedWindow, SamParts

OVERLAP_PX = 64
"""Window pixels that neighbouring tiles share."""


@dataclass(frozen=True, eq=False)
class AutoParts(SamParts):
    """The halves of a SAM-like network and its head.

    Args:
        propose: encoder outputs, batched, to maps ``[B, 4, S/2, S/2]``, see
            :class:`promptzoo.networks.auto_prompt.PromptHead`.
    """

    propose: Any = None

    @classmethod
    def of(cls, network: Any, device: torch.device | str | None = None) -> "AutoParts":
        """Those of a torch network."""
        plain, place = SamParts.of(network, device), torch.device(device or next(network.parameters()).device)

        def propose(*encoded: np.ndarray) -> Arrays:
            with torch.inference_mode():
                told = network.eval().prompt_head(*(torch.from_numpy(part).to(place) for part in encoded))
            return [told.float().cpu().numpy()]

        return cls(plain.encode, plain.decode, propose)


@dataclass(frozen=True, eq=False)
class Tile:
    """One window of an image.

    Args:
        window: where.
        low, high: faces ``[2]`` in image indices of the part that no other tile answers for.
        view: intensities ``[S, S]`` as the network sees them.
        encoded: what the encoder says of it.
    """

    window: Window
    low: np.ndarray
    high: np.ndarray
    view: np.ndarray
    encoded: EncodedWindow


def cover(size: int, step: float, side: int) -> list[tuple[float, float, float]]:
    """Windows along one axis: index of the first pixel, and the faces of what each answers for."""
    reach = side * step
    if size <= reach:
        return [((size - 1) / 2 - step * (side - 1) / 2, -0.5, size - 0.5)]
    count = int(np.ceil((size - reach) / (reach - OVERLAP_PX * step))) + 1
    lows = np.linspace(-0.5, size - 0.5 - reach, count)
    cuts = [-0.5, *((lows[1:] + lows[:-1] + reach) / 2), size - 0.5]
    return [(float(low + step / 2), float(cuts[n]), float(cuts[n + 1])) for n, low in enumerate(lows)]


def only_own(region: np.ndarray, offset: Sequence[int], tile: Tile) -> np.ndarray:
    """What a tile alone answers for; 0 elsewhere."""
    kept = np.zeros_like(region)
    place = tuple(slice(max(0, int(np.ceil(low)) - o), max(0, int(np.ceil(high)) - o))
                  for low, high, o in zip(tile.low, tile.high, offset))
    kept[place] = region[place]
    return kept
