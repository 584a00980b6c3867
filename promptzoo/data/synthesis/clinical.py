"""Procedural images whose masks are decided by a record beside the image: grade, segment, slice position, request.

Four kinds of study are drawn. In each, images that look alike have different masks under different records, so that a
network that ignores the record cannot be right. Arrays are in canonical order ``[x, y]``: the first axis grows to the
patient's right, the second to the front; slides have no orientation.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator

STUDIES = ("brain tumour MR", "liver CT", "abdomen MR", "kidney biopsy")
TARGETS: Mapping[str, tuple[str, ...]] = {
    "brain tumour MR": ("whole tumour", "tumour core", "enhancing tumour"),
    "liver CT": ("liver lesion", "liver segment"),
    "abdomen MR": ("stomach", "small bowel", "large bowel"),
    "kidney biopsy": ("glomerulus", "glomerular tuft", "nuclei", "tubules")}
"""What can be asked for in each study; the first is what is asked for if nothing is said."""
GRADES = ("low", "high")
SEGMENTS = tuple("12345678")
POSITIONS = 8
"""Steps of the slice position, from 0 (uppermost slice) to 1."""


@dataclass(frozen=True, eq=False)
class ClinicalScene:
    """An image and what its record decides.

    Args:
        image: ``[S, S]`` float32.
        study: one of :data:`STUDIES`.
        record: the true values: ``grade``, ``segment`` (of the largest lesion) or ``position`` (0 to 1, as text).
        layers: masks ``[S, S]`` bool that :meth:`truth` puts together.
        clicks: for slides, the label map ``[S, S]`` of parts that a click may choose; 0 is none of them.
    """

    image: np.ndarray
    study: str
    record: Mapping[str, str]
    layers: Mapping[str, np.ndarray]
    clicks: np.ndarray | None = field(default=None)

    def truth(self, target: str, record: Mapping[str, str] | None = None, click: tuple[int, int] | None = None
              ) -> np.ndarray:
        """The mask ``[S, S]`` of a target under a record; without a segment, in all of them.

        Args:
            target: one of :data:`TARGETS` of the study.
            record: values that replace the true ones.
            click: pixel of the part that is meant; slides only.
        """
        told = {**self.record, **(record or {})}
        mask = _TRUTHS[self.study](self.layers, target, told)
        if click is None or self.clicks is None:
            return mask
        chosen = self.clicks[click]
        return mask & (self.clicks == chosen) if chosen else mask & False


def _brain_truth(layers: Mapping[str, np.ndarray], target: str, record: Mapping[str, str]) -> np.ndarray:
    """In a high grade the halo is oedema and the rim enhances; in a low grade all of it is tumour, nothing enhances."""
    high = record["grade"] == "high"
    if target == "enhancing tumour":
        return layers["rim"] & high
    return layers["solid"] if target == "tumour core" and high else layers["halo"]


def _liver_truth(layers: Mapping[str, np.ndarray], target: str, record: Mapping[str, str]) -> np.ndarray:
    inside = layers["segments"] == int(record["segment"]) if record["segment"] else layers["segments"] > 0
    return inside if target == "liver segment" else layers["lesions"] & inside


def _abdomen_truth(layers: Mapping[str, np.ndarray], target: str, record: Mapping[str, str]) -> np.ndarray:
    """Which organ a loop belongs to follows from its place in the slice and from the slice's position."""
    found = np.zeros_like(layers["left flank"])
    for place, mask in layers.items():
        found |= mask & (organ_at(place, float(record["position"])) == target)
    return found


def _slide_truth(layers: Mapping[str, np.ndarray], target: str, record: Mapping[str, str]) -> np.ndarray:
    return layers[target]


_TRUTHS: Mapping[str, Callable[[Mapping[str, np.ndarray], str, Mapping[str, str]], np.ndarray]] = {
    STUDIES[0]: _brain_truth, STUDIES[1]: _liver_truth, STUDIES[2]: _abdomen_truth, STUDIES[3]: _slide_truth}

