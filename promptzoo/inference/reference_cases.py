"""Finished cases as prompts: where they are read from, and the slice of them that is shown to a network."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptzoo.core.errors import NotFoundError, PromptError, PromptZooError, complain
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import onto_grid
from promptzoo.data.io import file_format, read_image, read_mask
from promptzoo.inference.state import EncodedImage
from promptzoo.prompts.types import PromptSet, ReferencePrompt

ROOT_VARIABLE = "PROMPTZOO_REFERENCES"
"""In a server: the only folder from which cases are read, so that a request cannot name other files of the machine."""


def _place(name: str, what: str) -> Path:
    root = os.environ.get(ROOT_VARIABLE)
    path = Path(name).expanduser() if root is None else (Path(root) / name).resolve()
    if root is not None and not path.is_relative_to(Path(root).resolve()):
        raise PromptError(complain(what, name, "a file among the studies of this server"))
    if not path.exists():
        raise NotFoundError(complain(what, name, "an existing image and mask"))
    return path


def stamps(prompt: ReferencePrompt) -> tuple[int, ...]:
    """When the files behind a reference prompt were last written, nanoseconds; 0 for one that is not there."""
    found = []
    for name in (prompt.image, prompt.mask):
        try:
            found.append(_place(name, "reference").stat().st_mtime_ns)
        except (PromptZooError, OSError):
            found.append(0)
    return tuple(found)


def written(prompts: PromptSet) -> str:
    """The files behind the reference prompts of a set, and when they were last written."""
    told = {f"{prompt.image} {prompt.mask} {stamps(prompt)}"  # type: ignore[attr-defined,arg-type]
            for prompt in prompts.of("reference")}
    return "; ".join(sorted(told))


EXAMPLE_KINDS = frozenset({"point", "box", "scribble", "lasso", "mask"})
"""Kinds of prompt that may stand for the mask of a finished case."""


def open_example(prompt: ReferencePrompt) -> tuple[Volume, np.ndarray | PromptSet]:
    """Image of a reference prompt, and its mask as :func:`open_case` gives it; or, where a JSON file of a prompt set
    stands for the mask, the prompts of the object whose number is the label's, in world space.

    Raises:
        NotFoundError, ImageError, PromptError: as :func:`open_case`; also if the prompts are of other kinds than
            :data:`EXAMPLE_KINDS`, not fit the image, or do not speak of the object.
    """
    if Path(prompt.mask).suffix.lower() != ".json":
        return open_case(prompt)
    volume = read_image(_place(prompt.image, "reference image"))
    read = PromptSet.from_json(_place(prompt.mask, "reference prompts").read_text())
    return volume, read.for_object(prompt.label_value).check_on(volume.grid, EXAMPLE_KINDS).to_world(volume.grid)


def open_case(prompt: ReferencePrompt) -> tuple[Volume, np.ndarray]:
    """Image and mask ``[i, j, k]`` bool, on the image's grid, of a reference prompt.

    Raises:
        NotFoundError: if a file does not exist.
        ImageError: if one cannot be read, or they do not fit each other.
        PromptError: if the label does not occur, or the file may not be read here.
    """
    image, mask = _place(prompt.image, "reference image"), _place(prompt.mask, "reference mask")
    volume = read_image(image)
    labels, grid = read_mask(mask)
    found = labels == prompt.label_value
    if file_format(mask) == "raster" and not found.any():
        found = labels != 0  # a picture of one mask is often 0 and 255
    if not found.any():
        raise PromptError(complain(f"label {prompt.label_value} in {mask.name}", "no voxel",
                                   f"one of {np.unique(labels)[:8].tolist()}"))
    if grid.shape != volume.grid.shape or not (grid.same_space(volume.grid) or file_format(mask) == "raster"):
        found = onto_grid(found, grid, volume.grid, f"mask {mask.name}")
    return volume, found


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of a case in canonical order: ``image`` ``[*S]``, ``mask`` ``[*S]`` bool or None, ``spacing``
    millimetres, whether in Hounsfield units, the axis across it and its index."""

    image: np.ndarray
    mask: np.ndarray | None
    spacing: np.ndarray
    hounsfield: bool
    axis: int
    index: int


def plane_of(state: EncodedImage, axis: int, index: int, mask: np.ndarray | None = None) -> Plane:
    """A slice of an encoded image; ``mask`` is in canonical order."""
    return Plane(np.take(state.data, index, axis), None if mask is None else np.take(mask, index, axis),
                 np.delete(np.asarray(state.canonical.spacing_mm), axis), state.hounsfield, axis, index)


def largest_plane(volume: Volume, mask: np.ndarray, axis: int | None = None) -> Plane:
    """The slice with most of the mask; across ``axis`` of the canonical order, by default the last, or the only one."""
    state = EncodedImage.of(volume)
    own = np.ascontiguousarray(state.move.array(mask))
    across = int(np.argmin(own.shape)) if state.canonical.is_2d else 2 if axis is None else axis
    index = int(own.sum(tuple(a for a in range(3) if a != across)).argmax())
    return plane_of(state, across, index, own)
