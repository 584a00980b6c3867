"""From an infer request, in the form of any client, to a prompt set.

==============================  =================================================================================
keys of the request             meaning
==============================  =================================================================================
``prompts``                     a prompt set as JSON (our own form, voxel or world space); other keys are not read
``foreground``, ``background``  Slicer and OHIF deepgrow: lists of ``[i, j, k]``; ``label`` names the object
``points``, ``point_labels``    OHIF vista3d: labels 1 add, 0 remove; ``label_prompt`` holds the class indices
``<name>: [[i, j, k], …]``      OHIF and Slicer deepedit: clicks per object; ``background`` removes from every object
``roi``                         Slicer: ``[i0, i1, j0, j1, k0, k1]``, see :func:`roi_box`
``label`` (a file)              Slicer scribbles: see :func:`promptzoo.cli.server.scribbles.read_scribbles`
``text_prompt``                 free text, from an option row
``through_slices``              whether a 2D bundle carries prompts through the volume, from an option row
==============================  =================================================================================

Indices are native voxels of the image file. The object ids of the prompt set are the values of the result: the label's
index for types whose clients read values that way (:data:`INDEXED_TYPES`), else 1, 2, … in the order of the request.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from promptzoo.cli.server.scribbles import ScribbleFile, read_scribbles
from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.prompts.types import Box, ClassPrompt, ObjectInfo, Point, PromptSet, TextPrompt

INDEXED_TYPES = ("deepedit", "vista3d", "segmentation")
"""Task types whose clients take a voxel's value as the index of the label. For deepgrow OHIF paints any non-zero voxel
with its current label, and for deepgrow and scribbles Slicer names the segments itself."""

RESERVED = frozenset((
    "background", "bundle", "client_id", "description", "device", "file", "foreground", "image", "label", "label_info",
    "label_prompt", "label_tag", "labels", "logging", "model", "point_labels", "points", "prompts", "reset_state",
    "result_compress", "result_dtype", "result_extension", "result_write_to_file", "roi", "save_label", "session",
    "session_id", "slice", "text_prompt", "through_slices"))
"""Keys that never name an object."""


@dataclass(frozen=True)
class Form:
    """How the requests of one infer task are meant.

    Args:
        type: MONAI Label's task type.
        labels: names by label index.
        kinds: prompt kinds that the task takes.
    """

    type: str
    labels: Mapping[int, str] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset()

    def index(self, name: str) -> int | None:
        """The label index of a name, None if the task has no such label."""
        return next((value for value, known in self.labels.items() if known == name), None)


@dataclass
class _Objects:
    """Object ids by name, given out in the order of the request."""

    form: Form
    names: dict[str, int] = field(default_factory=dict)

    def id_of(self, name: str) -> int:
        """The id of a named object; new names get their label index or the next free id."""
        if name not in self.names:
            own = self.form.index(name) if self.form.type in INDEXED_TYPES else None
            taken = {*self.names.values(), *(self.form.labels if self.form.type in INDEXED_TYPES else ())}
            self.names[name] = own or next(n for n in range(1, 65536) if n not in taken)
        return self.names[name]


def read_prompts(request: Mapping[str, Any], form: Form, grid: Grid) -> PromptSet:
    """The prompts of an infer request.

    Args:
        request: what MONAI Label hands to an infer task.
        form: of that task.
        grid: of the image.

    Returns:
        Prompts in voxel space (our own form: in the space they came in); empty if the request has none.

    Raises:
        PromptError: if a part is malformed.
        ImageError: if a scribble file cannot be read or does not lie on the image.
    """
    through = _switch(request.get("through_slices"))
    if request.get("prompts"):
        given = PromptSet.from_json(request["prompts"])
        return given if through is None else replace(given, through_slices=through)
    objects, prompts = _Objects(form), []
    scribbles = _scribble_file(request, form)
    for name, rows in request.items():
        if _names_object(name, rows, form):
            prompts += _clicks(rows, name, True, objects.id_of(name))
    current = _current_name(request, form, scribbles) or next(iter([*objects.names, *form.labels.values()]), "object")
    for rows, positive in _paired_points(request):
        prompts += _clicks(rows, "points", positive, objects.id_of(current))
    if request.get("foreground"):
        prompts += _clicks(request["foreground"], "foreground", True, objects.id_of(current))
    if scribbles is not None:
        prompts += read_scribbles(scribbles, objects.id_of(current), grid, "mask" in form.kinds)
    if request.get("roi"):
        on_slice = request.get("slice") if prompts else None
        prompts.append(roi_box(request["roi"], objects.id_of(current), grid, on_slice))
    if request.get("text_prompt"):
        prompts.append(TextPrompt(request["text_prompt"], objects.id_of(current)))
    if not objects.names:
        for name in _class_names(request, form):
            prompts.append(ClassPrompt(name, objects.id_of(name)))
    if request.get("background"):
        removed = _clicks(request["background"], "background", False, 1)
        for object_id in list(objects.names.values()) or [objects.id_of(current)]:
            prompts += [Point(p.position, False, object_id, "voxel") for p in removed]
    infos = tuple(ObjectInfo(number, name) for name, number in objects.names.items())
    return PromptSet(tuple(prompts), infos, bool(through))


def roi_box(roi: object, object_id: int, grid: Grid, on_slice: object = None) -> Box:
    """A region of interest as a box.

    The bounds are half-open like every box of promptzoo and like MONAI Label's own use of ``roi``: the voxels
    ``low … high - 1`` are inside. A pair of equal numbers is that one voxel. Pairs may come in either order (Slicer
    does not sort them on flipped axes). What lies outside the image is cut off: viewers draw regions past the border.

    Args:
        roi: ``[i0, i1, j0, j1, k0, k1]``.
        object_id: the object boxed.
        grid: of the image.
        on_slice: index ``k`` of the slice that a 2D client works on; the box keeps to it if it reaches it.

    Raises:
        PromptError: if ``roi`` is not six finite numbers or misses the image.
    """
    if not isinstance(roi, (list, tuple)) or len(roi) != 6 or not all(map(_is_number, roi)):
        raise PromptError(complain("roi", roi, "six finite numbers [i0, i1, j0, j1, k0, k1]"))
    pairs = [sorted((float(roi[2 * a]), float(roi[2 * a + 1]))) for a in range(3)]
    pairs = [[low, low + 1 if low == high else high] for low, high in pairs]
    if isinstance(on_slice, int) and pairs[2][0] <= on_slice < pairs[2][1]:
        pairs[2] = [on_slice, on_slice + 1]
    inside = [[max(low, 0.0), min(high, float(n))] for (low, high), n in zip(pairs, grid.shape)]
    if any(low >= high for low, high in inside):
        raise PromptError(complain("roi outside the image", list(roi), f"voxels 0 … {[n - 1 for n in grid.shape]}",
                                   "Check that the region belongs to this image"))
    return Box(tuple(low for low, _ in inside), tuple(high for _, high in inside), object_id, "voxel")


def _switch(value: object) -> bool | None:
    """A yes or no of an option row, which clients send as bool, number or text; None if it was not sent."""
    known = {"": None, "none": None, "true": True, "1": True, "false": False, "0": False}
    text = "" if value is None else str(value).strip().lower()
    if text not in known:
        raise PromptError(complain("through_slices", value, "true or false"))
    return known[text]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _names_object(key: str, value: object, form: Form) -> bool:
    """Whether ``key: value`` are clicks on an object: a list under the name of a label, or a list of lists."""
    return (key not in RESERVED and not key.startswith("_") and isinstance(value, list) and bool(value)
            and (key in form.labels.values() or all(isinstance(row, list) for row in value)))


def _clicks(rows: object, what: str, positive: bool, object_id: int) -> list[Point]:
    if not isinstance(rows, list) or not all(isinstance(row, (list, tuple)) for row in rows):
        raise PromptError(complain(f"clicks in {what!r}", rows, "a list of voxel indices [[i, j, k], …]"))
    return [Point(row, positive, object_id, "voxel") for row in rows]


def _paired_points(request: Mapping[str, Any]) -> list[tuple[list, bool]]:
    """``points`` split by ``point_labels``: (rows, positive) pairs in the order given."""
    points = request.get("points") or []
    signs = request.get("point_labels")
    if signs is None and isinstance(points, list):
        signs = [1] * len(points)
    if not isinstance(points, list) or not isinstance(signs, list) or len(signs) != len(points):
        raise PromptError(complain("points and point_labels", [points, signs], "two lists of the same length"))
    wrong = [sign for sign in signs if sign not in (0, 1)]
    if wrong:
        raise PromptError(complain("point_labels", wrong[0], "1 to add, 0 to remove"))
    return [([row], sign == 1) for row, sign in zip(points, signs)]


def _scribble_file(request: Mapping[str, Any], form: Form) -> ScribbleFile | None:
    """The uploaded label map, None if there is none (deepgrow requests carry a name under ``label``)."""
    path = request.get("label")
    if not isinstance(path, (str, Path)) or not Path(path).is_absolute() or not Path(path).is_file():
        return None
    info = request.get("label_info") or []
    if not isinstance(info, list) or not all(isinstance(entry, Mapping) for entry in info):
        raise PromptError(complain("label_info", info, "a list of {name, id}"))
    return ScribbleFile(Path(path), str(request.get("selected_label_name") or ""), info, len(form.labels))


def _class_indices(request: Mapping[str, Any]) -> Sequence[int]:
    indices = request.get("label_prompt") or []
    indices = indices if isinstance(indices, list) else [indices]
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in indices):
        raise PromptError(complain("label_prompt", indices, "a list of label indices"))
    return indices


def _class_names(request: Mapping[str, Any], form: Form) -> list[str]:
    """Names of the classes in ``label_prompt``."""
    unknown = [n for n in _class_indices(request) if n not in form.labels]
    if unknown:
        raise PromptError(complain("label_prompt", unknown[0], f"label indices {sorted(form.labels)}"))
    return [form.labels[n] for n in _class_indices(request)]


def _current_name(request: Mapping[str, Any], form: Form, scribbles: ScribbleFile | None) -> str:
    """Name of the object that unnamed prompts speak of; empty if the request does not tell."""
    if scribbles is not None:
        return scribbles.selected
    if isinstance(request.get("label"), str) and request["label"].strip():
        return request["label"]
    indices = _class_indices(request)
    return form.labels.get(indices[0], "") if indices else ""
