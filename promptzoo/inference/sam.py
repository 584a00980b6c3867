"""Inference of SAM-like networks: an image window is encoded once and kept, every prompt on it costs a decode."""
from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np
import torch

from promptzoo.inference.candidates import Candidates
from promptzoo.inference.looks import Look, in_window
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.state import StateCache
from promptzoo.inference.zoom import BATCH, Request, ZoomSegmenter, ZoomSettings
from promptzoo.prompts.encoders.tokens import SamPrompt, sam_prompt

Arrays = Sequence[np.ndarray]
CROWD = 24
"""Objects on a slice from which on they look through :data:`SHARED` windows."""


@dataclass(frozen=True)
class WindowGrid:
    """Which windows there are, so that prompts near each other share an encoding.

    Args:
        level: ratio of the sides of neighbouring window sizes.
        steps: positions of windows per side.
        wider: side of a window over the one that is wished, at least.
    """

    level: float
    steps: int
    wider: float = 1.0


FINE, SHARED = WindowGrid(2.0 ** 0.5, 8), WindowGrid(2.0, 2, 1.5)
"""Windows that fit, and fewer of them: a hundred boxes all over a slice ask for 97 or 41. Objects look smaller there,
which costs 0.003 of Dice on nuclei and gains 0.006 on axons (``promptzoo.cli.maintain.measure_crowd``)."""


@dataclass(frozen=True, eq=False)
class SamParts:
    """The two halves of a SAM-like network as plain callables.

    Args:
        encode: windows ``[B, 1, S, S]`` to the encoder's outputs.
        decode: encoder outputs, points, labels and dense maps to the outputs of
            :meth:`promptzoo.networks.sam.PromptableSam.decode`.
    """

    encode: Callable[[np.ndarray], Arrays]
    decode: Callable[..., Arrays]

    @classmethod
    def of(cls, network: Any, device: torch.device | str | None = None) -> "SamParts":
        """Those of a torch network."""
        place = torch.device(device) if device is not None else next(network.parameters()).device

        def call(function: Callable[..., Any], *inputs: np.ndarray) -> Arrays:
            network.eval()
            with torch.inference_mode():
                return [out.float().cpu().numpy() for out in function(*(torch.from_numpy(i).to(place) for i in inputs))]

        return cls(lambda images: call(network.image_encoder, images), lambda *inputs: call(network.decode, *inputs))


@dataclass(frozen=True, eq=False)
class EncodedWindow:
    """What the encoder says of one window.

    Args:
        parts: its outputs, without the batch axis.
    """

    parts: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(part.nbytes for part in self.parts)


