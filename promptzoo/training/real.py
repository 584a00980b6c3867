"""Windows of real images whose licence allows training, mixed into the procedural ones."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import ImageError, PromptZooError, complain
from promptzoo.data.synthesis.procedural import Sample
from promptzoo.evaluation.datalist import Case, Datalist, Row
from promptzoo.evaluation.metrics import bounding_box
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.tissue_window import ct_limits

LICENCE_COLUMN, LICENCE_CLASS = "licence_class", "open"
OWN_CLASS = "own"
"""Licence class of cases that whoever trains has corrected; such weights stay where they were trained."""
FLAT_RATIO = 2.5
"""A stack of slices this much coarser across than within them is only looked at slice by slice in 2D."""
LEAST_PIXELS = {2: 10, 3: 60}
MOST_SHARE = 0.65


@dataclass(eq=False)
class Picture:
    """One image with its masks, in canonical order.

    Args:
        data, spacing: of the image.
        hounsfield: whether its values are Hounsfield units.
        masks: of its objects, on its voxels.
        whole: an object is what its mask says, however many parts it has; else often a part of it is.
    """

    data: np.ndarray
    spacing: np.ndarray
    hounsfield: bool
    masks: list[np.ndarray] = field(default_factory=list)
    whole: bool = False


class OpenRows:
    """Random windows around the objects of a datalist, as :class:`promptzoo.inference.zoom.ZoomSegmenter` would look.

    An image is drawn with a probability that grows with the root of its number of objects, so that one volume with a
    hundred organs does not drown the others.

    Args:
        spatial_dims: 2 takes slices of volumes, 3 takes volumes only.
        datalist: CSV as :class:`promptzoo.evaluation.datalist.Datalist` reads it, with a column ``licence_class``.
        margins: smallest and largest side of a window over the longest side of its object.

    Raises:
        PromptZooError: if no row of licence class ``open`` is there.
    """

    def __init__(self, spatial_dims: int, datalist: str, margins: tuple[float, float] = (1.2, 7.0)) -> None:
        self.dims, self.margins = spatial_dims, margins
        source = Datalist.read(datalist)
        pictures: dict[str, Picture] = {}
        for row in usable_rows(source):
            case = source.load(row)
            if spatial_dims == 3 and min(case.grid.shape) < 8:
                continue
            _add(pictures, str(row.image), case, spatial_dims)
        self._take([p for p in pictures.values() if p.masks])
        if not self.pictures:
            raise PromptZooError(complain(f"rows to train on in {datalist}", 0,
                                          f"segmentation rows of {LICENCE_COLUMN} {LICENCE_CLASS}",
                                          "Leave the datalist out to train on procedural images alone"))

    @classmethod
    def of(cls, pictures: Sequence[Picture], spatial_dims: int, margins: tuple[float, float] = (1.2, 7.0)
           ) -> "OpenRows":
        """Windows of pictures that are in memory."""
        found = cls.__new__(cls)
        found.dims, found.margins = spatial_dims, margins
        found._take(pictures)
        return found

    def _take(self, pictures: Sequence[Picture]) -> None:
        self.pictures = list(pictures)
        weights = np.sqrt([len(p.masks) for p in self.pictures])
        self.chances = weights / max(weights.sum(), 1e-9)

    def sample(self, rng: np.random.Generator, size: int, n_targets: int = 4) -> list[Sample]:
        """``n_targets`` windows of one image: pairs of image float32 in [-1, 1] and mask bool, both ``[*size]``."""
        picture = self.pictures[int(rng.choice(len(self.pictures), p=self.chances))]
        found: list[Sample] = []
        for _ in range(12 * n_targets):
            pair = self._window(picture, rng, size)
            if pair is not None:
                found.append(pair)
            if len(found) == n_targets:
                break
        return found

    def _window(self, picture: Picture, rng: np.random.Generator, size: int) -> Sample | None:
        mask = picture.masks[int(rng.integers(len(picture.masks)))]
        image, spacing = picture.data, picture.spacing
        if self.dims == 2:
            image, mask, spacing = _slice(picture, mask, rng)
        bounds = bounding_box(mask)
        if bounds is None:
            return None
        part = mask[bounds] if picture.whole else _part(mask[bounds], rng)
        if part.sum() < LEAST_PIXELS[self.dims]:
            return None
        mask = np.zeros(mask.shape, dtype=bool)
        mask[bounds] = part
        window = self._around(mask.shape, bounds, spacing, rng, size)
        target = window.sample(mask) >= 0.5
        if target.sum() < LEAST_PIXELS[self.dims] or target.mean() > MOST_SHARE:
            return None
        values = window.sample(image)
        if picture.hounsfield:
            values = np.clip(values, *ct_limits(float(np.median(values[target]))))
        return _turned(_varied(normalise(values), rng), target, rng)

    def _around(self, shape: Sequence[int], bounds: Sequence[slice], spacing: np.ndarray, rng: np.random.Generator,
                size: int) -> Window:
        """A window that shows an object at a random size and place, as a first or a second look would."""
        dims = len(shape)
        low, high = np.array([s.start for s in bounds]) - 0.5, np.array([s.stop for s in bounds]) - 0.5
        extent, whole = (high - low) * spacing, np.asarray(shape) * spacing
        margin = np.exp(rng.uniform(*np.log(self.margins)))
        side = np.full(dims, min(extent.max() * margin, 1.3 * whole.max()))
        side = np.maximum(np.minimum(side, whole * 1.3), side / 4) * np.exp(rng.uniform(-0.12, 0.12, dims))
        room = np.abs(side - extent) / 2
        centre = (low + high) / 2 + rng.uniform(-0.85, 0.85, dims) * room / spacing
        half = side / spacing / 2
        inside = np.clip(centre, -0.5 + half, np.maximum(np.asarray(shape) - 0.5 - half, -0.5 + half))
        return Window.around(inside, side / spacing, (size,) * dims)


def usable_rows(source: Datalist) -> list[Row]:
    """The rows of a datalist that may be trained on: licence class ``open``, or ``own``."""
    return [row for row in source.rows if row.extra.get(LICENCE_COLUMN) in (LICENCE_CLASS, OWN_CLASS)]


def _add(pictures: dict[str, Picture], name: str, case: Case, dims: int) -> None:
    state = EncodedImage.of(case.volume)
    mask = np.ascontiguousarray(state.move.array(case.mask))
    data, spacing = state.data, np.asarray(state.canonical.spacing_mm)
    if case.grid.is_2d:
        if dims == 3:
            return
        axis = int(np.argmin(mask.shape))
        mask, data, spacing = mask.take(0, axis), data.take(0, axis), np.delete(spacing, axis)
    if not mask.any():
        raise ImageError(complain(f"mask of {case.row.id}", "no voxel", "an object"))
    if name not in pictures:
        pictures[name] = Picture(data, spacing, state.hounsfield,
                                 whole=case.row.extra.get(LICENCE_COLUMN) == OWN_CLASS)
    pictures[name].masks.append(mask)


def _slice(picture: Picture, mask: np.ndarray, rng: np.random.Generator
           ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if mask.ndim == 2:
        return picture.data, mask, picture.spacing
    ratio = picture.spacing / np.sort(picture.spacing)[1]
    axis = int(ratio.argmax()) if ratio.max() > FLAT_RATIO or rng.random() < 0.4 else int(rng.integers(3))
    area = mask.sum(tuple(a for a in range(3) if a != axis)).astype(float)
    index = int(rng.choice(len(area), p=area / area.sum()))
    return picture.data.take(index, axis), mask.take(index, axis), np.delete(picture.spacing, axis)


def _part(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask if it is in few parts, else one of them."""
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    if count == 1 or (count <= 4 and rng.random() < 0.25):
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    return parts == 1 + int(rng.choice(count, p=sizes / sizes.sum()))


def _varied(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Other contrast, noise and sharpness; ``[*S]`` in [-1, 1] to the same."""
    value = (image + 1) / 2
    if rng.random() < 0.7:
        value = value ** np.exp(rng.normal(0, 0.35))
    if rng.random() < 0.3:
        value = 1 - value
    if rng.random() < 0.3:
        value = ndimage.gaussian_filter(value, rng.uniform(0.4, 1.2))
    if rng.random() < 0.5:
        value = value + rng.standard_normal(value.shape).astype(np.float32) * rng.uniform(0.01, 0.1)
    if rng.random() < 0.3:
        low, high = rng.uniform(0, 0.2), rng.uniform(0.8, 1.0)
        value = (value - low) / (high - low)
    return (np.clip(value, 0, 1) * 2 - 1).astype(np.float32)


def _turned(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Sample:
    order = rng.permutation(image.ndim)
    flips = tuple(int(a) for a in np.flatnonzero(rng.random(image.ndim) < 0.5))
    image, mask = np.flip(image.transpose(order), flips), np.flip(mask.transpose(order), flips)
    return np.ascontiguousarray(image), np.ascontiguousarray(mask)
