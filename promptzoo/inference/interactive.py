"""Predictor of the interactive-refinement family: encode once, prompt many times, many objects per call."""
from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.zoom import Look, Network, ZoomSegmenter, ZoomSettings
from promptzoo.prompts.types import Box, PromptSet

logger = logging.getLogger(__name__)

INTERACTIVE_KINDS = frozenset({"point", "box", "scribble", "lasso", "mask"})
PRIOR_PREFIX = "prior:"
"""An object named ``prior:<name>`` is not segmented: its mask prompt fills the network's prior channel ``<name>``."""


class InteractivePredictor:
    """Point, box, scribble, lasso and mask prompts on 2D images, slices and volumes.

    Args:
        network: compiled or plain network, see :data:`promptzoo.inference.zoom.Network`.
        dimensions: 2 segments every prompted slice on its own, 3 segments the volume.
        settings: how windows are chosen.
        calibration: ``{"estimated": [...], "dice": [...]}``, increasing support of the map from the network's raw
            estimate to expected Dice; None for the raw estimate.
        name: bundle name.
        engine: name of the engine behind ``network``, for the answer.
        prompt_kinds: kinds taken.
        priors: names of the network's prior channels, in order; see :data:`PRIOR_PREFIX`.
        segmenter: segments one object on one array; None for a :class:`ZoomSegmenter` around ``network``.
    """

    def __init__(self, network: Network, dimensions: int, settings: ZoomSettings,
                 calibration: Mapping[str, Sequence[float]] | None = None, name: str = "interactive_refinement",
                 engine: str = "torch", prompt_kinds: frozenset[str] = INTERACTIVE_KINDS,
                 priors: Sequence[str] = (), segmenter: ZoomSegmenter | None = None) -> None:
        if dimensions not in (2, 3):
            raise PromptError(complain("predictor dimensions", dimensions, "2 or 3"))
        self.name, self.engine, self.dimensions = name, engine, dimensions
        self.prompt_kinds = frozenset(prompt_kinds)
        self.calibration, self.priors = calibration, tuple(priors)
        self.segmenter = segmenter or ZoomSegmenter(network, settings, len(self.priors))

    def encode(self, volume: Volume) -> EncodedImage:
        """Prepare an image for any number of :meth:`decode` calls."""
        return EncodedImage.of(volume)

    def decode(self, state: EncodedImage, prompts: PromptSet, previous: Prediction | None = None) -> Prediction:
        """Segment all objects of a prompt set.

        Args:
            state: result of :meth:`encode`.
            prompts: prompts in world or (the image's own) voxel space.
            previous: last prediction of the session; its masks warm-start objects of the same id.

        Returns:
            A prediction per object on the image's own grid. Objects without a positive prompt get an empty mask;
            with ``priors``, objects named ``prior:<name>`` get none, they help the others.

        Raises:
            PromptError: if a prompt does not fit the image or the bundle, or a prior is unknown or no mask.
        """
        started = time.perf_counter()
        world = prompts.check_on(state.source, self.prompt_kinds).to_world(state.source)
        last = {entry.object_id: entry for entry in previous.objects} if previous is not None else {}
        subjects, context = world.objects, ()
        if self.priors:
            subjects = tuple(info for info in subjects if not info.name.startswith(PRIOR_PREFIX))
            context = self._context(state, world)
        answers = [self._object(state, world.for_object(info.object_id), last.get(info.object_id), context)
                   for info in subjects]
        return Prediction(state.source, tuple(answers), time.perf_counter() - started, self.engine)

    def _context(self, state: EncodedImage, prompts: PromptSet) -> tuple[np.ndarray | None, ...]:
        """The masks of the prior objects on the canonical grid, in the order of ``priors``."""
        layers: dict[str, np.ndarray | None] = dict.fromkeys(self.priors)
        for info in prompts.objects:
            if not info.name.startswith(PRIOR_PREFIX):
                continue
            name, own = info.name.removeprefix(PRIOR_PREFIX), prompts.for_object(info.object_id)
            if name not in layers:
                raise PromptError(complain("prior", info.name, ", ".join(PRIOR_PREFIX + p for p in self.priors)))
            if own.kinds != {"mask"}:
                raise PromptError(complain(f"prompts of the object {info.name}", ", ".join(sorted(own.kinds)) or "none",
                                           "a mask, on any grid"))
            layer, before = ObjectPrompts.of(own, state.canonical).prior, layers[name]
            layers[name] = layer if before is None else np.maximum(before, layer)
        return tuple(layers.values())

    def _object(self, state: EncodedImage, prompts: PromptSet, last: ObjectPrediction | None,
                context: tuple[np.ndarray | None, ...]) -> ObjectPrediction:
        object_id = prompts.objects[0].object_id
        own = ObjectPrompts.of(prompts, state.canonical).with_context(context)
        if own.prior is None and last is not None:
            probability = state.move.array(last.full_probability())
            own = own.with_prior(probability if (probability >= 0.5).any() else None)
        if own.empty:
            return ObjectPrediction(object_id, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), 0.0,
                                    info={"reason": "no positive prompt"})
        if self.dimensions == 3 and not state.canonical.is_2d:
            look = self.segmenter(state.data, state.canonical.spacing_mm, own, state.hounsfield)
            offset, region = look.window.restore(look.probability, state.data.shape)
            return self._native(state, object_id, offset, region, self._estimate(look.quality), [look])
        return self._slices(state, object_id, own)

    def _slices(self, state: EncodedImage, object_id: int, own: ObjectPrompts) -> ObjectPrediction:
        """Every slice that carries a prompt, each as a 2D image."""
        axis = slice_axis(state.canonical, own)
        keep = [a for a in range(3) if a != axis]
        spacing = [state.canonical.spacing_mm[a] for a in keep]
        full = np.zeros(state.data.shape, dtype=np.float32)
        estimates, looks, indices = [], [], []
        for index in prompted_slices(own, axis, state.data.shape[axis]):
            part = own.on_slice(axis, index)
            if part.prior is not None and not (part.prior >= 0.5).any():
                part = part.with_prior(None)
            if part.empty:
                continue
            look = self.segmenter(np.take(state.data, index, axis), spacing, part, state.hounsfield)
            offset, region = look.window.restore(look.probability, [state.data.shape[a] for a in keep])
            np.moveaxis(full, axis, 0)[index][tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
            estimates.append(look.quality)
            looks.append(look)
            indices.append(index)
        estimate = self._estimate(float(np.mean(estimates))) if estimates else 0.0
        answer = self._native(state, object_id, (0, 0, 0), full, estimate, looks)
        used = [(index, look.box) for index, look in zip(indices, looks) if look.box is not None]
        if not used:
            return answer
        return replace(answer, info={**answer.info, "corrected_box": _hull(state, object_id, axis, used)})

    def _estimate(self, raw: float) -> float:
        if self.calibration is None:
            return float(np.clip(raw, 0, 1))
        return float(np.interp(raw, self.calibration["estimated"], self.calibration["dice"]))

    @staticmethod
    def _native(state: EncodedImage, object_id: int, offset: Sequence[int], region: np.ndarray, estimate: float,
                looks: Sequence[Look]) -> ObjectPrediction:
        """Bring a canonical region back to the image's own axis order."""
        full_low = np.asarray(offset)
        full_high = full_low + region.shape
        native = state.move.inverse_array(region)
        low = [0, 0, 0]
        for axis, (source, flip) in enumerate(zip(state.move.order, state.move.flips)):
            low[source] = int(state.canonical.shape[axis] - full_high[axis] if flip else full_low[axis])
        info = {"windows": [list(look.history) for look in looks]}
        return ObjectPrediction(object_id, state.source, tuple(low), np.ascontiguousarray(native), estimate, 0.5, info)


def _hull(state: EncodedImage, object_id: int, axis: int,
          used: Sequence[tuple[int, tuple[np.ndarray, np.ndarray]]]) -> Box:
    """One box around those used on slices ``(index, faces)`` across ``axis``, in voxels of the image itself."""
    low = np.insert(np.min([faces[0] for _, faces in used], 0), axis, min(index for index, _ in used) - 0.5)
    high = np.insert(np.max([faces[1] for _, faces in used], 0), axis, max(index for index, _ in used) + 0.5)
    box = Box(tuple(low + 0.5), tuple(high + 0.5), object_id, "voxel")
    return PromptSet((box,)).to_world(state.canonical).to_voxel(state.source).of("box")[0]


def slice_axis(grid: Grid, prompts: ObjectPrompts) -> int:
    """The axis across which a 2D bundle sees slices.

    The axis of length 1 of a 2D image; else the axis along which a box is one voxel thick or a lasso or scribble is
    flat; else the axis of clearly coarsest spacing (acquisition); else the last (axial in RAS+ order).
    """
    if grid.is_2d:
        return int(np.argmin(grid.shape))
    if prompts.box is not None:
        thickness = prompts.box[1] - prompts.box[0]
        if thickness.min() < 1.01 and (thickness > 1.01).sum() == 2:
            return int(np.argmin(thickness))
    drawn = [v for v, _ in prompts.lassos] + [s for s in (prompts.scribble_positive,) if len(s) > 2]
    for points in drawn:
        spread = np.ptp(points, axis=0)
        if spread.min() <= 0.51 and (spread > 0.51).sum() == 2:
            return int(np.argmin(spread))
    spacing = np.asarray(grid.spacing_mm)
    coarsest = int(np.argmax(spacing))
    return coarsest if spacing[coarsest] > 1.2 * np.median(spacing) else 2


def prompted_slices(prompts: ObjectPrompts, axis: int, count: int) -> list[int]:
    """Indices along ``axis`` that carry any prompt or prior mask, in order."""
    found: set[int] = set()
    for points in (prompts.positive, prompts.negative, prompts.scribble_positive, prompts.scribble_negative,
                   *(v for v, _ in prompts.lassos)):
        found.update(np.round(points[:, axis]).astype(int).tolist())
    if prompts.box is not None:
        found.update(range(int(np.ceil(prompts.box[0][axis] - 1e-6)), int(np.floor(prompts.box[1][axis] + 1e-6)) + 1))
    if prompts.prior is not None:
        other = tuple(a for a in range(3) if a != axis)
        found.update(np.flatnonzero((prompts.prior >= 0.5).any(other)).tolist())
    return sorted(i for i in found if 0 <= i < count)
