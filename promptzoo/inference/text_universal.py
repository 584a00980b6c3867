"""Text, class and box prompts for volume networks that are told in words what to segment."""
from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage
from scipy.special import expit

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.universal_view import WINDOW, body_box, grey, positions, step_for
from promptzoo.prompts.types import PromptSet
from promptzoo.text.wording import read_wording

KINDS = frozenset({"text", "class", "box"})
LEAST_CHANCE, LEAST_ML, SPECK = 0.6, 0.05, 0.1
"""Below this best probability, or this volume in millilitres, a structure counts as not found; parts smaller than this
share of the largest one are dropped."""


@dataclass(frozen=True, eq=False)
class View:
    """One encoded window.

    Args:
        window: in voxels of the canonical image.
        features: the encoder's answer for it, a batch of one.
        inside: voxels of the window that hold image.
    """

    window: Window
    features: Sequence[np.ndarray]
    inside: tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Asked:
    """What one object is prompted with."""

    object_id: int
    classes: tuple[str, ...]
    without: tuple[str, ...]
    spatial: ObjectPrompts
    note: str = ""


@dataclass(frozen=True)
class Settings:
    """How images are looked at.

    Args:
        window: side of the network's window in voxels.
        zoom: look again at what a first look found, or at the box, on smaller voxels (Du et al., "SegVol", 2023,
            section 3.3: zoom-out, zoom-in).
        zoom_margin: sides of the second look over those of what was found.
        threshold: probability from which a voxel belongs to what is named; calibrated on phantoms.
        least_chance, least_ml: see :data:`LEAST_CHANCE`.
    """

    window: int = WINDOW
    zoom: bool = False
    zoom_margin: float = 1.35
    threshold: float = 0.5
    least_chance: float = LEAST_CHANCE
    least_ml: float = LEAST_ML


