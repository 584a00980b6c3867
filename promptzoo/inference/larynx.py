"""Vocal folds from a glottis that is found by itself: the recipe, without a network.

Zhang, Song et al., "Vocal fold segmentation ... prompt engineering for the Segment Anything Model", Frontiers 2025
(abstract): the glottis, its contrast raised and its gaps closed, gives a box prompt, and local extrema of the first
derivative of grey levels along lines across the glottis give point prompts; no fold was labelled for training. There a
U-Net finds the glottis and YOLO the larynx; here the glottis is the darkest closed slit within the field of view.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

LEAST_CONTRAST = 0.2
"""How much darker than its rim a glottis is, as a share of the image's range."""

LINES, REACH = 9, 0.9
"""Lines across a glottis, and how far they look, in lengths of the glottis."""


@dataclass(frozen=True, eq=False)
class FoldPrompts:
    """Prompts for one vocal fold, in image indices.

    Args:
        box: faces ``(low, high)``, ``[2]`` each.
        positive: clicks ``[n, 2]`` on the fold.
        negative: clicks ``[n, 2]`` in the glottis.
    """

    box: tuple[np.ndarray, np.ndarray]
    positive: np.ndarray
    negative: np.ndarray


def find_glottis(image: np.ndarray) -> np.ndarray | None:
    """The glottis on a frame ``[H, W]``, ``[H, W]`` bool; None if nothing looks like one."""
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    smooth = ndimage.gaussian_filter(grey, max(image.shape) / 200)
    if len(np.unique(smooth)) < 3:
        return None
    dark, _ = threshold_multiotsu(smooth, 3)
    seen = convex_hull_image(smooth > dark)
    seen = ndimage.binary_erosion(seen, iterations=max(2, min(image.shape) // 40))
    slits, count = ndimage.label(ndimage.binary_closing(seen & (smooth < dark), iterations=2) & seen)
    centre, best, chosen = np.argwhere(seen).mean(0) if seen.any() else np.zeros(2), 0.0, None
    for region in regionprops(slits) if count else []:
        mask = slits == region.label
        grown = ndimage.binary_dilation(mask, iterations=3)
        if region.area < 0.001 * image.size or (grown & ~seen).any():
            continue
        contrast = smooth[grown & ~mask].mean() - smooth[mask].mean()
        length = region.axis_major_length / max(region.axis_minor_length, 1.0)
        away = np.linalg.norm(np.asarray(region.centroid) - centre) / max(image.shape)
        score = contrast * min(length, 3.0) * np.exp(-(away / 0.25) ** 2)
        if contrast >= LEAST_CONTRAST and length > 1.3 and score > best:
            best, chosen = score, ndimage.binary_fill_holes(mask)
    return chosen


def fold_prompts(image: np.ndarray, glottis: np.ndarray) -> list[FoldPrompts]:
    """Prompts for the folds on both sides of a glottis, fewer where no edge is found.

    Args:
        image: ``[H, W]``.
        glottis: ``[H, W]`` bool.
    """
    at = np.argwhere(glottis).astype(float)
    centre = at.mean(0)
    axis = np.linalg.svd(at - centre, full_matrices=False)[2][0]
    normal = np.array([-axis[1], axis[0]])
    place = (at - centre) @ axis
    length = float(np.ptp(place)) + 1
    smooth, found = ndimage.gaussian_filter(image.astype(float), 1.5), []
    for sign in (-1, 1):
        inner, outer, middle = [], [], []
        for share in np.linspace(0.12, 0.88, LINES):
            foot = centre + axis * (place.min() + share * length)
            steps = np.arange(0, REACH * length)
            line = foot + sign * steps[:, None] * normal
            inside = glottis[tuple(np.clip(np.rint(line).astype(int), 0, np.array(image.shape) - 1).T)]
            start = int(np.flatnonzero(inside)[-1]) + 1 if inside.any() else 0
            slope = np.diff(ndimage.map_coordinates(smooth, line.T, order=1, mode="nearest"))
            rise = start + int(np.argmax(slope[start:start + 6])) if len(slope) > start + 8 else start
            falls = slope[rise + 3:int(rise + 0.5 * length)]
            if not len(falls) or falls.min() >= 0:
                continue
            end = rise + 3 + int(np.argmin(falls))
            inner.append(line[start])
            outer.append(line[end])
            middle.append(line[(start + end) // 2])
        if len(inner) < 3:
            continue
        depth = np.linalg.norm(np.array(outer) - inner, axis=1)
        usual = np.abs(depth - np.median(depth)) <= 0.5 * np.median(depth)
        ends = centre + axis * np.array([place.min(), place.max()])[:, None]
        hull = np.concatenate([np.array(inner)[usual], np.array(outer)[usual], ends])
        box = (np.clip(hull.min(0) - 0.5, -0.5, None), np.minimum(hull.max(0) + 0.5, np.array(image.shape) - 0.5))
        clicks = np.array(middle)[usual]
        found.append(FoldPrompts(box, clicks[np.linspace(0, len(clicks) - 1, 3).round().astype(int)],
                                 centre[None] + axis * np.array([[-0.2], [0.2]]) * length))
    return found
