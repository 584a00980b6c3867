"""Prompts read off the maps of a head: boxes, points, centres, masks and edges, one candidate per object.

All positions are continuous ``(row, column)`` pixels of the network window; the maps have one cell per
:data:`promptzoo.networks.auto_prompt.HEAD_STRIDE` pixels. Sources of the single rules are at the functions.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import numpy as np
from scipy import ndimage
from skimage.filters import apply_hysteresis_threshold
from skimage.segmentation import watershed

from promptzoo.core.errors import BundleError, complain
from promptzoo.core.geometry import box_iou
from promptzoo.inference.auto_maps import NO_POINTS, Candidate, HeadMaps, centre_cells, peaks, to_pixels
from promptzoo.inference.persistence import persistent_peaks


@dataclass(frozen=True)
class AutoPrompt:
    """How prompts are read off the maps.

    Args:
        source: one of :data:`SOURCES`.
        threshold: foreground probability from which a cell counts as object.
        sure: probability that an object reaches somewhere; what does not is left out (hysteresis threshold).
        confident: foreground probability of confident object; below ``1 - confident`` is confident background.
        centre: least probability of a centre.
        apart: least distance of two centres, see :func:`promptzoo.inference.auto_maps.centre_cells`.
        margin: added to each face of a box, as a fraction of its side.
        points: positive points per object where a source takes several, and negative ones.
        split: whether components are parted where they are narrow, so that touching objects get a box each.
        with_point, with_mask: whether box sources also give the central point, or the coarse mask.
        persistence: least topological persistence of a point, in standard deviations of the smoothed window.
        loops: how often the own mask is fed back as a prompt.
        overlap: of two answers that share this much of the smaller one, the less certain is dropped.
        agreement: least mean foreground probability within an answer.
        least_pixels: smallest answer, in image pixels.

    Raises:
        BundleError: for an unknown source or numbers that make no sense.
    """

    source: str = "detector"
    threshold: float = 0.5
    sure: float = 0.92
    confident: float = 0.9
    centre: float = 0.3
    apart: float = 0.0
    margin: float = 0.05
    points: int = 3
    split: bool = False
    with_point: bool = False
    with_mask: bool = False
    persistence: float = 0.25
    loops: int = 0
    overlap: float = 0.5
    agreement: float = 0.4
    least_pixels: int = 12

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise BundleError(complain("source of automatic prompts", self.source, ", ".join(SOURCES)))
        shares = (self.threshold, self.sure, self.confident, self.centre, self.overlap, self.agreement)
        if not all(0 <= share <= 1 for share in shares) or self.confident < 0.5 or self.points < 1 or min(
                self.margin, self.apart, self.persistence, self.loops, self.least_pixels) < 0:
            raise BundleError(complain("settings of automatic prompts", str(self), "shares from 0 to 1, confident from "
                                       "0.5, at least one point, no negative number"))


def objects_of(maps: HeadMaps, settings: AutoPrompt) -> np.ndarray:
    """Cells ``[h, w]`` bool that count as objects: above the threshold, and connected to a sure one."""
    return apply_hysteresis_threshold(maps.foreground, settings.threshold, max(settings.sure, settings.threshold))


def boxes_of_components(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """Boxes with a margin around the connected components of the thresholded foreground.

    Xie et al., "Self-Prompt SAM", arXiv 2502.00630: boxes of auxiliary masks and the most central point by distance
    transform (``with_point``). Sridhar et al., "LuSAM", 2023: box and mask (``with_mask``).
    """
    labels = _parted(maps, settings)[0] if settings.split else ndimage.label(objects_of(maps, settings))[0]
    return _from_regions(labels, maps, settings)


def deepest_points(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """One point per object, where it is deepest: the sparsest prompt (Shaharabany, "ZeroShotSAM", 2024)."""
    return [replace(candidate, positive=candidate.at[None]) for candidate, _ in _regions(maps, settings)]


def confident_points(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """Positive points where the foreground is confident, negative ones where background is, near the border.

    Na et al., "Segment Any Cell", arXiv 2401.13220: points sampled from an auxiliary network's sigmoid map by two
    thresholds; here the points are spread evenly, so that the same image always gives the same ones.
    """
    found = []
    outside = maps.foreground <= 1 - settings.confident
    for candidate, region in _regions(maps, settings):
        sure = region & (maps.foreground >= settings.confident)
        ring = ndimage.binary_dilation(region, iterations=4) & outside
        positive, negative = (_spread(part, settings.points) for part in (sure, ring))
        if len(positive):
            found.append(replace(candidate, positive=to_pixels(positive), negative=to_pixels(negative)))
    return found


def centres(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """One point per predicted centre (Li et al., "CenterSAM", 2024)."""
    return [Candidate(float(maps.centre[tuple(cell)]), to_pixels(cell), to_pixels(cell)[None])
            for cell in centre_cells(maps, settings.centre, settings.apart)]


def detector_boxes(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """Boxes of the head's detections, after suppression of those that overlap a surer one.

    Xia et al., "Cervical-YOSA", 2024: a detector's boxes prompt SAM. Yin et al., "APG-SAM", 2025: boxes and points
    (``with_point``). The detector is CenterNet's: a centre and the sides predicted there.
    """
    found: list[Candidate] = []
    for cell in centre_cells(maps, settings.centre, settings.apart):
        half = maps.size[(slice(None), *cell)] * (0.5 + settings.margin)
        at = to_pixels(cell)
        box = (at - half, at + half)
        if any(other.box is not None and box_iou(box, other.box) > settings.overlap for other in found):
            continue
        point = at[None] if settings.with_point else NO_POINTS
        found.append(Candidate(float(maps.centre[tuple(cell)]), at, point, box=box))
    return found


def dense_map(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """The map of confident foreground, of all objects at once, as the mask prompt (Chen et al., "UN-SAM", 2025)."""
    sure = maps.foreground >= settings.confident
    if not sure.any():
        return []
    at = to_pixels(np.argwhere(sure).mean(0))
    return [Candidate(float(maps.foreground[sure].mean()), at, mask=sure, whole=True)]


def uncertain_edges(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """Points on both sides of the most uncertain stretches of an object's border, and the coarse mask.

    Zhao et al., "Uncertainty-driven edge prompt generation", 2025 (title and abstract only are known to us): uncertain
    border zones become prompts. Here: in each of ``points`` sectors around the object the cell of largest entropy of
    the foreground, and the nearest confident object and background beside it.
    """
    found = []
    doubt = maps.foreground * (1 - maps.foreground)
    sides = [ndimage.distance_transform_edt(~part, return_distances=False, return_indices=True) for part in
             (maps.foreground >= settings.confident, maps.foreground <= 1 - settings.confident)]
    for candidate, region in _regions(maps, settings):
        core = ndimage.binary_erosion(region, iterations=2)
        zone = np.argwhere(ndimage.binary_dilation(region, iterations=2) & ~core)
        middle = np.argwhere(region).mean(0)
        angle = np.arctan2(*(zone - middle).T)
        sector = ((angle + np.pi) / (2 * np.pi + 1e-9) * settings.points).astype(int)
        chosen = [part[np.argmax(doubt[tuple(part.T)])] for part in (zone[sector == n] for n in range(settings.points))
                  if len(part)]
        pairs = [np.unique([index[(slice(None), *cell)] for cell in chosen], axis=0) for index in sides]
        inside = pairs[0][region[tuple(pairs[0].T)]]
        if len(inside):
            found.append(replace(candidate, positive=to_pixels(inside), negative=to_pixels(pairs[1]), mask=region))
    return found


def topological_points(maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    """Points of topological significance in the image itself; the head only says which of them are of the class.

    Glatt and Liu, "Topological data analysis guided Segment Anything Model prompt optimization", arXiv 2306.17400:
    persistent features of the image replace SAM's grid of points. Extrema of the smoothed window are kept by their
    0-dimensional persistence, maxima or minima, whichever lie better in the foreground.
    """
    inside, smooth = objects_of(maps, settings), ndimage.gaussian_filter(maps.view, 1.5)
    scale = max(float(smooth.std()), 1e-6)
    ways = []
    for sign in (1.0, -1.0):
        found = [(cell, value) for cell, value in persistent_peaks(sign * smooth / scale, settings.persistence)
                 if inside[cell]]
        ways.append([Candidate(float(maps.foreground[cell]) * min(1.0, value), to_pixels(cell), to_pixels(cell)[None])
                     for cell, value in found])
    bright = not inside.any() or inside.all() or smooth[inside].mean() >= smooth[~inside].mean()
    return ways[0] if bright else ways[1]


SOURCES: dict[str, Callable[[HeadMaps, AutoPrompt], list[Candidate]]] = {
    "components": boxes_of_components, "points": confident_points, "deepest": deepest_points, "centre": centres,
    "detector": detector_boxes, "dense": dense_map, "edge": uncertain_edges, "topology": topological_points}
"""Names of the sources in configurations."""


def _from_regions(labels: np.ndarray, maps: HeadMaps, settings: AutoPrompt) -> list[Candidate]:
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        region = np.pad(labels[place] == number, 1)
        score = float(maps.foreground[place][region[1:-1, 1:-1]].mean())
        deepest = np.unravel_index(np.argmax(ndimage.distance_transform_edt(region)), region.shape)
        corner = np.array([s.start for s in place])
        low, high = corner - 0.5, np.array([s.stop for s in place]) - 0.5
        grow = settings.margin * (high - low)
        at = to_pixels(corner + np.array(deepest) - 1)
        mask = labels == number if settings.with_mask else None
        found.append(Candidate(score, at, at[None] if settings.with_point else NO_POINTS,
                               box=(to_pixels(low - grow), to_pixels(high + grow)), mask=mask))
    return found


def _regions(maps: HeadMaps, settings: AutoPrompt) -> list[tuple[Candidate, np.ndarray]]:
    """Foreground parted where it is narrow: a bare candidate, at the deepest cell, and its region ``[h, w]`` bool."""
    labels, cells = _parted(maps, settings)
    regions = [labels == number for number in range(1, len(cells) + 1)]
    return [(Candidate(float(maps.foreground[region].mean()), to_pixels(cell)), region)
            for cell, region in zip(cells, regions)]


def _parted(maps: HeadMaps, settings: AutoPrompt) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[h, w]`` of the foreground's parts, and the deepest cell ``[n, 2]`` of each.

    Watershed of the smoothed distance to the background from its peaks, the usual way to part touching nuclei.
    """
    inside = objects_of(maps, settings)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1], 1.0)
    cells = peaks(np.where(inside, depth, 0.0), 0.5)
    markers = np.zeros(inside.shape, np.int32)
    markers[tuple(cells.T)] = np.arange(1, len(cells) + 1)
    return watershed(-depth, markers, mask=inside), cells


def _spread(region: np.ndarray, count: int) -> np.ndarray:
    """Up to ``count`` cells ``[n, 2]`` of a region far from each other, the one nearest its middle first."""
    cells = np.argwhere(region)
    if not len(cells):
        return NO_POINTS
    chosen = [cells[np.argmin(((cells - cells.mean(0)) ** 2).sum(1))]]
    while len(chosen) < min(count, len(cells)):
        gap = np.min([((cells - one) ** 2).sum(1) for one in chosen], 0)
        chosen.append(cells[np.argmax(gap)])
    return np.array(chosen)
