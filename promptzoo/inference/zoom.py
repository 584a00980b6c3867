"""Zooming segmentation of one object: choose a window around the prompts, segment, look closer or wider, again.

The idea of zooming around the prompts to a fixed network size is that of nnInteractive's AutoZoom (Isensee et al.,
arXiv 2503.08373) and of focus-cut approaches; the rules here are ours and are the same in 2D and 3D.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generator, Sequence

import numpy as np

from promptzoo.inference.asked_changes import only_asked
from promptzoo.inference.looks import Look, as_chance, bounds, cut_share, in_window, keep_promises, overlap
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.shape_prior import box_logits
from promptzoo.inference.tissue_window import ct_window
from promptzoo.prompts.encoders import prompt_maps

Network = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Fused windows ``[B, 1 + P, *S]`` to logits ``[B, 1, *S]`` and estimated Dice ``[B, 1]``."""

BATCH = 8
"""Most windows of one network pass."""


@dataclass(frozen=True)
class ZoomSettings:
    """How windows are chosen; part of a bundle's configuration.

    Args:
        window: pixels per side of the network window.
        box_margin: window side over the side of a box or lasso.
        mask_margin: window side over the side of the present mask.
        scribble_margin: window side over the side of positive and negative scribbles together, when nothing else tells
            the size.
        click_scales: window sides to try for clicks alone, as fractions of the image's longest side.
        min_side_px: smallest window side in image pixels.
        refine_ratio: a second look is taken when the mask asks for a window smaller than this times the present one.
        max_passes: most looks, the first one included.
        overhang: most of the image's extent that a window covers; above 1 it sees the image's border from outside.
        max_stretch: largest ratio of window steps between two axes (thin stacks of slices).
        local_after: from this many corrections on, only those changes are applied to the session's mask that a new
            click or stroke asked for; the first corrections may turn everything over.
        box_prior: strength of the shape that a box alone says, see :mod:`promptzoo.inference.shape_prior`; 0 for none.
        self_loops: further passes on the final window with the mask fed back (warm-start self loop of PE-MED).
    """

    window: int = 128
    box_margin: float = 1.5
    mask_margin: float = 1.6
    scribble_margin: float = 1.2
    click_scales: tuple[float, ...] = (0.7, 0.5, 0.35, 0.25, 0.18)
    min_side_px: float = 40.0
    refine_ratio: float = 0.7
    max_passes: int = 3
    overhang: float = 1.3
    max_stretch: float = 4.0
    box_prior: float = 0.0
    self_loops: int = 0
    local_after: int = 3


@dataclass(frozen=True, eq=False)
class Request:
    """Windows of one object to be looked at.

    Args:
        image: ``[*N]`` intensities.
        windows: where to look.
        prompts: of the object.
        last: the look before, whose mask is fed back.
    """

    image: np.ndarray
    windows: tuple[Window, ...]
    prompts: ObjectPrompts
    last: Look | None = None


Course = Generator[Request, list[Look], Look]
"""The looks at one object: yields what to look at, is sent what was seen, returns the last look."""