class SamSegmenter(ZoomSegmenter):
    """Segments one object on a slice with a SAM-like network.

    Args:
        parts: the network.
        settings: how windows are chosen.
        limit_bytes: most memory for encoded windows.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts.decode, settings)
        self.parts, self.encodings, self.grid = parts, StateCache(limit_bytes), FINE

    def many(self, image: np.ndarray, spacing: Sequence[float], prompts: Sequence[ObjectPrompts],
             hounsfield: bool = False) -> list[Look]:
        """See :meth:`ZoomSegmenter.many`; from :data:`CROWD` objects on windows are shared by more of them."""
        if len(prompts) < CROWD or self.grid == SHARED:
            return super().many(image, spacing, prompts, hounsfield)
        crowded = copy.copy(self)
        crowded.grid = SHARED
        return crowded.many(image, spacing, prompts, hounsfield)

    def _window(self, low: np.ndarray, high: np.ndarray, margin: float, spacing: np.ndarray,
                shape: Sequence[int]) -> Window:
        """The smallest window of the grid that serves; see :meth:`ZoomSegmenter._window`."""
        side = max(float(((high - low) * spacing).max()) * margin, self.settings.min_side_px * float(spacing.min()))
        whole = float((np.asarray(shape) * spacing).max())
        steps = np.floor(np.log(max(whole / (side * self.grid.wider), 1.0)) / np.log(self.grid.level) + 1e-6)
        snapped = whole / self.grid.level ** steps
        pitch = snapped / self.grid.steps / spacing
        centre = np.round((low + high) / 2 / pitch) * pitch
        half = snapped / 2 / spacing
        return super()._window(centre - half, centre + half, 1.0, spacing, shape)

    def window_over(self, low: np.ndarray, high: np.ndarray, spacing: np.ndarray, shape: Sequence[int]) -> Window:
        """The window of the grid that sees a region, faces ``low`` to ``high``, of an image of ``shape``."""
        return self._window(low, high, 1.0, spacing, shape)

    def _looks(self, requests: Sequence[Request]) -> list[list[Look]]:
        """See :meth:`ZoomSegmenter._looks`; windows that are alike are looked through together."""
        jobs = [(number, request, window) for number, request in enumerate(requests) for window in request.windows]
        order = sorted(range(len(jobs)), key=lambda n: (jobs[n][2].step, jobs[n][2].origin))
        looks: dict[int, Look] = {}
        for n in range(0, len(order), BATCH):
            part = order[n:n + BATCH]
            looks |= zip(part, self._pass([jobs[m][1:] for m in part]))
        found: list[list[Look]] = [[] for _ in requests]
        for n, (number, *_) in enumerate(jobs):
            found[number].append(looks[n])
        return found

    def _pass(self, jobs: Sequence[tuple[Request, Window]]) -> list[Look]:
        views: dict[tuple[int, Window], np.ndarray] = {}
        for request, window in jobs:
            if (id(request.image), window) not in views:
                views[id(request.image), window] = normalise(window.sample(request.image))
        seen = [views[id(request.image), window] for request, window in jobs]
        told = [self.told(request, window, view) for (request, window), view in zip(jobs, seen)]
        logits, ious = self.ask([self.encoded(view) for view in seen], told)
        return [self.look(*job, logits[n, 0], dice_of_iou(float(ious[n, 0]))) for n, job in enumerate(jobs)]

    def told(self, request: Request, window: Window, view: np.ndarray) -> SamPrompt:
        """The prompts of a request in a window whose pixels are ``view`` ``[S, S]``."""
        return sam_prompt(in_window(request.prompts, window, request.last), view)

    def encoded(self, view: np.ndarray) -> EncodedWindow:
        """The encoding of a window ``[*S]``, or of a stack of slices ``[slices, S, S]``, from memory if its content was
        seen before."""
        channels = view if self.stack_size > 1 else view[None]
        key = (hashlib.blake2b(view.tobytes(), digest_size=16).hexdigest(),)
        return self.encodings.get(key, lambda: EncodedWindow(tuple(
            np.ascontiguousarray(part[0]) for part in self.parts.encode(channels[None]))))

    def ask(self, windows: Sequence[EncodedWindow], prompts: Sequence[SamPrompt]) -> tuple[np.ndarray, np.ndarray]:
        """Logits ``[B, 1, S, S]`` and predicted IoU ``[B, 1]`` of prompts, each on its window."""
        logits, ious = self.decoded(windows, prompts)[:2]
        return logits, ious

    def decoded(self, windows: Sequence[EncodedWindow], prompts: Sequence[SamPrompt]) -> Arrays:
        """All that the decoder says: see :meth:`promptzoo.networks.sam.PromptableSam.decode`."""
        inputs = [np.stack(parts) for parts in zip(*(window.parts for window in windows))]
        return self.network(*inputs, *(np.stack([getattr(p, name) for p in prompts])
                                       for name in ("points", "labels", "dense")))

    def candidates_on(self, window: Window, image: np.ndarray, prompts: ObjectPrompts) -> Candidates:
        """The masks among which an ambiguous prompt leaves the choice, for any prompt.

        Args:
            window: where to look, best the last window that the answer to these prompts looked through.
            image: ``[i, j]`` intensities; a CT image already cut to its display window.
            prompts: prompts of one object. A mask of an earlier window is not fed back: with it the decoder no longer
                doubts.
        """
        view = normalise(window.sample(image))
        told = sam_prompt(in_window(prompts, window, None), view)
        masks, ious = self.decoded([self.encoded(view)], [told])[2:]
        return Candidates.of(window, masks[0, 1:], ious[0, 1:], prompts)


def dice_of_iou(iou: float) -> float:
    """Dice of masks with this intersection over union."""
    iou = min(max(iou, 0.0), 1.0)
    return 2 * iou / (1 + iou)
