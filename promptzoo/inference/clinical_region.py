"""Region prompts from a liver segment: its superpixels that stand out become prompts of a promptable network.

Lyu et al., "Superpixel-guided Segment Anything Model for liver tumor segmentation with Couinaud segment prompt",
MICCAI workshops 2024; only the title is known here. So: the segment's region is found, superpixels (SLIC: Achanta et
al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 2012) that lie in it and differ from
the rest of the liver are joined, and boxes around them ask a SAM-like network.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage
from skimage.segmentation import slic

from promptzoo.core.protocols import ObjectPrediction
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.clinical import SEGMENTS
from promptzoo.inference.clinical import Ask, ClinicalPredictor
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import Box, PromptSet
from promptzoo.text.records import chances_of

SEGMENT, LESION = "liver segment", "liver lesion"


@dataclass(frozen=True)
class RegionSettings:
    """How a segment becomes prompts.

    Args:
        superpixels: number of superpixels of the image.
        least_contrast: difference of a superpixel's mean from the segment's median, in robust deviations of the liver,
            from which it stands out.
        least_inside: share of a superpixel that lies in the segment.
        margin: pixels added around a box.
        most: boxes at most, the largest first.
    """

    superpixels: int = 500
    least_contrast: float = 2.0
    least_inside: float = 0.5
    margin: float = 1.0
    most: int = 4


class RegionPredictor(ClinicalPredictor):
    """Lesions of a liver segment by a promptable bundle; everything else as :class:`ClinicalPredictor`.

    Args:
        promptable: a predictor that takes boxes.
        settings: how a segment becomes prompts.
        others: see :class:`ClinicalPredictor`.
    """

    def __init__(self, promptable: Any, settings: RegionSettings, *others: Any, **named: Any) -> None:
        super().__init__(*others, **named)
        self.promptable, self.settings = promptable, settings
        self._pictures: WeakKeyDictionary[EncodedImage, Any] = WeakKeyDictionary()
        self._parts: WeakKeyDictionary[EncodedImage, Any] = WeakKeyDictionary()

    def chance(self, state: EncodedImage, ask: Ask) -> np.ndarray:
        """Probabilities of what a record asks for, on the image's own grid, float32."""
        if ask.target != LESION:
            return super().chance(state, ask)
        boxes = self.boxes(state, ask)
        full = np.zeros(state.source.shape, np.float32)
        if boxes:
            answer = self.promptable.decode(self._promptable_state(state), PromptSet(tuple(
                replace(box, object_id=n + 1) for n, box in enumerate(boxes))))
            inside = self.region(state, ask.shown["segment"]) >= 0.3
            for one in answer.objects:
                full = np.maximum(full, one.full_probability() * inside)
        return full

    def region(self, state: EncodedImage, segment: str) -> np.ndarray:
        """Probability of a segment's region, on the image's own grid."""
        chances = {"segment": chances_of("segment", segment)}
        return super().chance(state, Ask(SEGMENT, chances, {"segment": segment}, frozenset()))

    def main_segment(self, state: EncodedImage) -> str:
        """The segment with the largest part of what stands out; as the base class where nothing does."""
        inside, parts, out = self._standing_out(state)
        sizes = [int((out[n][parts] & one).sum()) for n, one in enumerate(inside)]
        return SEGMENTS[int(np.argmax(sizes))] if max(sizes) else super().main_segment(state)

    def _standing_out(self, state: EncodedImage) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The segments ``[8, *N]`` bool on the image's slice, its superpixels ``[*N]``, and which of these stand out
        in each segment ``[8, superpixels]``; kept as long as the encoded image."""
        if state in self._parts:
            return self._parts[state]
        settings = self.settings
        inside = np.stack([np.squeeze(self.region(state, n)) >= 0.5 for n in SEGMENTS])
        image = np.squeeze(state.move.inverse_array(state.data)).astype(np.float32)
        low, high = np.percentile(image, (0.5, 99.5))
        shown = np.clip((ndimage.gaussian_filter(image, 0.7) - low) / max(high - low, 1e-6), 0, 1)
        parts = slic(shown, settings.superpixels, 0.06, channel_axis=None, start_label=0)
        every = np.arange(parts.max() + 1)
        liver = inside.any(0)
        out = np.zeros((len(SEGMENTS), len(every)), bool)
        if liver.any():
            median = float(np.median(image[liver]))
            spread = 1.4826 * float(np.median(np.abs(image[liver] - median))) + 1e-6
            apart = np.abs(ndimage.mean(image, parts, every) - median) >= settings.least_contrast * spread
            out = np.stack([ndimage.mean(one, parts, every) >= settings.least_inside for one in inside]) & apart
        self._parts[state] = inside, parts, out
        return self._parts[state]

    def boxes(self, state: EncodedImage, ask: Ask) -> list[Box]:
        """Boxes around the superpixels of a segment that stand out, in voxels of the image, largest first."""
        inside, parts, out = self._standing_out(state)
        n = SEGMENTS.index(ask.shown["segment"])
        labels, found = ndimage.label(out[n][parts] & inside[n])
        if not found:
            return []
        sizes, margin = np.bincount(labels.ravel())[1:], self.settings.margin
        axis, boxes, places = int(np.argmin(state.source.shape)), [], ndimage.find_objects(labels)
        for part in np.argsort(-sizes)[:self.settings.most]:
            faces = [(max(0.0, place.start - margin), min(float(size), place.stop + margin))
                     for place, size in zip(places[int(part)], labels.shape)]
            faces.insert(axis, (0.0, 1.0))
            low, high = (tuple(face[side] for face in faces) for side in (0, 1))
            boxes.append(Box(low, high, 1, "voxel"))  # type: ignore[arg-type]
        return boxes

    def _promptable_state(self, state: EncodedImage) -> Any:
        if state not in self._pictures:
            volume = Volume(np.ascontiguousarray(state.move.inverse_array(state.data)), state.source)
            self._pictures[state] = self.promptable.encode(volume)
        return self._pictures[state]

    def _answer(self, state: EncodedImage, object_id: int, ask: Ask, prompts: PromptSet) -> ObjectPrediction:
        """As the base class; boxes that asked the promptable network are in ``info["boxes"]``."""
        answer = super()._answer(state, object_id, ask, prompts)
        if ask.target != LESION:
            return answer
        boxes = [{"low": box.low, "high": box.high} for box in self.boxes(state, ask)]
        return replace(answer, info={**answer.info, "boxes": json.loads(json.dumps(boxes))})
