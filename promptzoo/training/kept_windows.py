"""Windows that a frozen image encoder saw once, for the training of what comes after it.

Between the encoder's passes a prompt encoder and a mask decoder could have learned from a dozen prompts.
"""
from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.training.dataset import ProceduralDataset

ENCODED = "encoded_"
"""Beginning of the names of an item's encoder outputs, a number follows."""


class KeptWindows(Dataset):
    """Windows with a target mask and what the encoder says of them, each encoded when it is first asked for.

    Args:
        scenes: where the windows come from.
        network: whose ``image_encoder`` is asked; it must not change any more.
        count: scenes that are kept, in memory and half precision; three megabytes per target for windows of 48 voxels
            and the network of ``sam_3d``.
        length: number of items; item ``n`` is always the same window.
        seed: of the order.

    Raises:
        PromptZooError: for fewer scenes than are kept, or no items.
    """

    def __init__(self, scenes: ProceduralDataset, network: Any, count: int, length: int, seed: int = 0) -> None:
        if not 1 <= count <= len(scenes) or length < 1:
            raise PromptZooError(complain("kept scenes and items", [count, length],
                                          f"1 to {len(scenes)} scenes, 1 or more items"))
        self.scenes, self.network, self.count, self.length, self.seed = scenes, network, count, length, seed
        self._kept: dict[int, dict[str, torch.Tensor]] = {}

    def __len__(self) -> int:
        return self.length

    def _scene(self, number: int) -> dict[str, torch.Tensor]:
        if number not in self._kept:
            scene = self.scenes[number]
            place = next(self.network.parameters()).device
            with torch.inference_mode():
                found = self.network.image_encoder(scene["image"].to(place))
            self._kept[number] = {**scene, **{f"{ENCODED}{n}": part.half().cpu().clone() for n, part in
                                              enumerate(found)}}
        return self._kept[number]

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Item ``index``: ``image`` and ``label`` ``[1, 1, *S]`` and the encoder's outputs ``encoded_0`` … ``[1, …]``.

        Raises:
            IndexError: beyond the last item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length}")
        rng = generator(self.seed, index)
        scene = self._scene(int(rng.integers(self.count)))
        one = int(rng.integers(len(scene["image"])))
        return {name: value[one:one + 1].float() if name.startswith(ENCODED) else value[one:one + 1]
                for name, value in scene.items()}


def encoded_of(batch: dict[str, torch.Tensor], device: torch.device | str) -> list[torch.Tensor] | None:
    """The encoder's outputs in a batch of :class:`KeptWindows`; None of a batch without."""
    count = sum(name.startswith(ENCODED) for name in batch)
    return [batch[f"{ENCODED}{n}"].to(device) for n in range(count)] if count else None
