"""The prompts of a study condition, made from a mask."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.core.geometry import Grid
from promptzoo.evaluation.datalist import COMPONENT_SHARE
from promptzoo.evaluation.protocols import solid_axes
from promptzoo.evaluation.study_grid import Condition
from promptzoo.prompts.simulators import boxes, masks
from promptzoo.prompts.simulators.clicks import depth
from promptzoo.prompts.types import Box, MaskPrompt, Point

BORDER_SHARE = 0.1
"""Points at the border are drawn from this share of the object's voxels, those nearest to the outside."""


def simulate(condition: Condition, mask: np.ndarray, grid: Grid, rng: np.random.Generator) -> list[tuple[Any, ...]]:
    """Prompts in voxel space, as groups that are asked for one after the other and whose masks are joined.

    Args:
        condition: any but with ``place`` ``error``, which depends on answers; of that only box and mask are made.
        mask: ``[i, j, k]`` bool, the object, not empty.
        grid: of the image.
        rng: for random conditions.
    """
    if condition.kind == "mask":
        return [(MaskPrompt(_damaged(condition, mask, rng), grid),)]
    regions = largest_parts(mask, condition.parts) if condition.parts else [mask]
    groups: list[list[Any]] = [[] for _ in (regions if "box" in condition.kind else regions[:1])]
    if "box" in condition.kind:
        for group, region in zip(groups, regions):
            group.append(_box(condition, region, rng))
    if condition.kind == "everything":
        groups[0].append(_point(spread_centres(mask, grid.spacing_mm, 1)[0]))
    if "points" in condition.kind and condition.place != "error":
        if condition.parts:
            places = [place for region in regions for place in _places(condition, region, grid, 1, rng)]
        else:
            places = _places(condition, mask, grid, condition.count, rng)
        groups[0] += [_point(place) for place in places]
    groups[0] += [_point(place, False) for place in outside(mask, condition.negative, rng)]
    return [tuple(group) for group in groups]


def spread_centres(mask: np.ndarray, spacing_mm: Sequence[float], count: int) -> list[tuple[int, ...]]:
    """``count`` places inside a mask: the deepest voxel, then each time the one whose depth and distance to the former
    are both large (their minimum is largest); fewer if the mask has fewer voxels."""
    keep = solid_axes(mask.shape)
    part = mask.reshape([mask.shape[a] for a in keep])
    gap = np.asarray([spacing_mm[a] for a in keep])
    at, deep = np.argwhere(part), depth(part, tuple(gap))[part]
    far, found = np.full(len(at), np.inf), []
    for _ in range(min(count, len(at))):
        best = int(np.argmax(np.where(far > 0, np.minimum(deep, far), -1)))
        found.append(_full(at[best], keep, mask.ndim))
        far = np.minimum(far, np.linalg.norm((at - at[best]) * gap, axis=1))
    return found


def outside(mask: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """``count`` places that are not in a mask, in its box grown by a quarter, else anywhere; none if it fills all."""
    if not count:
        return []
    low, high = boxes.enlarged(*boxes.tight(mask), mask.shape, 0.25)
    region = tuple(slice(a, b) for a, b in zip(low, high))
    free = np.argwhere(~mask[region]) + low
    free = free if len(free) >= count else np.argwhere(~mask)
    chosen = rng.choice(len(free), min(count, len(free)), replace=False) if len(free) else ()
    return [tuple(int(v) for v in free[n]) for n in chosen]


def largest_parts(mask: np.ndarray, count: int) -> list[np.ndarray]:
    """The ``count`` largest connected parts that hold at least 1 % of a mask, largest first."""
    labels, total = ndimage.label(mask, np.ones((3,) * mask.ndim))
    sizes = np.bincount(labels.ravel(), minlength=total + 1)[1:]
    order = [n for n in np.argsort(-sizes, kind="stable") if sizes[n] >= COMPONENT_SHARE * sizes.sum()]
    return [labels == n + 1 for n in order[:count]]


def _places(condition: Condition, mask: np.ndarray, grid: Grid, count: int, rng: np.random.Generator
            ) -> list[tuple[int, ...]]:
    if condition.place == "centre":
        return spread_centres(mask, grid.spacing_mm, count)
    inside = np.argwhere(mask)
    if condition.place == "border":
        keep = solid_axes(mask.shape)
        part = mask.reshape([mask.shape[a] for a in keep])
        deep = depth(part, tuple(grid.spacing_mm[a] for a in keep)).reshape(mask.shape)[mask]
        inside = inside[np.argsort(deep, kind="stable")[:max(count, int(BORDER_SHARE * len(inside)))]]
    chosen = rng.choice(len(inside), min(count, len(inside)), replace=False)
    return [tuple(int(v) for v in inside[n]) for n in chosen]


def _box(condition: Condition, mask: np.ndarray, rng: np.random.Generator) -> Box:
    low, high = boxes.enlarged(*boxes.tight(mask), mask.shape, condition.enlarge)
    if condition.shift:
        way = np.where(rng.random(mask.ndim) < 0.5, -1, 1) * condition.shift * (high - low)
        low, high = boxes.moved(low, high, mask.shape, np.stack([way, way]))
    if condition.jitter:
        low, high = boxes.jittered(low, high, mask.shape, condition.jitter, rng)
    return Box(tuple(low), tuple(high), 1, "voxel")


def _damaged(condition: Condition, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not condition.damage:
        return mask
    keep = solid_axes(mask.shape)
    part = mask.reshape([mask.shape[a] for a in keep])
    way = rng.standard_normal(part.ndim)
    amount = max(1.0, condition.amount * float(depth(part).max()))
    wrong = masks.changed(part, condition.damage, amount, way / np.linalg.norm(way)).reshape(mask.shape)
    return wrong if wrong.any() else mask


def _full(place: np.ndarray, keep: Sequence[int], axes: int) -> tuple[int, ...]:
    whole = np.zeros(axes, dtype=int)
    whole[list(keep)] = place
    return tuple(int(v) for v in whole)


def _point(place: Sequence[int], positive: bool = True) -> Point:
    return Point(tuple(place), positive, 1, "voxel")
