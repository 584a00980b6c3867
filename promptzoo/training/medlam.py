"""Learning where in the body a patch lies, from volumes without labels."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils.enums import CommonKeys
from scipy import ndimage
from torch.utils.data import Dataset

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.inference.body_places import Cells, cells_of, patch_at
from promptzoo.networks.medlam import CELL_MM, PATCH, distance_mm
from promptzoo.training.organs import torso
from promptzoo.training.step import optimise

SCALES = 3


@lru_cache(maxsize=64)
def cells(seed: int) -> Cells:
    """A procedural torso on cells."""
    data, _, spacing = torso(seed)
    return cells_of(data, spacing)


class PatchPairs(Dataset):
    """Two patches of the same procedural torso, and the first of them deformed; item ``n`` is always the same.

    Args:
        length: number of items.
        torsos: different ones.
        seed: of the dataset.
        shift: cells by which a deformed patch may be moved along each axis. Without it a cell is found again by where
            in the patch it lies, which says nothing in another patch.

    Raises:
        PromptZooError: for an empty dataset.
    """

    def __init__(self, length: int, torsos: int = 24, seed: int = 0, shift: float = 0.0) -> None:
        if length < 1 or torsos < 1:
            raise PromptZooError(complain("pairs of patches", [length, torsos], "1 or more"))
        self.length, self.torsos, self.seed, self.shift = length, torsos, seed, shift

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Patches of one torso.

        Returns:
            ``image`` ``[1, 3, P, P, P]`` float32: two patches and the first one deformed; ``label`` ``[1, 3]``,
            millimetres from the first to the second; ``where`` ``[1, 3, P, P, P]``, the cell of the first patch that
            each cell of the deformed one shows.

        Raises:
            IndexError: beyond the last item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        rng = generator(self.seed, index, 0x3ED1A)
        body = cells((1_000_003 * self.seed + int(rng.integers(self.torsos))) % 2 ** 31)
        size = np.asarray(body.data.shape)
        centres = [rng.uniform(0, 1, 3) * (size - 1) for _ in range(2)]
        patches = [_varied(patch_at(body, centre), rng) for centre in centres]
        where = deformation(rng)
        source, start = patch_at(body, centres[0]), np.zeros(3)
        if self.shift:
            where = where + rng.uniform(-self.shift, self.shift, 3)[:, None, None, None]
            source, start = body.data, np.round(centres[0]) - PATCH // 2
        bent = ndimage.map_coordinates(source, where + start[:, None, None, None], order=1, mode="nearest")
        images = np.stack([*patches, _varied(bent, rng)]).astype(np.float32)
        away = ((centres[1] - centres[0]) * CELL_MM).astype(np.float32)
        return {"image": torch.from_numpy(images)[None], "label": torch.from_numpy(away)[None],
                "where": torch.from_numpy(where.astype(np.float32))[None]}


def _varied(patch: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With another contrast, and noise."""
    return np.clip(patch * rng.uniform(0.85, 1.1) + rng.normal(0, 0.06) + rng.uniform(0, 0.08) * rng.standard_normal(
        patch.shape), -1, 1)


def deformation(rng: np.random.Generator) -> np.ndarray:
    """Where each cell of a deformed patch comes from, ``[3, P, P, P]``: stretched, turned a little, bent."""
    grid = np.stack(np.meshgrid(*[np.arange(PATCH) - (PATCH - 1) / 2] * 3, indexing="ij"))
    matrix = np.eye(3) * np.exp(rng.normal(0, 0.08, 3)) + rng.normal(0, 0.06, (3, 3))
    bend = [ndimage.zoom(rng.normal(0, 1.2, (4, 4, 4)), PATCH / 4, order=1, grid_mode=True, mode="nearest")
            for _ in range(3)]
    return np.tensordot(matrix, grid, 1) + np.stack(bend) + (PATCH - 1) / 2


