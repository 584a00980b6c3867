"""Interaction protocols: who gives which prompt when, and what is measured after each.

The constants follow the CVPR 2025 challenge "Foundation Models for Interactive 3D Biomedical Image Segmentation"
(https://www.codabench.org/competitions/5263/, evaluation code of bowang-lab, Apache-2.0):

- a click goes to the centre (maximum of the Euclidean distance transform, in millimetres) of the largest 26-connected
  (8-connected on a slice) component of the error; it is positive where the reference is, else negative;
- surface Dice at 2 mm, 0 when the Dice is at most 0.2;
- areas under the curve over five click points;
- in 3D the box is that of the middle slice, with the range of slices;
- a predictor that takes no box starts ``box+clicks`` with an empty mask, and that start counts as 0.

Everything happens on the image's own grid. Pictures without a spacing count as 1 mm a pixel.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction, Predictor
from promptzoo.core.seeding import generator
from promptzoo.data.io import read_image
from promptzoo.evaluation.anchors import anchor_prompts
from promptzoo.evaluation.datalist import Case, acquisition_axis
from promptzoo.evaluation.metrics import Surface, bounding_box, dice, gated_nsd
from promptzoo.prompts.simulators import boxes, scribbles
from promptzoo.prompts.simulators.clicks import centre_of_largest_error
from promptzoo.prompts.types import Box, ClassPrompt, Point, PromptSet, Scribble

PROTOCOLS = ("clicks", "box", "box+clicks", "scribbles", "class", "anchors")
DEFAULT_CLICKS = {"clicks": 10, "box": 0, "box+clicks": 5, "scribbles": 0, "class": 0, "anchors": 0}
"""Clicks per protocol when none are asked for; CVPR 2025 uses a box and five clicks."""
BOX_STYLES = ("mid-slice", "tight")
"""How a box on a volume is made; on one slice it is always the exact tight box."""
REPORTED_CLICKS = (1, 3, 5, 10)
"""Click counts that tables name."""


def protocol_click(reference: np.ndarray, answer: np.ndarray, spacing_mm: tuple[float, float, float]
                   ) -> tuple[tuple[int, int, int], bool] | None:
    """The next click of the CVPR 2025 protocol.

    Args:
        reference: bool ``[i, j, k]``, the object.
        answer: bool ``[i, j, k]``, the present mask.
        spacing_mm: voxel size along ``(i, j, k)``.

    Returns:
        Voxel index and sign (positive where the reference is), or None when the two masks are equal. Equal sizes and
        equal depths are settled by the smaller index, so the click is a function of its arguments.
    """
    box = bounding_box(reference ^ answer)
    if box is None:
        return None
    keep = solid_axes(reference.shape)
    sides = [box[axis].stop - box[axis].start for axis in keep]
    truth, given = (mask[box].reshape(sides) for mask in (reference, answer))
    place, positive = centre_of_largest_error(truth & ~given, given & ~truth, [spacing_mm[axis] for axis in keep])
    index = [b.start for b in box]
    for axis, offset in zip(keep, place):
        index[axis] += int(offset)
    return tuple(index), positive  # type: ignore[return-value]


def solid_axes(shape: Sequence[int]) -> list[int]:
    """The axes of an image without the slice axis of a single slice: ``(9, 1, 7)`` gives ``[0, 2]``.

    Simulators see a slice as the 2D array that it is; with the flat axis every voxel would lie at the border.
    """
    flat = [axis for axis, n in enumerate(shape) if n == 1][-1:]
    return [axis for axis in range(len(shape)) if axis not in flat]


def reference_box(mask: np.ndarray, axis: int, style: str = "mid-slice") -> tuple[np.ndarray, np.ndarray]:
    """Half-open voxel bounds ``(low, high)`` of the box prompt for a mask.

    Args:
        mask: bool ``[i, j, k]``, not empty.
        axis: the slice axis; along it the box spans all slices that hold the object.
        style: ``mid-slice``: in-plane bounds of the middle one of those slices; ``tight``: bounds of the whole object.

    Raises:
        PromptZooError: for an empty mask or an unknown style.
    """
    if style not in BOX_STYLES:
        raise PromptZooError(complain("box style", style, ", ".join(BOX_STYLES)))
    if not mask.any():
        raise PromptZooError(complain("box around an empty mask", "no voxel", "a mask with at least one voxel"))
    return boxes.tight(mask) if style == "tight" or mask.shape[axis] == 1 else boxes.mid_slice(mask, axis)


@dataclass(eq=False)
class Trial:
    """One case under one protocol: the growing prompt set, the last prediction and the scores so far.

    Attributes:
        steps: label of each step, such as ``box`` or ``click 3``.
        dice, nsd, seconds, estimated_dice: one value per step. ``seconds`` is the decode alone.
        encode_seconds: time of the encode, which the steps share.
    """

    case: Case
    predictor: Predictor
    id: str = ""
    prompts: PromptSet = field(default_factory=PromptSet)
    prediction: Prediction | None = None
    steps: list[str] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    nsd: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    estimated_dice: list[float | None] = field(default_factory=list)
    encode_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.id = self.id or self.case.row.id
        self._spacing = self.case.grid.spacing_mm
        self._surface = Surface(self.case.mask, self._spacing)
        start = time.perf_counter()
        self._state = self.predictor.encode(self.case.volume)
        self.encode_seconds = time.perf_counter() - start

    @property
    def mask(self) -> np.ndarray:
        """The present mask; empty before the first answer."""
        return np.zeros(self.case.grid.shape, bool) if self.prediction is None else self.prediction.objects[0].mask

    def give(self, step: str, *prompts: Any) -> ObjectPrediction:
        """Add prompts (voxel space), decode with the last prediction as warm start, score."""
        world = PromptSet(prompts).to_world(self.case.grid).prompts
        self.prompts = self.prompts.adding(*world)
        start = time.perf_counter()
        self.prediction = self.predictor.decode(self._state, self.prompts, self.prediction)
        seconds = time.perf_counter() - start
        answer = self.prediction.objects[0]
        self._score(step, answer.mask, seconds, answer.estimated_dice)
        return answer

    def give_anew(self, step: str, *prompts: Any) -> ObjectPrediction:
        """Forget what was given, then :meth:`give`, carried through the slices of a volume."""
        self.prompts, self.prediction = PromptSet(through_slices=True), None
        return self.give(step, *prompts)

    def pass_over(self, step: str) -> None:
        """A step without a prompt: the present mask is scored again, at no time."""
        last = self.estimated_dice[-1] if self.estimated_dice else None
        self._score(step, self.mask, 0.0, last)

    def click(self, step: str) -> bool:
        """Click by :func:`protocol_click` and decode; False (and a step at no time) when the mask is perfect."""
        found = protocol_click(self.case.mask, self.mask, self._spacing)
        if found is None:
            self.pass_over(step)
            return False
        self.give(step, Point(found[0], found[1], 1, "voxel"))
        return True

    def _score(self, step: str, mask: np.ndarray, seconds: float, estimate: float | None) -> None:
        value = dice(mask, self.case.mask)
        self.steps.append(step)
        self.dice.append(value)
        self.nsd.append(0.0 if value <= 0 else gated_nsd(mask, self._surface, self._spacing, value))
        self.seconds.append(seconds)
        self.estimated_dice.append(None if estimate is None else float(estimate))

    def click_points(self, name: str) -> list[float]:
        """The values of score ``name`` (``dice``, ``nsd``, …) at the click steps alone."""
        return [v for step, v in zip(self.steps, getattr(self, name)) if step.startswith("click")]

    def record(self) -> dict:
        """The case's entry in a results file."""
        extra = {} if all(e is None for e in self.estimated_dice) else {
            "estimated_dice": [None if e is None else round(e, 4) for e in self.estimated_dice]}
        return {"id": self.id, "modality": self.case.row.modality, "steps": self.steps,
                "dice": [round(v, 4) for v in self.dice], "nsd": [round(v, 4) for v in self.nsd],
                "seconds": [round(v, 4) for v in self.seconds],
                "encode_seconds": round(self.encode_seconds, 4), **extra}


