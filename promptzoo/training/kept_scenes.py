"""Scenes of named structures as a frozen encoder sees them, encoded once and asked about again and again."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.training.anatomy_scenes import AnatomyScenes, View, seen
from promptzoo.training.anatomy_sources import Source
from promptzoo.training.step import mixed_precision

ARRAYS = ("structure", "inside", "chosen", "weight", "grey")


@dataclass(frozen=True, eq=False)
class Kept:
    """One encoded view.

    Args:
        source: the body, of which only names and what is known of it are kept.
        structure: ``[X, Y, Z]`` uint8, numbers of the source's names.
        inside: ``[X, Y, Z]`` bool, where there is image.
        chosen: voxels drawn, indices into the flat grid, ``[N]``.
        weight: for how many voxels each of them stands, ``[N]`` float32.
        grey: their grey values, ``[N]`` float32.
        voxels: their features, ``[F, N]`` half precision.
        scales: the deeper features, ``[C, *S]`` half precision each.
        condition: what else is told of the scene; may be empty.
    """

    source: Source
    structure: np.ndarray
    inside: np.ndarray
    chosen: np.ndarray
    weight: np.ndarray
    grey: np.ndarray
    voxels: torch.Tensor
    scales: tuple[torch.Tensor, ...]
    condition: Any = None

    def stored(self) -> dict[str, Any]:
        """Tensors and plain values for a file; see :func:`read_kept`."""
        body = {"names": list(self.source.names), "known": sorted(self.source.known), "phantom": self.source.phantom,
                "hounsfield": self.source.hounsfield, "spacing": [float(v) for v in self.source.spacing_mm]}
        arrays = {name: torch.from_numpy(getattr(self, name)) for name in ARRAYS}
        return {**arrays, "voxels": self.voxels, "scales": list(self.scales), "body": body,
                "condition": self.condition}

    def view(self) -> View:
        """The view, without its image."""
        return View(np.empty(0, np.float32), self.structure, self.inside)


def read_kept(file: Path) -> Kept:
    """A view that was kept in a file; nothing in it is executed."""
    stored = torch.load(file, weights_only=True)
    body, empty = stored["body"], np.empty(0, np.uint8)
    source = Source(None, empty, empty, tuple(body["names"]), frozenset(body["known"]), np.array(body["spacing"]),
                    body["hounsfield"], body["phantom"])
    return Kept(source, *(stored[name].numpy() for name in ARRAYS), stored["voxels"], tuple(stored["scales"]),
                stored["condition"])


class KeptScenes(Dataset):
    """Scenes whose features are computed once; a head is then trained on them for the price of the head.

    Item ``n`` is about view ``n % count``; which structures are asked for, and in which words, is drawn anew for each
    item. Bodies are those of the scenes.

    Args:
        scenes: where views come from; its length is not used.
        network: whose ``image_encoder`` is asked; it has to be frozen.
        count: views that are kept, about a megabyte each.
        length: number of items.
        folder: where they are kept for the next training on the same scenes and encoder; empty for memory alone.

    Raises:
        PromptZooError: for fewer than one view or item, or an encoder that is trained.
    """

    def __init__(self, scenes: AnatomyScenes, network: Any, count: int, length: int, folder: str = "") -> None:
        if count < 1 or length < 1:
            raise PromptZooError(complain("views and items", [count, length], "1 or more of both"))
        if any(p.requires_grad for p in network.image_encoder.parameters()):
            raise PromptZooError(complain("encoder of kept scenes", "one that is trained", "a frozen one",
                                          "Set network_def::frozen_encoder"))
        self.scenes, self.network, self.count, self.length = scenes, network, count, length
        self.folder, self._kept = folder, dict[int, Kept]()

    def __len__(self) -> int:
        return self.length

    def kept(self, number: int) -> Kept:
        """View ``number``, encoded now if it was not before."""
        file = Path(self.folder) / f"{self.scenes.seed}_{number}.pt" if self.folder else None
        if number not in self._kept:
            known = file is not None and file.is_file()
            self._kept[number] = read_kept(file) if file is not None and known else self._encoded(number)
            if file is not None and not known:
                file.parent.mkdir(parents=True, exist_ok=True)
                torch.save(self._kept[number].stored(), file)
        return self._kept[number]

    def drawn(self, number: int, rng: np.random.Generator) -> tuple[Source, View, Any]:
        """The body of view ``number``, the view, and what else is told of it."""
        source = self.scenes.source(number, rng)
        return source, seen(source, rng, self.scenes.size), None

    def _encoded(self, number: int) -> Kept:
        rng = generator(self.scenes.seed, number, 0x5CE9E)
        source, view, condition = self.drawn(number, rng)
        numbers = [v for v in np.unique(view.structure) if v]
        chosen, weight = self.scenes.voxels_of(view, numbers, rng)
        place = next(self.network.parameters()).device
        image = torch.from_numpy(view.image)[None].to(place).contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode(), mixed_precision(image, True):
            voxels, *scales = self.network.image_encoder(image)
        kept = voxels[0].flatten(1)[:, torch.from_numpy(chosen).to(place)]
        grey = view.image[0].ravel()[chosen]
        return Kept(source.named(), view.structure, view.inside, chosen, weight, grey, kept.half().cpu().clone(),
                    tuple(scale[0].half().cpu().clone() for scale in scales), condition)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Item ``index``: that of :class:`AnatomyScenes`, with ``voxels`` ``[F, N]`` and ``scale_0`` … in the place of
        ``image``.

        Raises:
            IndexError: beyond the last item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of {self.length}")
        kept = self.kept(index % self.count)
        rng = generator(self.scenes.seed, index, 0xA5CED)
        return self.told(kept, self.scenes.asked(kept.source, kept.view(), kept.chosen, rng), rng)

    def told(self, kept: Kept, asked: dict[str, torch.Tensor], rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """An item about a view of which some structures are asked for."""
        return {**asked, "weight": torch.from_numpy(kept.weight), "voxels": kept.voxels.float(),
                **{f"scale_{n}": scale.float() for n, scale in enumerate(kept.scales)}}


def features_of(scene: dict[str, torch.Tensor]) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """Voxel features ``[1, F, N, 1, 1]`` and deeper features ``[1, C, *S]`` of an item of :class:`KeptScenes`."""
    return scene["voxels"][None, ..., None, None], [scene[f"scale_{n}"][None] for n in range(3)]
