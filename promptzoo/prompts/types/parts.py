"""The single prompts.

Spatial prompts carry ``space``: ``"world"`` (RAS+ millimetres; the only space inside promptzoo) or ``"voxel"``
(fractional indices of the image's own grid, axis order ``i, j, k``; what clients send). Conversion happens at the
door, in :meth:`promptzoo.prompts.types.PromptSet.to_world`.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid

SPACES = ("world", "voxel")
KINDS = ("point", "box", "scribble", "lasso", "mask", "text", "class", "attribute", "reference", "task")
"""Names of the prompt kinds, as bundles declare them."""


def _vector(value: object, what: str) -> tuple[float, float, float]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PromptError(complain(f"{what} is not numeric", value, "three numbers")) from None
    if array.shape != (3,):
        raise PromptError(complain(f"{what} has the wrong dimension", value, "three numbers (i, j, k) or (x, y, z)",
                                   "For a 2D image give 0 as the third index"))
    if not np.isfinite(array).all():
        raise PromptError(complain(f"{what} is not finite", value, "three finite numbers"))
    return tuple(float(v) for v in array)  # type: ignore[return-value]


def _path(value: object, what: str, least: int) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise PromptError(complain(f"{what} is not numeric", value, "rows of three numbers")) from None
    if array.size == 0:
        raise PromptError(complain(f"empty {what}", "no points", f"at least {least} point(s)", "Draw it again"))
    if array.ndim != 2 or array.shape[1] != 3:
        raise PromptError(complain(f"{what} has the wrong dimension", list(array.shape), "[n, 3]",
                                   "For a 2D image give 0 as the third index"))
    if not np.isfinite(array).all():
        raise PromptError(complain(f"{what} is not finite", "NaN or infinite coordinates", "finite numbers"))
    if len(array) < least:
        raise PromptError(complain(f"{what} is too short", f"{len(array)} point(s)", f"at least {least}"))
    array.setflags(write=False)
    return array


def _check_common(object_id: object, space: str | None = None) -> None:
    if isinstance(object_id, bool) or not isinstance(object_id, (int, np.integer)) or not 1 <= object_id <= 65535:
        raise PromptError(complain("object id", object_id, "an integer from 1 to 65535"))
    if space is not None and space not in SPACES:
        raise PromptError(complain("prompt space", space, " or ".join(SPACES)))


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise PromptError(complain(what, value, "a text that is not empty"))


@dataclass(frozen=True)
class ObjectInfo:
    """An object that prompts speak of: ``object_id`` (1 … 65535), a display ``name`` and an optional ``color``."""

    object_id: int
    name: str = ""
    color: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        _check_common(self.object_id)
        if not isinstance(self.name, str):
            raise PromptError(complain("object name", self.name, "a text"))
        if self.color is not None:
            try:
                color = tuple(int(c) for c in self.color)
            except (TypeError, ValueError):
                color = ()
            if len(color) != 3 or min(color) < 0 or max(color) > 255:
                raise PromptError(complain("object colour", self.color, "three integers from 0 to 255"))
            object.__setattr__(self, "color", color)


@dataclass(frozen=True)
class Point:
    """A click: ``position`` in ``space``; ``positive`` adds the place to the object, negative removes it."""

    kind: ClassVar[str] = "point"
    position: tuple[float, float, float]
    positive: bool = True
    object_id: int = 1
    space: str = "world"

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", _vector(self.position, "point"))
        _check_common(self.object_id, self.space)

    def moved(self, grid: Grid, space: str) -> "Point":
        """The same click in the other space of ``grid``."""
        if space == self.space:
            return self
        convert = grid.to_world if space == "world" else grid.to_index
        return Point(tuple(convert(self.position)), self.positive, self.object_id, space)


@dataclass(frozen=True, eq=False)
class Box:
    """A box around the object.

    In voxel space ``low`` and ``high`` are half-open voxel bounds: the voxels ``low … high - 1`` are inside. In world
    space they are millimetres along the columns of ``axes``: the box is ``{axes @ u : low <= u <= high}``, so that a
    box drawn on an oblique grid stays the same box. A box on one slice is one voxel thick along that slice's axis.

    Args:
        low, high: three numbers each, ``low < high`` on every axis.
        object_id: the object boxed.
        space: ``world`` or ``voxel``.
        axes: ``[3, 3]`` unit columns; identity in voxel space.
    """

    kind: ClassVar[str] = "box"
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    object_id: int = 1
    space: str = "world"
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", _vector(self.low, "box lower corner"))
        object.__setattr__(self, "high", _vector(self.high, "box upper corner"))
        _check_common(self.object_id, self.space)
        try:
            axes = np.array(self.axes, dtype=np.float64)
        except (TypeError, ValueError):
            raise PromptError(complain("box axes are not numeric", self.axes, "three columns of numbers")) from None
        if axes.shape != (3, 3) or not np.isfinite(axes).all() or abs(np.linalg.det(axes)) < 1e-9:
            raise PromptError(complain("box axes", np.asarray(self.axes).tolist(), "three independent columns"))
        if self.space == "voxel" and not np.array_equal(axes, np.eye(3)):
            raise PromptError(complain("box axes in voxel space", axes.tolist(), "the identity"))
        axes.setflags(write=False)
        object.__setattr__(self, "axes", axes)
        if any(a >= b for a, b in zip(self.low, self.high)):
            raise PromptError(complain("box with min >= max", f"{list(self.low)} … {list(self.high)}",
                                       "min below max on every axis (half-open bounds)",
                                       "A box on one slice k has k as minimum and k + 1 as maximum"))

    def corners(self) -> np.ndarray:
        """The eight corners ``[8, 3]``; in voxel space as continuous indices (voxel faces, so ``low - 0.5``)."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        unit = np.array([[(n >> a) & 1 for a in range(3)] for n in range(8)], dtype=float)
        values = low + unit * (high - low)
        return values - 0.5 if self.space == "voxel" else values @ self.axes.T

    def moved(self, grid: Grid, space: str) -> "Box":
        """The same box in the other space of ``grid``; onto other axes than the grid's: its bounding box."""
        if space == self.space:
            return self
        if space == "world":
            spacing = np.asarray(grid.spacing_mm)
            shift = np.linalg.solve(grid.directions, grid.affine[:3, 3])
            low, high = ((np.asarray(v) - 0.5) * spacing + shift for v in (self.low, self.high))
            return Box(tuple(low), tuple(high), self.object_id, "world", grid.directions)
        index = grid.to_index(self.corners()) + 0.5
        low, high = (np.round(v, 6) + 0.0 for v in (index.min(0), index.max(0)))
        return Box(tuple(low), tuple(high), self.object_id, "voxel")

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Box) and (self.low, self.high, self.object_id, self.space)
                == (other.low, other.high, other.object_id, other.space) and np.array_equal(self.axes, other.axes))