class ZoomSegmenter:
    """Segments one object on an array with a windowed promptable network.

    Args:
        network: see :data:`Network`.
        settings: how windows are chosen.
        priors: prior channels of the network behind the prompt maps, filled from ``ObjectPrompts.context``.
    """

    stack_size = 1
    """Slices of a volume that one look sees; above 1 an image is the stack of them ``[stack_size, *N]``, the asked one
    in the middle."""

    def __init__(self, network: Network, settings: ZoomSettings, priors: int = 0) -> None:
        self.network, self.settings, self.priors = network, settings, priors

    def __call__(self, image: np.ndarray, spacing: Sequence[float], prompts: ObjectPrompts,
                 hounsfield: bool = False) -> Look:
        """Segment one object; see :meth:`many`."""
        return self.many(image, spacing, [prompts], hounsfield)[0]

    def many(self, image: np.ndarray, spacing: Sequence[float], prompts: Sequence[ObjectPrompts],
             hounsfield: bool = False) -> list[Look]:
        """Segment several objects on one array; the windows that they ask for at the same time share network passes.

        Args:
            image: ``[*N]`` intensities, 2 or 3 axes.
            spacing: voxel size per axis, any unit.
            prompts: prompts of each object; none empty.
            hounsfield: intensities are Hounsfield units: the CT window that fits the prompted tissue is looked through.

        Returns:
            The final look of each.
        """
        courses = [self._course(image, np.asarray(spacing, dtype=float), one, hounsfield) for one in prompts]
        asked = {n: next(course) for n, course in enumerate(courses)}
        found: dict[int, Look] = {}
        while asked:
            for (n, _), looks in zip(list(asked.items()), self._looks(list(asked.values()))):
                try:
                    asked[n] = courses[n].send(looks)
                except StopIteration as end:
                    found[n] = end.value
                    del asked[n]
        return [found[n] for n in range(len(courses))]

    def _course(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts, hounsfield: bool) -> Course:
        """All looks at one object."""
        if hounsfield:
            image = ct_window(image, prompts)
        extent = self._evidence(prompts, image.shape)
        if extent is None:
            look = yield from self._search(image, spacing, prompts)
        else:
            low, high, margin = extent
            window = self._window(low, high, margin, spacing, image.shape)
            look = (yield Request(image, (window,), prompts))[0]
        for _ in range(self.settings.max_passes - 1):
            closer = self._next_window(look, prompts, spacing, image.shape)
            if closer is None:
                break
            look = (yield Request(image, (closer,), prompts, look))[0]
        for _ in range(self.settings.self_loops):
            look = (yield Request(image, (look.window,), prompts, look))[0]
        return self.local(look, prompts)

    def local(self, look: Look, prompts: ObjectPrompts) -> Look:
        """A look after enough corrections changes the session's mask only where they asked for it."""
        corrections = len(prompts.positive) + len(prompts.negative) - 1 + (prompts.box is not None)
        return only_asked(look, prompts) if corrections >= self.settings.local_after else look

    def _evidence(self, prompts: ObjectPrompts, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Faces of the region that the prompts tell of, and the margin to leave; None if only clicks are known."""
        s, margin = self.settings, 0.0
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        if prompts.prior is not None:
            found = bounds(prompts.prior >= 0.5)
            if found is not None:
                parts.append(found)
                margin = max(margin, s.mask_margin)
        if prompts.box is not None:
            parts.append(prompts.box)
            margin = max(margin, s.box_margin)
        for vertices, positive in prompts.lassos:
            if positive:
                parts.append((vertices.min(0) - 0.5, vertices.max(0) + 0.5))
                margin = max(margin, s.box_margin)
        if not parts:
            if not len(prompts.scribble_positive) or not len(prompts.scribble_negative):
                return None
            strokes = np.concatenate([prompts.scribble_positive, prompts.scribble_negative])
            return strokes.min(0) - 0.5, strokes.max(0) + 0.5, s.scribble_margin
        for points in (prompts.positive, prompts.scribble_positive):
            if len(points):
                parts.append((points.min(0) - 0.5, points.max(0) + 0.5))
        return np.min([p[0] for p in parts], 0), np.max([p[1] for p in parts], 0), margin

    def _window(self, low: np.ndarray, high: np.ndarray, margin: float, spacing: np.ndarray,
                shape: Sequence[int]) -> Window:
        """A window around ``[low, high]`` faces: cubic in millimetres where the image allows, moved into the image."""
        size = (high - low) * spacing
        side = max(float(size.max()) * margin, self.settings.min_side_px * float(spacing.min()))
        image_mm = np.asarray(shape) * spacing
        reach = np.maximum(image_mm * self.settings.overhang, side / self.settings.max_stretch)
        sides = np.minimum(side, reach) / spacing
        centre = (low + high) / 2
        half = sides / 2
        top = np.asarray(shape) - 0.5
        inside = np.clip(centre, -0.5 + half, np.maximum(top - half, -0.5 + half))
        centre = np.where(sides <= shape, inside, (np.asarray(shape) - 1) / 2)
        return Window.around(centre, sides, (self.settings.window,) * len(shape))

    def _search(self, image: np.ndarray, spacing: np.ndarray, prompts: ObjectPrompts) -> Course:
        """Clicks or strokes alone do not tell the size: try several, keep the answer that the others support most.

        Support is the mean overlap with the answers at all sizes plus the estimated Dice; the estimate alone is a poor
        guide, because every size has something that is easy to segment. (Fill of the window, sharpness of the
        probabilities and linear fits of all these choose no better.)
        """
        clicks = np.concatenate([prompts.positive, prompts.scribble_positive])
        low, high = clicks.min(0) - 0.5, clicks.max(0) + 0.5
        longest = float((np.asarray(image.shape) * spacing).max())
        need = float(((high - low) * spacing).max()) * 1.2
        windows = []
        for scale in self.settings.click_scales:
            side = max(longest * scale, self.settings.min_side_px * float(spacing.min()), need)
            middle, half = (low + high) / 2, side / spacing / 2
            window = self._window(middle - half, middle + half, 1.0, spacing, image.shape)
            if window not in windows:
                windows.append(window)
        looks = yield Request(image, tuple(windows), prompts)
        support = [look.quality + np.mean([overlap(look, other) for other in looks]) for look in looks]
        return looks[int(np.argmax(support))]

    def _next_window(self, look: Look, prompts: ObjectPrompts, spacing: np.ndarray,
                     shape: Sequence[int]) -> Window | None:
        """A better window for the mask of ``look``, or None if the present one serves."""
        found = bounds(look.probability >= 0.5)
        if found is None:
            return None
        low, high = (np.asarray(look.window.origin) + f * np.asarray(look.window.step) for f in found)
        if prompts.box is not None:
            low, high = np.minimum(low, prompts.box[0]), np.maximum(high, prompts.box[1])
        margin = self.settings.mask_margin if prompts.box is None else self.settings.box_margin
        cut = cut_share(look, shape)
        wanted = self._window(low, high, margin * (1.5 if cut > 0 else 1.0), spacing, shape)
        ratio = float(np.max(np.asarray(wanted.step) / np.asarray(look.window.step)))
        if ratio < self.settings.refine_ratio or (cut > 0 and ratio > 1.1):
            return wanted
        return None

    def _looks(self, requests: Sequence[Request]) -> list[list[Look]]:
        """The windows of all requests, in passes of at most :data:`BATCH` windows."""
        jobs = [(request, window) for request in requests for window in request.windows]
        seen = (look for n in range(0, len(jobs), BATCH) for look in self._pass(jobs[n:n + BATCH]))
        return [[next(seen) for _ in request.windows] for request in requests]

    def _pass(self, jobs: Sequence[tuple[Request, Window]]) -> list[Look]:
        """One network pass."""
        fused = []
        for request, window in jobs:
            view = normalise(window.sample(request.image))
            parts = [view[None], prompt_maps(in_window(request.prompts, window, request.last), view)]
            fused.append(np.concatenate(
                parts + [request.prompts.context_in(window, self.priors)] if self.priors else parts))
        logits, quality = self.network(np.stack(fused))
        return [self.look(*job, logits[n, 0], float(quality[n, 0])) for n, job in enumerate(jobs)]

    def look(self, request: Request, window: Window, logits: np.ndarray, quality: float) -> Look:
        """The answer to one window of a request: logits ``[*S]`` and estimated Dice of the network."""
        history = () if request.last is None else request.last.history
        return Look(window, self.promised(logits, request.prompts, window), quality,
                    history + (f"{window.step[0]:.2f}",))

    def promised(self, logits: np.ndarray, prompts: ObjectPrompts, window: Window) -> np.ndarray:
        """Probability ``[*S]`` from a network's logits ``[*S]``: with what a box alone says, and clicks obeyed."""
        prior = box_logits(prompts, window, self.settings.box_prior)
        return keep_promises(as_chance(logits + prior), prompts, window)
