"""Prompt channels of early-fusion networks, drawn in the pixels of a network window.

Training and inference draw with the same function, so a prompt looks the same to the network in both. Disks and
Gaussians of clicks follow the interactive-segmentation literature (disk maps: Benenson et al., CVPR 2019; click maps
fed with the previous mask: Sofiiuk et al., RITM, ICIP 2022); the box-shape channel is ours: the ellipsoid inscribed in
the box, as a shape prior that a network would otherwise have to learn. The appearance channels say how common an
intensity is among the prompted pixels (histograms of seeds as in Boykov and Jolly, ICCV 2001): comparing far-away
pixels with a click is a product of two inputs, which a convolutional network learns very slowly from the raw image.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from promptzoo.core.errors import PromptError, complain

PROMPT_CHANNELS = ("previous", "point+", "point-", "box", "box_shape", "reach", "scribble+", "scribble-", "lasso",
                   "like+", "like_coarse+", "like-")
"""Order of the prompt channels; the image comes before them as the first input channel."""

POINT_SIGMA_PX = 2.0
APPEARANCE_BINS = 32
APPEARANCE_SIGMA_BINS = 1.5
APPEARANCE_FILTERS_PX = (3, 7)
"""Sides of the mean filters under which intensities are compared: fine (noise) and coarse (texture)."""

REACH_SIGMA_FRAC = 0.14
"""Standard deviation of the wide click field, as a fraction of the window side."""


def _empty(dims: int) -> np.ndarray:
    return np.zeros((0, dims), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class WindowPrompts:
    """Prompts of one object in continuous pixel indices of a window (pixel centres at integers).

    Args:
        dims: 2 or 3.
        positive, negative: clicks ``[n, dims]``.
        box: ``(low, high)`` continuous faces of the box (a box over pixels 3 and 4 has faces 2.5 and 4.5), or None.
        scribble_positive, scribble_negative: samples of strokes ``[n, dims]``.
        lasso: region enclosed by lassos as a window array in [-1, 1] (negative lassos are -1), or None.
        previous: probability of the previous mask as a window array, or None.
    """

    dims: int
    positive: np.ndarray | None = None
    negative: np.ndarray | None = None
    box: tuple[np.ndarray, np.ndarray] | None = None
    scribble_positive: np.ndarray | None = None
    scribble_negative: np.ndarray | None = None
    lasso: np.ndarray | None = None
    previous: np.ndarray | None = field(default=None)


def prompt_maps(prompts: WindowPrompts, image: np.ndarray) -> np.ndarray:
    """Draw all prompt channels.

    Args:
        prompts: prompts in window pixels.
        image: the window ``[H, W]`` or ``[D, H, W]``, intensities in [-1, 1].

    Returns:
        ``[12, *image.shape]`` float32 in the order of :data:`PROMPT_CHANNELS`; all values in [-1, 1].

    Raises:
        PromptError: if the window's dimension does not fit the prompts or a dense prompt does not fit the window.
    """
    shape = image.shape
    if len(shape) != prompts.dims:
        raise PromptError(complain("window dimension", len(shape), str(prompts.dims)))
    maps = np.zeros((len(PROMPT_CHANNELS), *shape), dtype=np.float32)
    for channel, dense in ((0, prompts.previous), (8, prompts.lasso)):
        if dense is not None:
            if dense.shape != tuple(shape):
                raise PromptError(complain("dense prompt does not fit the window", list(dense.shape), str(shape)))
            maps[channel] = dense
    reach_sigma = REACH_SIGMA_FRAC * max(shape)
    for channel, points, sign in ((1, prompts.positive, 1.0), (2, prompts.negative, -1.0)):
        if points is None or len(points) == 0:
            continue
        wide = np.zeros(shape, dtype=np.float32)
        for point in points:
            _max_gaussian(maps[channel], point, POINT_SIGMA_PX)
            _max_gaussian(wide, point, reach_sigma)
        maps[5] += sign * wide
    if prompts.box is not None:
        maps[3], maps[4] = _box_maps(*prompts.box, shape)
    for channel, strokes in ((6, prompts.scribble_positive), (7, prompts.scribble_negative)):
        if strokes is not None and len(strokes):
            _draw_stroke(maps[channel], strokes)
    _appearance(maps, image, prompts.box is not None)
    return maps


def _appearance(maps: np.ndarray, image: np.ndarray, boxed: bool) -> None:
    """Fill the three appearance channels from the prompt channels drawn so far (in place)."""
    inside = [maps[1] > 0.7, maps[6] >= 1]
    if not any(seed.any() for seed in inside):
        inside = [maps[8] > 0.5, (maps[4] > 0.5) if boxed else np.zeros(image.shape, bool)]
    outside = [maps[2] > 0.7, maps[7] >= 1, (maps[3] < 0.01) if boxed else np.zeros(image.shape, bool)]
    for size, channels in zip(APPEARANCE_FILTERS_PX, (((9, inside), (11, outside)), ((10, inside),))):
        seeds = [(channel, [s for s in kinds if s.any()]) for channel, kinds in channels]
        if not any(kinds for _, kinds in seeds):
            continue
        even = ndimage.uniform_filter(image, size, mode="nearest")
        bins = np.clip((even + 1) * (APPEARANCE_BINS / 2), 0, APPEARANCE_BINS - 1).astype(np.intp)
        for channel, kinds in seeds:
            share = np.zeros(APPEARANCE_BINS)
            for seed in kinds:
                counts = np.bincount(bins[seed], minlength=APPEARANCE_BINS)
                share += counts / counts.sum()
            share = ndimage.gaussian_filter1d(share, APPEARANCE_SIGMA_BINS, mode="constant")
            if share.max() > 0:
                maps[channel] = (share / share.max()).astype(np.float32)[bins]


def _max_gaussian(target: np.ndarray, centre: np.ndarray, sigma: float) -> None:
    """Raise ``target`` to an isotropic Gaussian of peak 1 at ``centre`` (in place; cut at 3 sigma)."""
    slices, factors = [], []
    for axis, size in enumerate(target.shape):
        low = int(max(0, np.floor(centre[axis] - 3 * sigma)))
        high = int(min(size, np.ceil(centre[axis] + 3 * sigma) + 1))
        if low >= high:
            return
        factor = np.exp(-((np.arange(low, high, dtype=np.float32) - centre[axis]) ** 2) / (2 * sigma * sigma))
        slices.append(slice(low, high))
        factors.append(factor.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(target.ndim)]))
    patch = factors[0]
    for factor in factors[1:]:
        patch = patch * factor
    view = target[tuple(slices)]
    np.maximum(view, patch, out=view)


def _box_maps(low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Sub-pixel coverage of the box in [0, 1] and the inscribed ellipsoid's level ``1 - r²`` cut to [-1, 1]."""
    cover: np.ndarray | float = 1.0
    radius: np.ndarray | float = 0.0
    for axis, size in enumerate(shape):
        centre_line = np.arange(size, dtype=np.float32)
        along = np.clip(np.minimum(centre_line + 0.5, high[axis]) - np.maximum(centre_line - 0.5, low[axis]), 0, 1)
        middle, half = (low[axis] + high[axis]) / 2, max((high[axis] - low[axis]) / 2, 0.5)
        form = [-1 if a == axis else 1 for a in range(len(shape))]
        cover = cover * along.reshape(form)
        radius = radius + (((centre_line - middle) / half) ** 2).reshape(form)
    return np.asarray(cover, np.float32), np.clip(1.0 - np.asarray(radius), -1.0, 1.0).astype(np.float32)


def _draw_stroke(target: np.ndarray, points: np.ndarray) -> None:
    """Set the pixels nearest to the samples to 1 and their face neighbours to at least 0.5 (in place)."""
    index = np.round(np.asarray(points)).astype(int)
    index = index[((index >= 0) & (index < target.shape)).all(1)]
    for axis in range(target.ndim):
        for step in (-1, 1):
            near = index.copy()
            near[:, axis] = np.clip(near[:, axis] + step, 0, target.shape[axis] - 1)
            view = tuple(near.T)
            target[view] = np.maximum(target[view], 0.5)
    target[tuple(index.T)] = 1.0
