"""SAM-like networks that see a slice together with its neighbours in space or time."""
from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.inference.looks import Look
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.sam import SamParts, SamSegmenter, dice_of_iou
from promptzoo.inference.sam_inferer import SAM_KINDS, SamInferer
from promptzoo.inference.sam_predictor import SamPredictor
from promptzoo.inference.tissue_window import ct_window
from promptzoo.inference.zoom import Course, Request, ZoomSettings


class StackSegmenter(SamSegmenter):
    """A :class:`SamSegmenter` on stacks ``[slices, *N]`` of which the middle slice is asked for.

    A lone slice ``[*N]`` stands for all its neighbours.

    Args:
        parts, settings, limit_bytes: see :class:`SamSegmenter`; windows have ``slices`` channels.
        slices: slices of a stack, odd.
    """

    def __init__(self, parts: SamParts, settings: ZoomSettings, slices: int, limit_bytes: int = 128 << 20) -> None:
        super().__init__(parts, settings, limit_bytes)
        self.stack_size = slices

    def _course(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts, hounsfield: bool) -> Course:
        stack = np.stack([image] * self.stack_size) if image.ndim == 2 else image
        middle = stack[self.stack_size // 2]
        if hounsfield:
            shown = ct_window(middle, prompts)
            stack, middle = np.clip(stack, shown.min(), shown.max()), shown
        course = super()._course(middle, spacing, prompts, False)
        request = next(course)
        while True:
            looks = yield replace(request, image=stack)
            try:
                request = course.send(looks)
            except StopIteration as end:
                return end.value

    def view(self, window: Window, stack: np.ndarray) -> np.ndarray:
        """What the network sees of a stack ``[slices, *N]`` through a window: ``[slices, S, S]`` in [-1, 1]."""
        return normalise(np.stack([window.sample(plane) for plane in stack]))

    def _pass(self, jobs: Sequence[tuple[Request, Window]]) -> list[Look]:
        views = {(id(request.image), window): self.view(window, request.image) for request, window in jobs}
        seen = [views[id(request.image), window] for request, window in jobs]
        told = [self.told(request, window, view[self.stack_size // 2]) for (request, window), view in zip(jobs, seen)]
        logits, ious = self.ask([self.encoded(view) for view in seen], told)
        return [self.look(*job, logits[n, 0], dice_of_iou(float(ious[n, 0]))) for n, job in enumerate(jobs)]

    def encoded(self, view: np.ndarray) -> Any:
        """The encoding of a stack ``[slices, S, S]``, or of a lone slice ``[S, S]``."""
        return super().encoded(np.stack([view] * self.stack_size) if view.ndim == 2 else view)


class StackInferer(SamInferer):
    """Inferer of :class:`promptzoo.networks.stacked_sam.StackedSam`.

    Args:
        slices: slices of a stack, odd.
        settings, calibration, overlap, embedding_mb, propagation: see :class:`SamInferer`.
    """

    def __init__(self, slices: int, settings: Mapping[str, Any] | None = None,
                 calibration: Mapping[str, Sequence[float]] | None = None, overlap: str = "last",
                 embedding_mb: int = 128, propagation: Mapping[str, Any] | None = None) -> None:
        super().__init__(settings, calibration, overlap, embedding_mb, propagation=propagation)
        self.stack_size = slices

    def predictor(self, network: SamParts, name: str = "sam", engine: str = "torch") -> SamPredictor:
        """The predictor with these settings around a plain or compiled network."""
        segmenter = StackSegmenter(network, self.settings, self.stack_size, self.embedding_mb << 20)
        return SamPredictor(network.decode, 2, self.settings, self.calibration, name, engine, SAM_KINDS,
                            segmenter=segmenter, propagation=self.propagation)
