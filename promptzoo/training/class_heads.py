"""Class-specific heads: how they begin, and how a new class gets one."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.inference.class_heads import ClassHeadPredictor
from promptzoo.networks.deltas import read_file
from promptzoo.networks.text_heads import DynamicHead
from promptzoo.networks.text_universal import TextUniversal, resumed
from promptzoo.text.lexicon import Lexicon
from promptzoo.text.towers import shipped_tower
from promptzoo.training.anatomy_scenes import AnatomyScenes
from promptzoo.training.kept_scenes import KeptScenes
from promptzoo.training.phrases import Phrases
from promptzoo.training.text_universal import KnownClassLoss


def begun(network: TextUniversal, path: str, phrases: Phrases, scenes: AnatomyScenes, views: int = 16
          ) -> TextUniversal:
    """A network whose classes begin with the heads that a trained generator makes of their names.

    Args:
        network: with class-specific heads; its encoder is that of ``path``.
        path: weights of a network with a dynamic head.
        phrases: the classes.
        scenes: usual images, for their mean bottleneck.
        views: how many of them.
    """
    resumed(network, path, False)
    state = {name.removeprefix("head."): value.float() for name, value in read_file(Path(path))[0].items()
             if name.startswith("head.")}
    shared = DynamicHead(network.image_encoder.features, network.image_encoder.channels)
    shared.load_state_dict(state)
    kept = KeptScenes(scenes, network, views, views)
    names = [Lexicon.load().concept(name).name for name in phrases.classes]
    text = torch.from_numpy(phrases.vectors(names))
    with torch.no_grad():
        pooled = torch.stack([kept.kept(n).scales[-1].float().flatten(1).mean(1) for n in range(views)]).mean(0)
        told = torch.cat([text, torch.zeros(1, text.shape[1])])
        network.head.rows.copy_(network.head.begun(shared, told, pooled))
    return network


@dataclass(frozen=True)
class Extending:
    """How a new class is learned.

    Args:
        iterations: steps.
        rate: of learning.
        voxels: drawn per step from each window, half of them from inside the structure where there are enough.
        seed: of all draws.
    """

    iterations: int = 200
    rate: float = 0.02
    voxels: int = 6000
    seed: int = 0


class ClassRow(nn.Module):
    """What is a new class's own: its text vector ``[T]`` and its row ``[numbers]`` of the table of controllers."""

    def __init__(self, text: torch.Tensor, row: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("text", text.clone())
        self.row = nn.Parameter(row.clone())

    def told(self) -> torch.Tensor:
        """What the head is told, ``[1, T + numbers]``."""
        return torch.cat([self.text, self.row])[None]


def extended(network: TextUniversal, predictor: ClassHeadPredictor, name: str,
             cases: Sequence[tuple[Volume, np.ndarray]], settings: Extending = Extending(),
             report: Callable[[int, int, str], None] = lambda done, total, name: None) -> tuple[ClassRow, float]:
    """A head for a class that the network does not have, learned from a few cases with everything else frozen.

    It begins with the row of the class whose name is most alike.

    Args:
        network: with class-specific heads; it is only asked.
        predictor: of the same weights.
        name: of the new class, in words.
        cases: images, and masks ``[i, j, k]`` bool on their grids.
        settings: how.
        report: told ``(done, total, "")``.

    Returns:
        What is the class's own, and the last losses' mean.

    Raises:
        PromptZooError: without a case, or for an empty mask.
    """
    if not cases or not all(mask.any() for _, mask in cases):
        raise PromptZooError(complain(f"cases of {name}", len(cases), "1 or more, each with the structure"))
    text = np.asarray(shipped_tower()([name.replace("_", " ")])[0], np.float32)
    words = predictor.shipped[:-1, :len(text)]
    near = int((words @ text).argmax())
    own = ClassRow(torch.from_numpy(text), torch.from_numpy(predictor.shipped[near, len(text):]))
    seen = [view for volume, mask in cases for view in _labelled(predictor, volume, mask)]
    rng, losses = generator(settings.seed, len(seen)), []
    loss_of = KnownClassLoss(entropy_weight=0.05, rival_weight=0.0)
    optimiser = torch.optim.Adam(own.parameters(), settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=settings.iterations + 1,
                                                   pct_start=0.1)
    for step in range(settings.iterations):
        voxels, scales, inside, outside = seen[int(rng.integers(len(seen)))]
        picks = [rng.permutation(part)[:settings.voxels // 2] for part in (inside, outside)]
        chosen = torch.from_numpy(np.concatenate(picks))
        weight = torch.cat([torch.full((len(p),), len(a) / max(len(p), 1)) for p, a in zip(picks, (inside, outside))])
        label = (torch.arange(len(chosen)) < len(picks[0])).float()[None]
        logits = network.head(own.told(), torch.zeros(1, 1, len(chosen), 1, 1), voxels[:, :, chosen][..., None, None],
                              *scales).flatten(1)
        loss = loss_of(logits, label, weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(own.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        report(step + 1, settings.iterations, "")
    return own.requires_grad_(False).eval(), float(np.mean(losses[-20:]))


def _labelled(predictor: ClassHeadPredictor, volume: Volume, mask: np.ndarray) -> Iterator[tuple[Any, ...]]:
    """Voxel features ``[1, F, N]``, deeper features, and which voxels are inside and outside, of each window."""
    state = predictor.encoded(volume)
    label = np.ascontiguousarray(state.move.array(mask)).astype(np.float32)
    for view in predictor.views(state):
        there = np.zeros(view.window.shape, bool)
        there[view.inside] = True
        inside = (view.window.sample(label) >= 0.5) & there
        features = [torch.from_numpy(np.asarray(part, np.float32)) for part in view.features]
        yield (features[0].flatten(2), features[1:], np.flatnonzero(inside), np.flatnonzero(there & ~inside))
