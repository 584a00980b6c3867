"""Training for one pair of points that stands for all nuclei of an image."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from promptzoo.prompts.simulators.clicks import depth
from promptzoo.training.annotator import WindowAnnotator, WindowSession
from promptzoo.training.auto_prompt import NucleiDataset


class NucleiUnions(NucleiDataset):
    """:class:`NucleiDataset` with the mask of all nuclei together, as one target per image."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Image ``index``: ``image`` ``[1, 1, S, S]`` float32 in [-1, 1] and ``label`` ``[1, 1, S, S]`` bool.

        Raises:
            IndexError: beyond the last image.
        """
        item = super().__getitem__(index)
        return {"image": item["image"][None], "label": item["label"][None] > 0}


@dataclass(frozen=True)
class PairAnnotator(WindowAnnotator):
    """Clicks once into one nucleus and once beside all.

    The click lies near the nucleus' deepest pixel, a Gaussian away from it (Xu et al., "SPPNet", 2023, section 2.3:
    centre neighbourhood point sampling).

    Args:
        spread: standard deviation of the Gaussian as a fraction of the nucleus' depth.
        lone_share: share of sessions without the second click.
    """

    spread: float = 0.4
    lone_share: float = 0.2

    def start(self, truth: np.ndarray, rng: np.random.Generator) -> WindowSession:
        """The pair for nuclei ``truth`` ``[S, S]`` bool; without a nucleus only the click beside."""
        session = WindowSession(self, truth)
        parts, count = ndimage.label(truth)
        if count:
            inside = depth(parts == 1 + int(rng.integers(count)))
            deepest = np.array(np.unravel_index(int(inside.argmax()), inside.shape))
            near = deepest + np.rint(rng.normal(0, self.spread * inside.max(), 2)).astype(int)
            near = near if (near >= 0).all() and (near < truth.shape).all() and inside[tuple(near)] else deepest
            session.positive.append(near.astype(np.float32))
        beside = np.argwhere(~truth)
        if len(beside) and (not count or rng.random() >= self.lone_share):
            session.negative.append(beside[int(rng.integers(len(beside)))].astype(np.float32))
        return session
