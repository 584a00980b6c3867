"""Prompt options of the command line as one prompt set.

==============  ========================================================================================
option          form
==============  ========================================================================================
``--point``     ``i,j,k[,+|-][,label]``; on a 2D image also ``i,j``
``--box``       ``i0,j0,k0,i1,j1,k1[,label]``, half-open voxel bounds; on a 2D image also four numbers
``--scribble``  ``FILE[,+|-][,label]``
``--lasso``     ``FILE[,+|-][,label]`` or ``i,j,k;i,j,k;i,j,k[;+|-][;label]``
``--mask``      ``FILE[=value][,label]``
``--class``     ``NAME``, which names the object too, or ``NAME,label``
``--text``      words: a name, a list or a sentence; what it names becomes objects
``--attribute`` ``NAME=VALUE`` or ``NAME=VALUE,label``: a property of the object or the case
``--example``   ``IMAGE;MASK[=value][,label]``: a finished case to imitate
``--prompts``   a prompt set as JSON
==============  ========================================================================================

A label is an object's id (1 … 65535) or its name. Names get the lowest free ids in the order of first mention, option
by option in the order of the table. Without a label the prompt speaks of object 1.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.cli.prompt_text import Names, is_there, sign_and_label, split_file, split_point
from promptzoo.cli.stroke_files import Stroke, coordinates, read_strokes
from promptzoo.core.errors import NotFoundError, PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import (
    SPACES,
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    Point,
    PromptSet,
    ReferencePrompt,
    Scribble,
    TextPrompt,
)


def place(numbers: Sequence[float], grid: Grid, space: str, what: str) -> tuple[float, ...]:
    """Coordinates with the slice of a 2D image filled in.

    Raises:
        PromptError: if two coordinates are given for a volume or in world space.
    """
    if len(numbers) == 3:
        return tuple(numbers)
    if space != "voxel" or not grid.is_2d:
        raise PromptError(complain(f"{what} with two coordinates", list(numbers), "three numbers for "
                                   + ("world millimetres" if space != "voxel" else f"a volume of {grid.shape} voxels")))
    return tuple(np.insert(np.asarray(numbers, dtype=float), int(np.argmin(grid.shape)), 0.0).tolist())


def box_of(numbers: Sequence[float], grid: Grid, space: str, object_id: int) -> Box:
    """A box from six numbers, or from four on a 2D image.

    Raises:
        PromptError: if four are given for a volume or in world space, or the bounds are not increasing.
    """
    half = len(numbers) // 2
    low, high = (place(part, grid, space, "box") for part in (numbers[:half], numbers[half:]))
    if half == 2:
        axis = int(np.argmin(grid.shape))
        high = tuple(1.0 if a == axis else v for a, v in enumerate(high))
    return Box(low, high, object_id, space)  # type: ignore[arg-type]


def _lasso_strokes(text: str) -> tuple[list[Stroke], bool | None, str]:
    """The outlines of ``--lasso``, from the text itself or from a file."""
    if ";" not in text or is_there(text):
        path, sign, label = split_file(text, "--lasso")
        return read_strokes(path, grid=None), sign, label
    parts = [part.strip() for part in text.split(";") if part.strip()]
    count = next((n for n, part in enumerate(parts) if "," not in part), len(parts))
    form = "i,j,k;i,j,k;i,j,k, then ;+ or ;-, then ;label"
    sign, label = sign_and_label(parts[count:], "--lasso", text, form)
    return [Stroke(coordinates([part.split(",") for part in parts[:count]], "--lasso"))], sign, label


@dataclass(frozen=True)
class PromptOptions:
    """What was typed, one list per option; ``space`` is that of points, boxes, scribble and lasso coordinates."""

    points: Sequence[str] = ()
    boxes: Sequence[str] = ()
    scribbles: Sequence[str] = ()
    lassos: Sequence[str] = ()
    masks: Sequence[str] = ()
    files: Sequence[Path] = ()
    space: str = "voxel"
    classes: Sequence[str] = ()
    texts: Sequence[str] = ()
    attributes: Sequence[str] = ()
    examples: Sequence[str] = ()

    def build(self, volume: Volume) -> PromptSet:
        """The prompt set in world millimetres: files first, then the options.

        Raises:
            PromptError: for anything malformed, and if there is no prompt at all.
            NotFoundError: for a file that does not exist.
            ImageError: for a mask or scribble image that cannot be read or does not fit the image.
        """
        if self.space not in SPACES:
            raise PromptError(complain("--space", self.space, " or ".join(SPACES)))
        grid, names = volume.grid, Names()
        loaded = [_prompt_file(path) for path in self.files]
        for info in (o for prompts in loaded for o in prompts.objects):
            names.taken.add(info.object_id)
            if info.name:
                names.by_name[info.name] = info.object_id
        typed = self._typed(grid)
        names.reserve([label or "1" for _, label, _ in typed])
        parts = [p for prompts in loaded for p in prompts.to_world(grid).prompts]
        for make, label, values in typed:
            prompt = make(*values, names.id_of(label or "1"))
            parts.append(prompt.moved(grid, "world") if hasattr(prompt, "space") else prompt)
        if not parts:
            raise PromptError(complain("no prompt", "nothing", "--point, --box, --scribble, --lasso, --mask, --class, "
                                       "--text, --attribute, --example, --prompts",
                                       "Say what to segment, for example with --point i,j,k"))
        listed = [o.object_id for prompts in loaded for o in prompts.objects]
        return PromptSet(tuple(parts), names.objects([*listed, *(p.object_id for p in parts)]),
                         any(prompts.through_slices for prompts in loaded))

    def _typed(self, grid: Grid) -> list[tuple[Any, str, tuple]]:
        """``(constructor, label, arguments before the object id)`` of each typed prompt, option by option."""
        found: list[tuple[Any, str, tuple]] = []
        for text in self.points:
            numbers, positive, label = split_point(text, "point", (2, 3))
            found.append((self._point, label, (place(numbers, grid, self.space, "point"), positive)))
        for text in self.boxes:
            numbers, _, label = split_point(text, "box", (4, 6))
            found.append((lambda n, number: box_of(n, grid, self.space, number), label, (numbers,)))
        for text in self.scribbles:
            path, sign, label = split_file(text, "--scribble")
            found += self._strokes(Scribble, read_strokes(path, grid, merge=bool(label)), sign, label, grid)
        for text in self.lassos:
            strokes, sign, label = _lasso_strokes(text)
            found += self._strokes(Lasso, strokes, sign, label, grid)
        for text in self.masks:
            found.append(_mask(text, grid))
        for text in self.classes:
            name, _, label = (part.strip() for part in text.partition(","))
            found.append((ClassPrompt, label or name, (name,)))
        found += [(TextPrompt, text.strip(), (text,)) for text in self.texts]
        for text in self.attributes:
            name, equals, rest = text.partition("=")
            value, _, label = (part.strip() for part in rest.partition(","))
            if not equals or not name.strip() or not value:
                raise PromptError(complain("--attribute", text, "NAME=VALUE, then a label"))
            found.append((AttributePrompt, label, (name.strip(), value)))
        found += [_example(text) for text in self.examples]
        return found

    def _point(self, position: tuple[float, ...], positive: bool, number: int) -> Point:
        return Point(position, positive, number, self.space)  # type: ignore[arg-type]

    def _strokes(self, kind: Any, strokes: Sequence[Stroke], sign: bool | None, label: str, grid: Grid) -> list:
        """Strokes as prompts; sign and label of the option win over those of the file."""
        found = []
        for stroke in strokes:
            space = "voxel" if stroke.painted else self.space
            rows = stroke.points if stroke.painted else [place(row, grid, space, kind.kind) for row in stroke.points]

            def make(points: Any, positive: bool, number: int, space: str = space) -> Any:
                return kind(points, positive, number, space)

            found.append((make, label or stroke.label, (rows, stroke.positive if sign is None else sign)))
        return found


def _prompt_file(path: Path) -> PromptSet:
    place_ = Path(path).expanduser()
    if not place_.is_file():
        raise NotFoundError(complain("--prompts", str(path), "an existing JSON file of a prompt set"))
    try:
        return PromptSet.from_json(place_.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise PromptError(complain(f"--prompts {place_.name}", str(error), "a JSON text file")) from error


def _example(text: str) -> tuple[Any, str, tuple]:
    """``IMAGE;MASK[=value][,label]`` as a reference prompt."""
    image, semicolon, rest = text.partition(";")
    name, _, label = (rest, "", "") if is_there(rest) else rest.rpartition(",") if "," in rest else (rest, "", "")
    value = 1
    if not is_there(name) and name.rpartition("=")[2].strip().isdecimal():
        name, value = name.rpartition("=")[0], int(name.rpartition("=")[2])
    for path in (image, name):
        if not semicolon or not path.strip() or not is_there(path):
            raise NotFoundError(complain("--example", text, "IMAGE;MASK, two files that exist, =value, a label"))
    return ReferencePrompt, label.strip(), (str(Path(image).expanduser()), str(Path(name).expanduser()), value)


def _mask(text: str, grid: Grid) -> tuple[Any, str, tuple]:
    """``FILE[=value][,label]`` as a mask prompt on the mask's own grid."""
    from promptzoo.data.io import file_format, read_mask

    name, value, rest = text, None, ""
    if not is_there(text) and "=" in text:
        name, _, tail = text.rpartition("=")
        number, _, rest = tail.partition(",")
        if not number.strip().isdecimal():
            raise PromptError(complain("--mask", text, "FILE=value with an integer value, then a label"))
        value = int(number)
        name += f",{rest}" if rest else ""
    path, sign, label = split_file(name, "--mask")
    if sign is not None:
        raise PromptError(complain("--mask with a sign", text, "FILE=value, then a label"))
    labels, own = read_mask(path)
    found = labels != 0 if value is None else labels == value
    if not found.any():
        raise PromptError(complain(f"empty mask {path.name}", f"no voxel {'but 0' if value is None else f'of {value}'}",
                                   f"one of the values {np.unique(labels)[:8].tolist()}"))
    if own.shape == grid.shape and file_format(path) == "raster":
        own = grid  # a picture carries no geometry: the voxels are what it says
    return (lambda mask, grid_, number: MaskPrompt(mask, grid_, number)), label, (found, own)
