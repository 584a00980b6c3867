"""The simulated annotator of training: one session per window, prompts in window pixels."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.simulators import boxes, clicks, lassos, masks, scribbles


@dataclass(frozen=True)
class WindowAnnotator:
    """How often the simulated annotator does what.

    Args:
        first: probability of starting with a box, a click, scribbles, a lasso or a wrong previous mask.
        box_styles: probability of a tight, a slightly jittered, a badly jittered and (3D) a mid-slice box.
        correct_by: probability of answering errors with a click, a scribble or nothing (self loop).
        forget_previous: probability that the previous mask is withheld in a later interaction.
        stride: subsampling with which the error is searched for its centre.
    """

    first: tuple[float, ...] = (0.40, 0.33, 0.15, 0.06, 0.06)
    box_styles: tuple[float, ...] = (0.40, 0.35, 0.25, 0.0)
    correct_by: tuple[float, ...] = (0.70, 0.15, 0.15)
    forget_previous: float = 0.08
    stride: int = 2

    def start(self, truth: np.ndarray, rng: np.random.Generator) -> "WindowSession":
        """Begin a session on a window with mask ``truth`` ``[*S]`` bool."""
        session = WindowSession(self, truth)
        way = _pick(self.first, rng)
        if way == 0:
            session.box = self._box(truth, rng)
        elif way == 2:
            positive, negative = scribbles.human_like(truth, rng)
            session.scribble_positive.append(positive)
            if len(negative) and rng.random() < 0.6:
                session.scribble_negative.append(negative)
        elif way == 3:
            session.lasso = lassos.loose_region(truth, rng)
        elif way == 4:
            session.previous = masks.disturbed(truth, rng).astype(np.float32)
        if way in (1, 4):
            session.add_click(np.zeros_like(truth) if session.previous is None else session.previous > 0.5, rng)
        return session

    def _box(self, truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        style = _pick(self.box_styles, rng)
        if style == 3:
            low, high = boxes.mid_slice(truth, axis=int(rng.integers(truth.ndim)))
        else:
            low, high = boxes.tight(truth)
        if style:
            low, high = boxes.jittered(low, high, truth.shape, (0.0, 0.04, 0.12, 0.03)[style], rng)
        return np.asarray(low) - 0.5, np.asarray(high) - 0.5


@dataclass(eq=False)
class WindowSession:
    """Prompts given so far on one window; see :class:`promptzoo.prompts.encoders.WindowPrompts` for the fields.

    ``fresh`` holds the points ``[n, d]`` of the newest click or stroke; None if the last answer was only fed back.
    """

    style: WindowAnnotator
    truth: np.ndarray
    positive: list[np.ndarray] = field(default_factory=list)
    negative: list[np.ndarray] = field(default_factory=list)
    scribble_positive: list[np.ndarray] = field(default_factory=list)
    scribble_negative: list[np.ndarray] = field(default_factory=list)
    box: tuple[np.ndarray, np.ndarray] | None = None
    lasso: np.ndarray | None = None
    previous: np.ndarray | None = None
    forgotten: bool = False
    fresh: np.ndarray | None = None

    def prompts(self) -> WindowPrompts:
        """What the network is told now."""
        return WindowPrompts(
            self.truth.ndim, _rows(self.positive), _rows(self.negative), self.box, _joined(self.scribble_positive),
            _joined(self.scribble_negative), self.lasso, None if self.forgotten else self.previous)

    def add_click(self, mask: np.ndarray, rng: np.random.Generator) -> None:
        """Click into the largest error of ``mask``, near its centre."""
        found = clicks.next_click(self.truth & ~mask, mask & ~self.truth, rng, stride=self.style.stride)
        if found is not None:
            (self.positive if found[1] else self.negative).append(np.asarray(found[0], dtype=np.float32))
            self.fresh = np.asarray(found[0])[None]

    def correct(self, probability: np.ndarray, rng: np.random.Generator) -> None:
        """Answer the network's ``probability`` ``[*S]``: a click, a scribble, or only feed it back."""
        self.previous, self.fresh = probability.astype(np.float32), None
        self.forgotten = bool(rng.random() < self.style.forget_previous)
        mask, way = probability > 0.5, _pick(self.style.correct_by, rng)
        if way == 0:
            self.add_click(mask, rng)
        elif way == 1:
            found = scribbles.corrective(self.truth, mask, rng)
            if found is not None:
                (self.scribble_positive if found[1] else self.scribble_negative).append(found[0])
                self.fresh = found[0]

    def far_from_new(self, reach: float) -> np.ndarray:
        """Where nothing new was said.

        Args:
            reach: distance to the newest prompt from which a place counts as far, as a fraction of the longest side.

        Returns:
            ``[*S]`` bool; all False if there is no new prompt (feeding the mask back is meant to change it).
        """
        if self.fresh is None or not len(self.fresh):
            return np.zeros(self.truth.shape, dtype=bool)
        elsewhere = np.ones(self.truth.shape, dtype=bool)
        elsewhere[tuple(np.clip(np.rint(self.fresh).astype(int), 0, np.array(self.truth.shape) - 1).T)] = False
        return ndimage.distance_transform_edt(elsewhere) > reach * max(self.truth.shape)


def _pick(chances: tuple[float, ...], rng: np.random.Generator) -> int:
    return int(np.searchsorted(np.cumsum(chances) / np.sum(chances), rng.random(), side="right"))


def _rows(points: list[np.ndarray]) -> np.ndarray | None:
    return np.stack(points) if points else None


def _joined(strokes: list[np.ndarray]) -> np.ndarray | None:
    return np.concatenate(strokes) if strokes else None