def run_case(case: Case, predictor: Predictor, protocol: str = "clicks", clicks: int | None = None, *,
             box_style: str = "mid-slice", seed: int = 0, on_step: Callable[[Trial], None] | None = None
             ) -> list[Trial]:
    """Run one case.

    Args:
        case: the loaded case; its mask must not be empty.
        predictor: anything that keeps :class:`promptzoo.core.protocols.Predictor`.
        protocol: ``clicks``: N clicks from nothing. ``box``: one box. ``box+clicks``: a box, then N clicks.
            ``scribbles``: the scribbles of a person if there are files ``<image>_scribble0.png`` … beside the image
            (red positive, green negative), else simulated ones; then N clicks. ``class``: the row's ``label_name`` as a
            class prompt. ``anchors``: see :mod:`promptzoo.evaluation.anchors`.
        clicks: N; None takes :data:`DEFAULT_CLICKS`. ``box`` and ``anchors`` always have none.
        box_style: of a volume's box, see :data:`BOX_STYLES`.
        seed: of simulated scribbles.
        on_step: called with the trial after each step.

    Returns:
        One trial, or one per person for human scribbles.

    Raises:
        PromptZooError: for an unknown protocol, a negative number of clicks, an empty mask, or whatever the predictor
            raises.
    """
    if protocol not in PROTOCOLS:
        raise PromptZooError(complain("protocol", protocol, ", ".join(PROTOCOLS)))
    count = DEFAULT_CLICKS[protocol] if clicks is None or protocol in ("box", "anchors") else int(clicks)
    if count < 0 or (protocol == "clicks" and count < 1):
        raise PromptZooError(complain("number of clicks", clicks, "1 or more"))
    if not case.mask.any():
        raise PromptZooError(complain(f"case {case.row.id} without an object", "empty mask", "at least one voxel"))
    starts: list[tuple[str, tuple]] = [("", ())]
    if protocol == "scribbles":
        starts = scribble_starts(case, seed)
    trials = []
    for suffix, first in starts:
        trial = Trial(case, predictor, case.row.id + suffix)
        if protocol.startswith("box"):
            if "box" in predictor.prompt_kinds:
                low, high = reference_box(case.mask, acquisition_axis(case.grid), box_style)
                trial.give("box", Box(tuple(low), tuple(high), 1, "voxel"))
            else:
                trial.pass_over("box")
            _tell(on_step, trial)
        elif protocol == "scribbles":
            trial.give("scribbles", *first)
            _tell(on_step, trial)
        elif protocol == "anchors":
            for step, prompts in anchor_prompts(case.mask, case.grid).items():
                trial.give_anew(step, *prompts)
                _tell(on_step, trial)
        elif protocol == "class":
            trial.give("class", ClassPrompt(case.row.extra.get("label_name") or case.row.id))
            _tell(on_step, trial)
        for number in range(1, count + 1):
            trial.click(f"click {number}")
            _tell(on_step, trial)
        trials.append(trial)
    return trials