@dataclass(frozen=True, eq=False)
class _Path:
    kind: ClassVar[str] = "path"
    least: ClassVar[int] = 1
    points: np.ndarray
    positive: bool = True
    object_id: int = 1
    space: str = "world"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", _path(self.points, self.kind, self.least))
        _check_common(self.object_id, self.space)

    def moved(self, grid: Grid, space: str) -> Any:
        """The same drawing in the other space of ``grid``."""
        if space == self.space:
            return self
        convert = grid.to_world if space == "world" else grid.to_index
        return type(self)(convert(self.points), self.positive, self.object_id, space)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, type(self)) and np.array_equal(self.points, other.points)
                and (self.positive, self.object_id, self.space) == (other.positive, other.object_id, other.space))


@dataclass(frozen=True, eq=False)
class Scribble(_Path):
    """A free stroke: ``points`` ``[n, 3]``, samples of the stroke (order is not used; painted voxels are fine)."""

    kind: ClassVar[str] = "scribble"


@dataclass(frozen=True, eq=False)
class Lasso(_Path):
    """A closed outline around a part of the object on one slice: ``points`` ``[n >= 3, 3]``, in drawing order."""

    kind: ClassVar[str] = "lasso"
    least: ClassVar[int] = 3


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A dense first guess: ``mask`` ``[i, j, k]`` bool on ``grid`` (its own space; nothing to convert)."""

    kind: ClassVar[str] = "mask"
    mask: np.ndarray
    grid: Grid
    object_id: int = 1

    def __post_init__(self) -> None:
        mask = np.array(self.mask)
        if mask.shape != self.grid.shape:
            raise PromptError(complain("mask prompt does not fit its grid", list(mask.shape), str(self.grid.shape)))
        if not np.isin(np.unique(mask), (0, 1)).all():
            raise PromptError(complain("mask prompt values", np.unique(mask)[:5].tolist(), "0 and 1",
                                       "Choose one label of the label map first"))
        mask = mask.astype(bool)
        mask.setflags(write=False)
        object.__setattr__(self, "mask", mask)
        _check_common(self.object_id)

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, MaskPrompt) and self.object_id == other.object_id
                and self.grid == other.grid and np.array_equal(self.mask, other.mask))


@dataclass(frozen=True)
class TextPrompt:
    """Free text that names or describes the object."""

    kind: ClassVar[str] = "text"
    text: str
    object_id: int = 1

    def __post_init__(self) -> None:
        _check_text(self.text, "text prompt")
        _check_common(self.object_id)


@dataclass(frozen=True)
class ClassPrompt:
    """A class of the bundle's own list, by name."""

    kind: ClassVar[str] = "class"
    name: str
    object_id: int = 1

    def __post_init__(self) -> None:
        _check_text(self.name, "class prompt")
        _check_common(self.object_id)


@dataclass(frozen=True)
class AttributePrompt:
    """A named property of the object or the case, such as ``size = large`` or ``grade = 3``."""

    kind: ClassVar[str] = "attribute"
    name: str
    value: str
    object_id: int = 1

    def __post_init__(self) -> None:
        _check_text(self.name, "attribute name")
        _check_text(self.value, "attribute value")
        _check_common(self.object_id)


@dataclass(frozen=True)
class ReferencePrompt:
    """A finished case to imitate: ids or paths of its ``image`` and ``mask``, and the label value meant there."""

    kind: ClassVar[str] = "reference"
    image: str
    mask: str
    label_value: int = 1
    object_id: int = 1

    def __post_init__(self) -> None:
        _check_text(self.image, "reference image")
        _check_text(self.mask, "reference mask")
        _check_common(self.object_id)


@dataclass(frozen=True)
class TaskPrompt:
    """A task or sequence code, such as ``task = lung-nodule`` or ``sequence = T1``; speaks of the whole image."""

    kind: ClassVar[str] = "task"
    code: str
    value: str = ""
    object_id: int = 1

    def __post_init__(self) -> None:
        _check_text(self.code, "task code")
        _check_common(self.object_id)
