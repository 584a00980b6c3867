"""``PromptSet``: all prompts of one request, the type that every part of promptzoo speaks (contract 1)."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterable, Union

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.prompts.types.parts import (
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    ObjectInfo,
    Point,
    ReferencePrompt,
    Scribble,
    TaskPrompt,
    TextPrompt,
)

Prompt = Union[Point, Box, Scribble, Lasso, MaskPrompt, TextPrompt, ClassPrompt, AttributePrompt, ReferencePrompt,
               TaskPrompt]
_SPATIAL = (Point, Box, Scribble, Lasso)


@dataclass(frozen=True)
class PromptSet:
    """Prompts in the order they were given, each tied to an object.

    Args:
        prompts: the prompts, oldest first.
        objects: the objects spoken of. Left empty, it is made from the prompts' object ids; given, every prompt must
            name one of them.
        through_slices: whether a bundle that sees slices carries the prompts through the whole volume; else it answers
            only the slices that have prompts. Bundles that see volumes, and images of one slice, take no notice.

    Raises:
        PromptError: if an object id occurs twice or is unknown, if spaces are mixed, or for a foreign prompt type.
    """

    prompts: tuple[Prompt, ...] = ()
    objects: tuple[ObjectInfo, ...] = ()
    through_slices: bool = False

    def __post_init__(self) -> None:
        prompts = tuple(self.prompts)
        if not isinstance(self.through_slices, bool):
            raise PromptError(complain("through_slices", self.through_slices, "true or false"))
        for prompt in prompts:
            if not isinstance(prompt, Prompt.__args__):  # type: ignore[attr-defined]
                raise PromptError(complain("prompt type", type(prompt).__name__, "promptzoo.prompts.types"))
        spaces = {p.space for p in prompts if isinstance(p, _SPATIAL)}
        if len(spaces) > 1:
            raise PromptError(complain("mixed spaces in one prompt set", sorted(spaces), "all world or all voxel",
                                       "Convert with PromptSet.to_world(grid) before merging"))
        used = list(dict.fromkeys(p.object_id for p in prompts))
        objects = tuple(self.objects) or tuple(ObjectInfo(i) for i in used)
        known = [o.object_id for o in objects]
        if len(set(known)) != len(known):
            raise PromptError(complain("object ids given twice", known, "each id once"))
        for prompt in prompts:
            if prompt.object_id not in known:
                raise PromptError(complain("unknown object id", prompt.object_id, str(known), "Add the object first"))
        object.__setattr__(self, "prompts", prompts)
        object.__setattr__(self, "objects", objects)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def space(self) -> str:
        """``world`` or ``voxel``; ``world`` when there is no spatial prompt."""
        return next((p.space for p in self.prompts if isinstance(p, _SPATIAL)), "world")

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of prompt that occur, see ``promptzoo.prompts.types.KINDS``."""
        return frozenset(p.kind for p in self.prompts)

    def of(self, kind: str, object_id: int | None = None) -> tuple:
        """The prompts of one kind, optionally of one object, oldest first."""
        return tuple(p for p in self.prompts if p.kind == kind and object_id in (None, p.object_id))

    def for_object(self, object_id: int) -> "PromptSet":
        """The prompts of one object.

        Raises:
            PromptError: if the object is not in the set.
        """
        info = [o for o in self.objects if o.object_id == object_id]
        if not info:
            raise PromptError(complain("unknown object id", object_id, str([o.object_id for o in self.objects])))
        return PromptSet(tuple(p for p in self.prompts if p.object_id == object_id), tuple(info),
                         self.through_slices)

    def adding(self, *prompts: Prompt) -> "PromptSet":
        """A new set with ``prompts`` behind the present ones; unknown object ids become new objects."""
        known = {o.object_id for o in self.objects}
        fresh = [ObjectInfo(i) for i in dict.fromkeys(p.object_id for p in prompts) if i not in known]
        return PromptSet(self.prompts + tuple(prompts), self.objects + tuple(fresh), self.through_slices)

    def to_world(self, grid: Grid) -> "PromptSet":
        """All spatial prompts in world RAS+ millimetres; ``grid`` is the grid of voxel prompts."""
        return self._moved(grid, "world")

    def to_voxel(self, grid: Grid) -> "PromptSet":
        """All spatial prompts in fractional voxel indices of ``grid``."""
        return self._moved(grid, "voxel")

    def _moved(self, grid: Grid, space: str) -> "PromptSet":
        moved = tuple(p.moved(grid, space) if isinstance(p, _SPATIAL) else p for p in self.prompts)
        return replace(self, prompts=moved)

    def check_on(self, grid: Grid, allowed_kinds: Iterable[str] | None = None) -> "PromptSet":
        """Check that the prompts can be used on an image.

        Args:
            grid: the image's grid.
            allowed_kinds: kinds that the bundle takes; None allows all.

        Returns:
            The set itself.

        Raises:
            PromptError: if a coordinate lies outside the image by more than half a voxel, a lasso is not drawn on one
                slice plane, a box misses the image, or a kind is not taken by the bundle.
        """
        refused = sorted(self.kinds - set(allowed_kinds)) if allowed_kinds is not None else []
        if refused:
            raise PromptError(complain("prompt kind not taken by this bundle", ", ".join(refused),
                                       ", ".join(sorted(allowed_kinds or ())), "See: promptzoo bundles show NAME"))
        for prompt in self.to_voxel(grid).prompts:
            if isinstance(prompt, Box):
                points, inside = prompt.corners(), grid.inside(prompt.corners(), 0.5).all()
            elif isinstance(prompt, _SPATIAL):
                points = np.atleast_2d(prompt.position if isinstance(prompt, Point) else prompt.points)
                inside = grid.inside(points, 0.5).all()
            else:
                continue
            if not inside:
                worst = points[int(np.argmin(grid.inside(points, 0.5)))]
                shown = (np.round(worst, 2) + 0.0).tolist()
                raise PromptError(complain(
                    f"{prompt.kind} outside the image by more than half a voxel",
                    f"voxel {shown} (world {np.round(grid.to_world(worst), 1).tolist()} mm)",
                    f"voxels 0 … {[n - 1 for n in grid.shape]}", "Check the orientation and the space of the prompt"))
            if isinstance(prompt, Lasso) and np.ptp(prompt.points, axis=0).min() > 0.51:
                raise PromptError(complain("lasso not on one slice", np.ptp(prompt.points, axis=0).round(2).tolist(),
                                           "one axis along which all vertices agree to half a voxel"))
        return self

    def to_json(self) -> dict:
        """JSON-able dictionary, see :func:`promptzoo.prompts.types.to_json`."""
        from promptzoo.prompts.types.codec import to_json
        return to_json(self)

    @staticmethod
    def from_json(document: object) -> "PromptSet":
        """Inverse of :meth:`to_json`, see :func:`promptzoo.prompts.types.from_json`."""
        from promptzoo.prompts.types.codec import from_json
        return from_json(document)
