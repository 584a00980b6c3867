"""The scribbles of 3D Slicer: a label map of all segments, in which two segments are the strokes."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid
from promptzoo.data.io import read_labels
from promptzoo.prompts.types import MaskPrompt, Scribble

FOREGROUND, BACKGROUND = "foreground_scribbles", "background_scribbles"
"""Names that Slicer's MONAI Label module gives the two layers of strokes."""


@dataclass(frozen=True)
class ScribbleFile:
    """An uploaded label map and what the request says of it.

    Args:
        path: the file.
        selected: name of the segment that the strokes are for; empty if not told.
        info: ``[{"name", "id"}, …]``, the value of each segment.
        label_count: number of labels of the task; without ``info`` the strokes have the next two values.
    """

    path: Path
    selected: str
    info: Sequence[Mapping[str, Any]]
    label_count: int

    def values(self, names: Mapping[int, str]) -> dict[str, int]:
        """Label value by segment name: from ``info``, else from the file's ``names``, else by MONAI Label's rule."""
        known = {BACKGROUND: self.label_count + 1, FOREGROUND: self.label_count + 2}
        known.update({name: value for value, name in names.items()})
        for entry in self.info:
            value = entry.get("id", entry.get("idx"))
            if isinstance(value, int) and not isinstance(value, bool):
                known[str(entry.get("name"))] = value
        return known


def read_scribbles(file: ScribbleFile, object_id: int, grid: Grid, with_mask: bool) -> list[Scribble | MaskPrompt]:
    """The strokes of a scribble file, and the present mask of the selected segment as a mask to refine.

    Args:
        file: the file and its description.
        object_id: the object that the strokes are for.
        grid: of the image; the file may be flipped or cropped against it.
        with_mask: whether the bundle takes mask prompts.

    Returns:
        At most one positive and one negative scribble, and at most one mask.

    Raises:
        ImageError: if the file cannot be read or does not lie on the image.
        PromptError: if there is no stroke in it.
    """
    labels, _, names = read_labels(file.path, reference=grid)
    values = file.values(names)
    prompts: list[Scribble | MaskPrompt] = []
    if with_mask and file.selected in values:
        mask = labels == values[file.selected]
        if mask.any():
            prompts.append(MaskPrompt(mask, grid, object_id))
    layers = ((FOREGROUND, True), (BACKGROUND, False))
    strokes = [Scribble(rows, positive, object_id, "voxel") for name, positive in layers
               if len(rows := np.argwhere(labels == values[name]))]
    if not strokes:
        raise PromptError(complain(
            "label file without scribbles", f"values {np.unique(labels).tolist()}",
            f"{values[FOREGROUND]} for foreground and {values[BACKGROUND]} for background strokes",
            "Draw a stroke, or name the values in label_info"))
    return [*prompts, *strokes]
