"""Finished cases that adapt the prompts of a frozen network before they become prompts: a few seconds of learning."""
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit

from promptzoo.core.seeding import generator
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.matching import Match
from promptzoo.inference.reference_cases import Plane, stamps
from promptzoo.inference.reference_predictor import ReferenceInferer, ReferencePredictor
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, SamSegmenter
from promptzoo.inference.sam_inferer import SAM_KINDS
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.task_adaptive import TaskAdaptiveSam, TaskPrompts, case_loss
from promptzoo.prompts.types import MaskPrompt, Point, PromptSet, ReferencePrompt


@dataclass(frozen=True)
class Adapting:
    """How cases adapt the prompts.

    Args:
        window: side of what the network sees of a whole slice, in pixels.
        steps: of learning; 0 takes the prompts as they were trained.
        rate: learning rate.
        views: of the cases, moved and stretched, that are learned from, beside the cases themselves.
        shots: cases at most.
        batch: queries per step.
        seed: of all draws.
    """

    window: int = 128
    steps: int = 40
    rate: float = 1e-3
    views: int = 12
    shots: int = 5
    batch: int = 4
    seed: int = 0


Encoded = Sequence[torch.Tensor]


def adapt(network: TaskAdaptiveSam, maps: Encoded, masks: torch.Tensor, owner: Sequence[int], settings: Adapting
          ) -> TaskPrompts:
    """A copy of a network's prompts, fine-tuned on views of a few cases; the network itself is left as it is.

    Args:
        network: whose prompts they are.
        maps: its encoder's outputs for ``V`` views.
        masks: of the views, ``[V, 1, S, S]``, 0 to 1.
        owner: of each view the number of its case. A query is shown views of other cases, or of its own if it is the
            only one.
        settings: how.
    """
    task = copy.deepcopy(network.task).requires_grad_(True).train()
    if not settings.steps:
        return task.requires_grad_(False).eval()
    rng, of = generator(settings.seed, len(owner), 0x7A56), np.asarray(owner)
    optimiser = torch.optim.AdamW(task.parameters(), lr=settings.rate, weight_decay=1e-2)
    with torch.enable_grad():
        for _ in range(settings.steps):
            query = rng.integers(len(of), size=settings.batch)
            shown = []
            for one in query:
                others = np.flatnonzero(of != of[one]) if len(set(owner)) > 1 else np.flatnonzero(
                    np.arange(len(of)) != one)
                shown.append(rng.choice(others, 2))
            order = torch.from_numpy(np.stack(shown))
            logits = network.after([part[query] for part in maps], [part[order] for part in maps], masks[order], task)
            loss = case_loss(logits, masks[query])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
            optimiser.step()
    return task.requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class Adapted:
    """Prompts that some cases adapted, and these cases encoded: ``maps`` ``[N, …]``, ``masks`` ``[N, 1, S, S]``."""

    task: TaskPrompts
    maps: Encoded
    masks: torch.Tensor