class PlaceUpdate:
    """``iteration_update`` of ``monai.engines.SupervisedTrainer``: mean squared error of the distance between the two
    patches, in units of 100 mm, and how surely some cells of the first patch are found in its deformed copy.

    Args:
        points: cells per patch that are looked for.
        similarity: weight of that loss.
        sharpness: of the softmax over cosines.
        clip_norm: bound of the gradient norm.
        seed: of the draws.
    """

    def __init__(self, points: int = 24, similarity: float = 0.1, sharpness: float = 15.0, clip_norm: float = 1.0,
                 seed: int = 0) -> None:
        self.points, self.similarity, self.sharpness = points, similarity, sharpness
        self.clip_norm, self.seed = clip_norm, seed

    def __call__(self, engine: Any, batchdata: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Train on pairs; ``dice_per_round`` holds the mean error of the distance in centimetres, and the share of the
        points found within a cell and a half at the finest scale."""
        image, label, where = (batchdata[name].to(engine.state.device) for name in ("image", "label", "where"))
        locator = getattr(engine.network, "module", engine.network).train().locator
        batch = len(image)
        latent, levels = locator.encode(image[:, :2].flatten(0, 1)[:, None])
        latent = latent.unflatten(0, (batch, 2))
        told = distance_mm(latent[:, 0], latent[:, 1])
        loss = F.mse_loss(told / 100, label / 100)
        known = locator.features([level.unflatten(0, (batch, 2))[:, 0] for level in levels])
        bent = locator.features(locator.encode(image[:, 2:])[1])
        rng = generator(self.seed, int(engine.state.iteration), 0x3ED1B)
        found, alike = 0.0, image.new_zeros(())
        for scale in range(SCALES):
            one, share = self._found(known[scale], bent[scale], image[:, 0], where, 2 ** (SCALES - 1 - scale), rng)
            alike, found = alike + one / SCALES, share
        total = loss + self.similarity * alike
        optimise(engine, total, self.clip_norm)
        off = float((told - label).norm(dim=1).mean().detach())
        return {CommonKeys.IMAGE: image, CommonKeys.LABEL: label, CommonKeys.PRED: told.detach(),
                CommonKeys.LOSS: float(total.detach()), "dice_per_round": [round(off / 10, 3), found]}

    def _found(self, known: torch.Tensor, bent: torch.Tensor, image: torch.Tensor, where: torch.Tensor, stride: int,
               rng: np.random.Generator) -> tuple[torch.Tensor, float]:
        """Loss at one scale, and the share of points that are found."""
        side = known.shape[2]
        source = F.avg_pool3d(where, stride) if stride > 1 else where  # cells of the patch, per cell of this scale
        losses, hits, count = [], 0.0, 0
        for n in range(len(known)):
            body = F.avg_pool3d(image[n][None], stride)[0] if stride > 1 else image[n]
            inside = torch.nonzero(body.flatten() > -0.9).flatten()
            if not len(inside):
                continue
            chosen = inside[torch.from_numpy(rng.integers(len(inside), size=self.points)).to(inside.device)]
            at = torch.stack([chosen // side ** 2, chosen // side % side, chosen % side], 1)
            logits = self.sharpness * known[n].flatten(1)[:, chosen].T @ bent[n].flatten(1)
            away = ((source[n].flatten(1)[:, None] - (at.T[..., None] + 0.5) * stride + 0.5) ** 2).sum(0).sqrt()
            near = (away <= 1.5 * stride).float()
            there = near.sum(1) > 0
            if not there.any():
                continue
            chance = torch.log_softmax(logits, 1)
            losses.append(-((chance * near).sum(1) / near.sum(1).clamp(min=1))[there].mean())
            best = logits[there].argmax(1)
            hits, count = hits + float(near[there].gather(1, best[:, None]).sum()), count + int(there.sum())
        return torch.stack(losses).mean() if losses else known.sum() * 0, hits / max(count, 1)