PLACES = ("left flank", "right flank", "front", "centre")


def organ_at(place: str, position: float) -> str:
    """The hollow organ that lies at a place of an abdominal slice at a position; empty for none."""
    if position < 0.4:
        return {"left flank": "stomach", "front": "stomach"}.get(place, "")
    if place in ("left flank", "right flank"):
        return "large bowel"
    return "large bowel" if place == "front" and position < 0.7 else "small bowel"


def clinical(rng: np.random.Generator, size: int = 160, study: str | None = None) -> ClinicalScene:
    """A scene.

    Args:
        rng: source of all draws.
        size: side of the image in pixels.
        study: one of :data:`STUDIES`; None for a drawn one.
    """
    from promptzoo.data.synthesis import clinical_body, clinical_brain, clinical_slide

    study = study or STUDIES[int(rng.integers(len(STUDIES)))]
    draw = dict(zip(STUDIES, (clinical_brain.brain, clinical_body.liver, clinical_body.abdomen, clinical_slide.slide)))
    return draw[study](rng, size)


class Canvas:
    """Coordinates, noise and soft shapes on a square.

    Args:
        rng: source of all draws.
        size: side in pixels; coordinates go from -1 to 1.
    """

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        line = np.linspace(-1, 1, size, dtype=np.float32)
        turn, zoom = rng.uniform(-0.12, 0.12), rng.uniform(0.9, 1.15)
        shift = rng.uniform(-0.08, 0.08, 2)
        x, y = np.meshgrid(line, line, indexing="ij")
        bend = 0.03
        self.x = ((x * np.cos(turn) - y * np.sin(turn)) - shift[0]) * zoom + bend * self.noise(0.35)
        self.y = ((y * np.cos(turn) + x * np.sin(turn)) - shift[1]) * zoom + bend * self.noise(0.35)

    def noise(self, grain: float) -> np.ndarray:
        """Smooth noise ``[S, S]`` of deviation 1; ``grain`` is in coordinates."""
        count = max(3, int(np.ceil(2 / grain)) + 2)
        coarse = self.rng.standard_normal((count, count))
        field_ = ndimage.zoom(coarse, self.size / count, order=1, grid_mode=True, mode="nearest")
        return (field_[:self.size, :self.size] / max(float(field_.std()), 1e-6)).astype(np.float32)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> np.ndarray:
        """Distance in radii ``[S, S]``: below 1 inside."""
        a, b = self.x - centre[0], self.y - centre[1]
        a, b = a * np.cos(turn) + b * np.sin(turn), b * np.cos(turn) - a * np.sin(turn)
        return np.hypot(a / radii[0], b / radii[1])

    def ragged(self, distance: np.ndarray, amount: float, grain: float) -> np.ndarray:
        """A distance with an uneven border."""
        return distance + amount * self.noise(grain)

    def finished(self, image: np.ndarray, noise: float = 0.03) -> np.ndarray:
        """The image blurred, noisy, with a bias field and another contrast, float32."""
        value = ndimage.gaussian_filter(image, self.rng.uniform(0.3, 0.9))
        value = value * (1 + self.rng.uniform(0, 0.12) * self.noise(1.0))
        value = value + self.rng.uniform(0.3, 1.0) * noise * self.rng.standard_normal(value.shape)
        return (np.clip(value, 0, 1.5) ** np.exp(self.rng.normal(0, 0.15))).astype(np.float32)


def soft(distance: np.ndarray, edge: float = 0.08) -> np.ndarray:
    """From a distance to a share: 1 well below 1, 0 well above."""
    return 1 / (1 + np.exp(np.clip((distance - 1) / edge, -30, 30)))


def scenes(count: int, study: str, size: int = 160, seed: int = 880_017) -> list[ClinicalScene]:
    """Scenes of one study; no training uses the default seed."""
    return [clinical(generator(seed, n), size, study) for n in range(count)]