class TaskAdaptivePredictor(ReferencePredictor):
    """A :class:`ReferencePredictor` that learns for seconds from the cases that it is given, and keeps what it learned
    for the next image.

    Whether an image is like the cases at all, and which slice of a volume is meant, is decided by matching, as there.
    What comes back to be edited is a mask, from which the answer is made.

    Args:
        network: the torch network, whose prompts are adapted.
        adapting: how.
        others, named: arguments of :class:`ReferencePredictor`.
    """

    def __init__(self, *others: Any, network_: TaskAdaptiveSam, adapting: Adapting = Adapting(), **named: Any) -> None:
        super().__init__(*others, **named)
        self.torch_network, self.adapting = network_, adapting
        self._known: dict[tuple[Any, ...], Adapted] = {}

    def _made(self, state: EncodedImage, best: tuple[Match, Plane, Window], references: Sequence[ReferencePrompt],
              shown: Sequence[Plane]) -> PromptSet:
        key = tuple((one.image, one.mask, one.label_value, stamps(one)) for one in references)
        if key not in self._known:
            self._known = dict(list(self._known.items())[-3:])
            self._known[key] = self.adapted(shown[:self.adapting.shots])
        learned, plane, number = self._known[key], best[1], references[0].object_id
        window = self._seen(plane, None)
        maps = self._encoded([slice_view(plane.image, window, plane.hounsfield)])
        with torch.inference_mode():
            logits = self.torch_network.after(maps, [part[None] for part in learned.maps], learned.masks[None],
                                              learned.task)
        chance = ndimage.zoom(expit(logits[0, 0].numpy()), self.adapting.window / logits.shape[-1], order=1,
                              grid_mode=True, mode="nearest")
        return self._shown(state, chance, plane, window, number)

    def _seen(self, plane: Plane, rng: np.random.Generator | None) -> Window:
        """The window of a whole slice; moved and stretched by ``rng``."""
        scale, shift = np.ones(2), np.zeros(2)
        if rng is not None:
            scale = np.exp(rng.uniform(-0.3, 0.15)) * np.exp(rng.uniform(-0.1, 0.1, 2))
            shift = rng.uniform(-0.1, 0.1, 2)
        return slice_window(plane.image.shape, plane.spacing, self.adapting.window, scale, shift)

    def _encoded(self, views: Sequence[np.ndarray]) -> Encoded:
        """By the torch encoder: a compiled one has another size."""
        with torch.no_grad():
            return self.torch_network.image_encoder(torch.from_numpy(np.stack(views).astype(np.float32))[:, None])

    def adapted(self, shown: Sequence[Plane]) -> Adapted:
        """What the masked slices of some cases teach."""
        views, masks, owner = [], [], []
        for turn in range(1 + -(-self.adapting.views // len(shown))):
            for number, plane in enumerate(shown):
                rng = generator(self.adapting.seed, turn, number, 0x7A57) if turn else None
                window = self._seen(plane, rng)
                mask = np.zeros(plane.image.shape) if plane.mask is None else plane.mask
                view = slice_view(plane.image, window, plane.hounsfield)
                if rng is not None:
                    view = np.clip((view * rng.uniform(0.85, 1) + rng.normal(0, 0.05)), -1, 1)
                views.append(view)
                masks.append((window.sample(mask.astype(np.float32)) >= 0.5).astype(np.float32)[None])
                owner.append(number)
        maps, truth = self._encoded(views), torch.from_numpy(np.stack(masks))
        task = adapt(self.torch_network, maps, truth, owner, self.adapting)
        return Adapted(task, [part[:len(shown)] for part in maps], truth[:len(shown)])

    def _shown(self, state: EncodedImage, chance: np.ndarray, plane: Plane, window: Window, number: int) -> PromptSet:
        """The mask on its slice, and a click where it is deepest, in world space; nothing where nothing was found."""
        offset, region = window.restore(chance, plane.image.shape)
        layer = np.zeros(state.canonical.shape, bool)
        view = np.moveaxis(layer, plane.axis, 0)[plane.index]
        view[tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region >= 0.5
        if not layer.any():
            return PromptSet()
        depth = ndimage.distance_transform_edt(np.pad(view, 1))[1:-1, 1:-1]
        place = np.insert(np.array(np.unravel_index(int(depth.argmax()), depth.shape), float), plane.axis, plane.index)
        return PromptSet((Point(tuple(map(float, place)), True, number, "voxel"),
                          MaskPrompt(layer, state.canonical, number))).to_world(state.canonical)


class TaskAdaptiveInferer(ReferenceInferer):
    """The predictor as a MONAI inferer.

    Args:
        adapting: arguments of :class:`Adapting`.
        others: see :class:`promptzoo.inference.reference_predictor.ReferenceInferer`.
    """

    def __init__(self, adapting: Mapping[str, Any] | None = None, **others: Any) -> None:
        super().__init__(**others)
        self.adapting = Adapting(**(adapting or {}))
        self._network: TaskAdaptiveSam | None = None

    def wrap(self, network: Any) -> SamParts:
        """A torch network as what :meth:`predictor` takes; its prompts are kept to be adapted."""
        self._network = network
        return super().wrap(network)

    def parts(self, network: Any) -> dict[str, Any]:
        """What engines compile; the prompts stay in torch."""
        self._network = network
        return super().parts(network)

    def predictor(self, network: SamParts, name: str = "task adaptive", engine: str = "torch") -> TaskAdaptivePredictor:
        """The predictor with these settings around the network last given to :meth:`wrap` or :meth:`parts`."""
        segmenter = SamSegmenter(network, self.settings, self.embedding_mb << 20)
        return TaskAdaptivePredictor(network.decode, 2, self.settings, self.calibration, name, engine,
                                     SAM_KINDS | {"reference"}, segmenter=segmenter, propagation=self.propagation,
                                     imitation=self.imitation, network_=self._network, adapting=self.adapting)