def _tell(listener: Callable[[Trial], None] | None, trial: Trial) -> None:
    if listener is not None:
        listener(trial)


def human_scribbles(image: Path) -> list[Path]:
    """Scribble pictures beside an image: ``<stem>_scribble0.png``, ``_scribble1.png`` … (MedScribble's layout)."""
    return sorted(image.parent.glob(f"{image.stem}_scribble[0-9].png"))


def scribble_starts(case: Case, seed: int = 0) -> list[tuple[str, tuple[Scribble, ...]]]:
    """The scribbles a session starts with: one entry ``(id suffix, scribbles in voxel space)`` per person, else one.

    Raises:
        PromptZooError: if a scribble picture does not fit the image or holds no positive stroke.
    """
    starts = []
    for number, path in enumerate(human_scribbles(case.row.image) if case.slice_of is None else []):
        picture = read_image(path)
        colors = picture.meta.get("rgb")
        if colors is None or picture.grid.shape != case.grid.shape:
            got = f"{picture.grid.shape}, {'grey' if colors is None else 'coloured'}"
            raise PromptZooError(complain(f"scribbles {path.name}", got,
                                          f"a colour picture of {case.grid.shape}, red positive, green negative"))
        places = [np.argwhere(colors[..., channel] > 127) for channel in (0, 1)]
        if not len(places[0]):
            raise PromptZooError(complain(f"scribbles {path.name}", "no red pixel", "at least one positive stroke"))
        strokes = [(np.pad(p, ((0, 0), (0, 1))), sign) for p, sign in zip(places, (True, False)) if len(p)]
        starts.append((f"#person{number}", tuple(Scribble(p, sign, 1, "voxel") for p, sign in strokes)))
    if starts:
        return starts
    keep = solid_axes(case.grid.shape)
    drawn = scribbles.human_like(case.mask.reshape([case.grid.shape[a] for a in keep]), generator(seed, 77))
    flat = [a for a in range(3) if a not in keep]
    strokes = [(np.insert(p, flat, 0, 1) if flat else p, sign) for p, sign in zip(drawn, (True, False)) if len(p)]
    return [("", tuple(Scribble(p, sign, 1, "voxel") for p, sign in strokes))]
