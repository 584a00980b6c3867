"""Predictor of the interactive-refinement family: encode once, prompt many times, many objects per call."""
from __future__ import annotations

import logging
import time
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.looks import Look
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.propagation import Propagation
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.through import PROMPTED, ThroughSlices, digest, prompted_slices, slice_axis, spacing_of
from promptzoo.inference.zoom import Network, ZoomSegmenter, ZoomSettings
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
        propagation: how ``PromptSet.through_slices`` carries prompts of a 2D bundle through a volume.
    """

    def __init__(self, network: Network, dimensions: int, settings: ZoomSettings,
                 calibration: Mapping[str, Sequence[float]] | None = None, name: str = "interactive_refinement",
                 engine: str = "torch", prompt_kinds: frozenset[str] = INTERACTIVE_KINDS,
                 priors: Sequence[str] = (), segmenter: ZoomSegmenter | None = None,
                 propagation: Propagation = Propagation()) -> None:
        if dimensions not in (2, 3):
            raise PromptError(complain("predictor dimensions", dimensions, "2 or 3"))
        self.name, self.engine, self.dimensions = name, engine, dimensions
        self.prompt_kinds = frozenset(prompt_kinds)
        self.calibration, self.priors = calibration, tuple(priors)
        self.segmenter = segmenter or ZoomSegmenter(network, settings, len(self.priors))
        self.through = ThroughSlices(self.segmenter, self._estimate, propagation)

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
        asked = [(info.object_id, *self._own(state, world.for_object(info.object_id), last.get(info.object_id),
                                             context)) for info in subjects]
        flat = self.dimensions == 2 or state.canonical.is_2d
        answered: dict[int, ObjectPrediction] = {}
        if world.through_slices and flat and not state.canonical.is_2d:
            alone = {n: world.for_object(n) for n, *_ in asked}
            answered = {n: self._carried(state, n, own, last.get(n), context) for n, own in alone.items()
                        if not ObjectPrompts.of(own, state.canonical).empty}
        left = [entry for entry in asked if not entry[1].empty and entry[0] not in answered]
        answered |= (self._slices if flat else self._volumes)(state, left)
        nothing = {"reason": "no positive prompt"}
        answers = [answered[n] if n in answered else ObjectPrediction(
            n, state.source, (0, 0, 0), np.zeros((1, 1, 1), np.float32), 0.0, info=nothing) for n, *_ in asked]
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

    @staticmethod
    def _own(state: EncodedImage, prompts: PromptSet, last: ObjectPrediction | None,
             context: tuple[np.ndarray | None, ...]) -> tuple[ObjectPrompts, ObjectPrompts, ObjectPrompts]:
        """The prompts of one object on the canonical grid, with its last mask if no other is given; what says which
        slices are meant; and the prompts as they were given."""
        own = given = raw = ObjectPrompts.of(prompts, state.canonical).with_context(context)
        if own.prior is None and last is not None:
            probability = state.move.array(last.full_probability())
            own = own.with_prior(probability if (probability >= 0.5).any() else None)
            if "through_slices" not in last.info:
                given = own
        return own, given, raw

    def _carried(self, state: EncodedImage, object_id: int, prompts: PromptSet, last: ObjectPrediction | None,
                 context: tuple[np.ndarray | None, ...]) -> ObjectPrediction:
        """One object, its prompts carried through the slices of a volume."""
        full, estimate, info = self.through(state, prompts, last, context)
        return self._native(state, object_id, (0, 0, 0), full, estimate, info)

    def _volumes(self, state: EncodedImage, objects: Sequence[tuple[int, ObjectPrompts, ObjectPrompts, ObjectPrompts]]
                 ) -> dict[int, ObjectPrediction]:
        """Every object in the volume, one after the other."""
        found = {}
        for object_id, own, *_ in objects:
            look = self.segmenter(state.data, state.canonical.spacing_mm, own, state.hounsfield)
            offset, region = look.window.restore(look.probability, state.data.shape)
            found[object_id] = self._native(state, object_id, offset, region, self._estimate(look.quality),
                                            {"windows": [list(look.history)]})
        return found

    def _slices(self, state: EncodedImage, objects: Sequence[tuple[int, ObjectPrompts, ObjectPrompts, ObjectPrompts]]
                ) -> dict[int, ObjectPrediction]:
        """Every slice that carries a prompt as a 2D image; the objects on a slice share network passes."""
        jobs: dict[tuple[int, int], list[tuple[int, ObjectPrompts]]] = {}
        for object_id, own, given, _ in objects:
            axis = slice_axis(state.canonical, own)
            for index in prompted_slices(given, axis, state.data.shape[axis]):
                part = own.on_slice(axis, index)
                if part.prior is not None and not (part.prior >= 0.5).any():
                    part = part.with_prior(None)
                if not part.empty:
                    jobs.setdefault((axis, index), []).append((object_id, part))
        looks: dict[int, list[tuple[int, int, Look]]] = {object_id: [] for object_id, *_ in objects}
        depth = getattr(self.segmenter, "stack_size", 1)
        for (axis, index), parts in jobs.items():
            answers = self.segmenter.many(state.slice(axis, index, depth), spacing_of(state, axis),
                                          [p for _, p in parts], state.hounsfield)
            for (object_id, _), look in zip(parts, answers):
                looks[object_id].append((axis, index, look))
        return {n: self._stacked(state, n, looks[n], raw) for n, _, _, raw in objects}

    def _stacked(self, state: EncodedImage, object_id: int, seen: Sequence[tuple[int, int, Look]],
                 raw: ObjectPrompts) -> ObjectPrediction:
        """One object's slices ``(axis, index, look)``, all of one axis, as a volume."""
        full = np.zeros(state.data.shape, dtype=np.float32)
        for axis, index, look in seen:
            offset, region = look.window.restore(look.probability, np.delete(state.data.shape, axis))
            np.moveaxis(full, axis, 0)[index][tuple(slice(o, o + n) for o, n in zip(offset, region.shape))] = region
        estimate = self._estimate(float(np.mean([look.quality for _, _, look in seen]))) if seen else 0.0
        info = {"windows": [list(look.history) for _, _, look in seen], PROMPTED: {
            index: (digest(raw.on_slice(axis, index), axis, index), look.quality) for axis, index, look in seen}}
        used = [(index, look.box) for _, index, look in seen if look.box is not None]
        if used:
            info["corrected_box"] = _hull(state, object_id, seen[0][0], used)
        return self._native(state, object_id, (0, 0, 0), full, estimate, info)

    def _estimate(self, raw: float) -> float:
        if self.calibration is None:
            return float(np.clip(raw, 0, 1))
        return float(np.interp(raw, self.calibration["estimated"], self.calibration["dice"]))

    @staticmethod
    def _native(state: EncodedImage, object_id: int, offset: Sequence[int], region: np.ndarray, estimate: float,
                info: Mapping[str, Any]) -> ObjectPrediction:
        """Bring a canonical region back to the image's own axis order."""
        full_low = np.asarray(offset)
        full_high = full_low + region.shape
        native = state.move.inverse_array(region)
        low = [0, 0, 0]
        for axis, (source, flip) in enumerate(zip(state.move.order, state.move.flips)):
            low[source] = int(state.canonical.shape[axis] - full_high[axis] if flip else full_low[axis])
        return ObjectPrediction(object_id, state.source, tuple(low), np.ascontiguousarray(native), estimate, 0.5, info)


def _hull(state: EncodedImage, object_id: int, axis: int,
          used: Sequence[tuple[int, tuple[np.ndarray, np.ndarray]]]) -> Box:
    """One box around those used on slices ``(index, faces)`` across ``axis``, in voxels of the image itself."""
    low = np.insert(np.min([faces[0] for _, faces in used], 0), axis, min(index for index, _ in used) - 0.5)
    high = np.insert(np.max([faces[1] for _, faces in used], 0), axis, max(index for index, _ in used) + 0.5)
    box = Box(tuple(low + 0.5), tuple(high + 0.5), object_id, "voxel")
    return PromptSet((box,)).to_world(state.canonical).to_voxel(state.source).of("box")[0]