class UniversalPredictor:
    """Segments what is named; a box beside the name says where it is.

    Args:
        encoder: windows ``[1, 4, *S]`` to features.
        head: text vectors ``[B, T]``, boxes ``[B, 1, *S]`` and features to logits ``[B, 1, *S]``.
        vectors: text vectors of classes, ``[C, T]`` float32, in the order of ``classes``.
        classes: ids of the lexicon.
        settings: how images are looked at.
        name, engine: for the answer.
    """

    prompt_kinds = KINDS
    dimensions = 3
    ahead_part = "encoder"
    """The part that :meth:`ahead` asks; see :func:`promptzoo.inference.kept.keep_ahead`."""

    def __init__(self, encoder: Callable[..., Sequence[np.ndarray]], head: Callable[..., Sequence[np.ndarray]],
                 vectors: np.ndarray, classes: Sequence[str], settings: Settings = Settings(),
                 name: str = "text_universal", engine: str = "torch") -> None:
        self.encoder, self.head, self.vectors, self.classes = encoder, head, vectors, tuple(classes)
        self.settings, self.name, self.engine = settings, name, engine
        self._known: WeakKeyDictionary[EncodedImage, list[View]] = WeakKeyDictionary()

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def ahead(self, state: EncodedImage) -> Iterator[None]:
        """Encode the windows of an image, one per step; nothing if that was done."""
        if state in self._known:
            return
        views = []
        low, high = body_box(state.data, state.canonical.spacing_mm, state.hounsfield)
        for window in self._windows(state, low, high):
            views.append(self._seen(state, window, (low + high - 1) / 2))
            yield
        self._known[state] = views

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """One mask per object, of the classes that its texts and class prompts name; several are joined.

        Args:
            state: result of :meth:`encode`.
            prompts: texts and classes; a box beside them restricts and guides the answer, a box alone asks for what
                fills it.
            previous: not used: the answer depends on image and prompts alone.

        Raises:
            UnclearTextError: for text that is not understood, or means nothing that the network knows.
            PromptError: for other kinds of prompt, and objects without a prompt.
        """
        started = time.perf_counter()
        prompts.check_on(state.source, self.prompt_kinds)
        asked = [self._asked(state, info.object_id, prompts.for_object(info.object_id)) for info in prompts.objects]
        if asked:
            self.views(state)
        answers = tuple(self._answer(state, one) for one in asked)
        return Prediction(state.source, answers, time.perf_counter() - started, self.engine)

    def channel(self, name: str) -> int:
        """The number of a class.

        Raises:
            UnclearTextError: for one that is not known, with those that are.
        """
        wanted = "_".join(name.lower().replace("_", " ").split())
        return self.classes.index(wanted if wanted in self.classes else read_wording(name, self.classes).classes[0])

    @property
    def nameless(self) -> np.ndarray:
        """What the head is told of a box without a name, ``[T]``."""
        return np.zeros_like(self.vectors[0])

    def views(self, state: EncodedImage) -> list[View]:
        """The encoded windows of an image."""
        for _ in self.ahead(state):
            pass
        return self._known[state]

    def _asked(self, state: EncodedImage, object_id: int, prompts: PromptSet) -> Asked:
        read = [read_wording(prompt.text, self.classes) for prompt in prompts.of("text")]
        wanted = [self.classes[self.channel(prompt.name)] for prompt in prompts.of("class")]
        wanted += [name for wording in read for name in wording.classes]
        if not wanted and not prompts.of("box"):
            raise PromptError(complain(f"object {object_id} has no prompt", "nothing", "a text, a class or a box"))
        spatial = ObjectPrompts.of(prompts, state.canonical)
        return Asked(object_id, tuple(dict.fromkeys(wanted)), tuple(n for w in read for n in w.without), spatial,
                     "; ".join(w.note for w in read if w.note))

    def _windows(self, state: EncodedImage, low: np.ndarray, high: np.ndarray) -> list[Window]:
        """Windows that cover the body, overlapping by a quarter where one is not enough."""
        spacing, side = np.asarray(state.canonical.spacing_mm), self.settings.window
        extent = (high - low) * spacing
        step = step_for(extent)
        span = extent / step
        starts = []
        for length in span:
            count = 1 if length <= side else int(np.ceil((length - side) / (0.75 * side))) + 1
            starts.append([0.0] if count == 1 else list(np.linspace(0, length - side, count)))
        ratio = step / spacing
        return [Window(tuple(low - 0.5 + (np.array((a, b, c)) + 0.5) * ratio), tuple(ratio), (side,) * 3)
                for a in starts[0] for b in starts[1] for c in starts[2]]

    def _seen(self, state: EncodedImage, window: Window, centre: np.ndarray) -> View:
        inside = tuple(slice(max(0, int(np.ceil((-0.5 - o) / s))), min(n, int(np.floor((size - 0.5 - o) / s)) + 1))
                       for o, s, n, size in zip(window.origin, window.step, window.shape, state.data.shape))
        values = np.full(window.shape, -1.0, np.float32)
        values[inside] = grey(window.sample(state.data)[inside], state.hounsfield)
        where = positions(window, state.canonical.spacing_mm, centre)
        return View(window, self.encoder(np.concatenate([values[None], where])[None]), inside)  # type: ignore[arg-type]

    def _map(self, spatial: ObjectPrompts, window: Window) -> np.ndarray:
        """The box of an object on a window, ``[1, 1, *S]``; zeros without one."""
        inside = np.zeros((1, 1, *window.shape), np.float32)
        if spatial.box is not None:
            ends = [np.rint(window.to_window(face) + 0.5).astype(int) for face in spatial.box]
            inside[0, 0][tuple(slice(max(0, a), max(0, b, a + 1)) for a, b in zip(*ends))] = 1.0
        return inside

    def _chances(self, state: EncodedImage, views: Sequence[View], asked: Asked) -> np.ndarray:
        """Probability ``[*N]`` of an object on the canonical image, the best of its classes; what its other side has a
        better claim to is left out."""
        wanted = [self.vectors[self.classes.index(name)] for name in asked.classes] or [self.nameless]
        others = [name for name in map(other_side, asked.classes) if name in self.classes and name not in asked.classes]
        cut = [self.vectors[self.classes.index(name)] for name in (*asked.without, *others)]
        total, weight = np.zeros(state.data.shape, np.float32), np.zeros(state.data.shape, np.float32)
        for view in views:
            box = self._map(asked.spatial, view.window)
            best = np.max([self._logits(vector, box, view) for vector in wanted], 0)
            for vector in cut:
                best = np.where(self._logits(vector, 0 * box, view) > best, -20.0, best)
            kept = np.full(best.shape, -20.0, np.float32)
            kept[view.inside] = best[view.inside]
            offset, values = view.window.restore(kept, state.data.shape)
            place = tuple(slice(o, o + n) for o, n in zip(offset, values.shape))
            near = _tent(values.shape)
            total[place] += near * values
            weight[place] += near
        found = np.where(weight > 0, expit(total / np.maximum(weight, 1e-6)), 0).astype(np.float32)
        if asked.spatial.box is not None:
            ends = [np.rint(face + 0.5).astype(int) for face in asked.spatial.box]
            boxed = np.zeros_like(found)
            region = tuple(slice(max(0, a), max(b, a + 1, 0)) for a, b in zip(*ends))
            boxed[region] = found[region]
            found = boxed
        return found

    def _logits(self, vector: np.ndarray, box: np.ndarray, view: View) -> np.ndarray:
        """Logits ``[*S]`` of one text vector on one window."""
        return np.asarray(self.head(vector[None], box, *view.features)[0][0, 0], np.float32)

    def _answer(self, state: EncodedImage, asked: Asked) -> ObjectPrediction:
        found = self._chances(state, self._known[state], asked)
        info: dict[str, Any] = {"classes": list(asked.classes), **({"reading": asked.note} if asked.note else {})}
        if self.settings.zoom:
            found, info["zoomed"] = self._closer(state, asked, found)
        best, level, boxed = float(found.max()), self.settings.threshold, asked.spatial.box is not None
        if boxed:  # a person says that it is there
            level = min(level, 0.5 * best)
        found = _tidy(found, level, max(1, len(asked.classes)))
        volume = float((found >= level).sum() * np.prod(state.canonical.spacing_mm) / 1000)
        info.update(best=round(best, 3), millilitres=round(volume, 2))
        if not boxed and (best < self.settings.least_chance or volume < self.settings.least_ml):
            info["reason"] = f"not found: {', '.join(name.replace('_', ' ') for name in asked.classes) or 'anything'}"
            found = np.minimum(found, 0.9 * level)
        return ObjectPrediction(asked.object_id, state.source, (0, 0, 0),
                                np.ascontiguousarray(state.move.inverse_array(found)), None, level, info)

    def _closer(self, state: EncodedImage, asked: Asked, first: np.ndarray) -> tuple[np.ndarray, bool]:
        """A second look around what the first one found, or around the box, if that shows it larger."""
        level = self.settings.threshold
        inside = _tidy(first, level, max(1, len(asked.classes))) >= level
        if not inside.any():
            return first, False
        box = ndimage.find_objects(inside.astype(np.uint8))[0]
        low, high = np.array([b.start for b in box]), np.array([b.stop for b in box])
        if asked.spatial.box is not None:
            low, high = (np.asarray(face) + 0.5 for face in asked.spatial.box)
        spacing, views = np.asarray(state.canonical.spacing_mm), self._known[state]
        sides = np.full(3, float(((high - low) * spacing).max())) * self.settings.zoom_margin
        now = float((np.asarray(views[0].window.step) * spacing).max())
        step = max(float(sides.max()) / self.settings.window, 0.4 * now)
        if step > 0.8 * now:
            return first, False
        window = Window.around((low + high - 1) / 2, np.full(3, step * self.settings.window) / spacing,
                               (self.settings.window,) * 3)
        body = body_box(state.data, spacing, state.hounsfield)
        view = self._seen(state, window, (body[0] + body[1] - 1) / 2)
        return self._chances(state, [view], asked), True


def other_side(name: str) -> str:
    """The id of the same structure on the other side; empty for one that has no side."""
    for side, other in (("left", "right"), ("right", "left")):
        if name.endswith(f"_{side}"):
            return f"{name.removesuffix(side)}{other}"
    return ""


def _tent(shape: Sequence[int]) -> np.ndarray:
    """Weights that fall towards the border, ``[*S]``."""
    parts = [1e-3 + np.minimum(np.arange(n) + 1, n - np.arange(n)).astype(np.float32) / max(n, 1) for n in shape]
    return parts[0][:, None, None] * parts[1][None, :, None] * parts[2][None, None]


def _tidy(found: np.ndarray, level: float, parts_wanted: int) -> np.ndarray:
    """Without specks: parts above a level that are smaller than :data:`SPECK` of the largest one; less where several
    classes are joined."""
    parts, count = ndimage.label(found >= level)
    if count < 2:
        return found
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    small = sizes < SPECK * sizes.max() / parts_wanted
    small[0] = False
    return np.where(small[parts], 0.0, found).astype(np.float32)
