"""Files of strokes and outlines: label maps, colour pictures, JSON, CSV."""
from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from promptzoo.core.errors import PromptError, complain
from promptzoo.core.geometry import Grid

_FORMS = ('JSON: [[i,j,k], …] or {"points": [[i,j,k], …], "positive": true, "label": "liver"} or a list of these; CSV: '
          "i,j,k[,+|-][,label] a row")
_SIGNS = {"+": True, "-": False, "1": True, "0": False, "true": True, "false": False, "": True}


@dataclass(frozen=True)
class Stroke:
    """A stroke or outline.

    Args:
        points: rows of two or three coordinates.
        positive: whether it adds to the object.
        label: object id or name; empty if the file does not say.
        painted: whether the points are voxels of the image, whatever the space of typed coordinates.
    """

    points: Sequence[Sequence[float]] | np.ndarray
    positive: bool = True
    label: str = ""
    painted: bool = False


def read_strokes(path: Path, grid: Grid | None, merge: bool = False) -> list[Stroke]:
    """Read strokes.

    Args:
        path: ``.json``, ``.csv``, ``.txt``, or an image. In a label map the voxels of value ``n`` are a stroke of
            object ``n``; in a colour picture red is positive and green negative (MedScribble's way).
        grid: the image's grid, onto which label maps are brought; None if images are not accepted.
        merge: take all non-zero voxels of a label map as one stroke, because its object is named elsewhere.

    Raises:
        PromptError: if the file has another form or holds no stroke.
        ImageError: if a label map cannot be read or does not lie on the image's grid.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        strokes = _from_json(path)
    elif suffix in (".csv", ".txt"):
        strokes = _from_csv(path)
    elif grid is None:
        raise PromptError(complain("outline file", path.name, _FORMS))
    else:
        strokes = _from_image(path, grid, merge)
    if not strokes or not all(len(s.points) for s in strokes):
        raise PromptError(complain(f"no stroke in {path.name}", "no points", "at least one point", "Draw it again"))
    return strokes


def coordinates(rows: Any, source: str) -> list[list[float]]:
    """Rows of two or three numbers.

    Raises:
        PromptError: if they are something else.
    """
    try:
        values = [[float(v) for v in row] for row in rows]
    except (TypeError, ValueError):
        raise PromptError(complain(f"coordinates in {source}", str(rows)[:80], _FORMS)) from None
    if any(len(row) not in (2, 3) for row in values):
        raise PromptError(complain(f"coordinates in {source}", str(rows)[:80], "two or three numbers a point"))
    return values


def _from_json(path: Path) -> list[Stroke]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PromptError(complain(f"{path.name} is not JSON", str(error), _FORMS)) from error
    entries = content if isinstance(content, list) else [content]
    if entries and not any(isinstance(entry, dict) for entry in entries):
        return [Stroke(coordinates(entries, path.name))]
    strokes = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("points"), list):
            raise PromptError(complain(f"stroke in {path.name}", str(entry)[:80], _FORMS))
        positive = entry.get("positive", True)
        if not isinstance(positive, bool):
            raise PromptError(complain(f"sign in {path.name}", positive, "true or false"))
        strokes.append(Stroke(coordinates(entry["points"], path.name), positive, str(entry.get("label", ""))))
    return strokes


def _from_csv(path: Path) -> list[Stroke]:
    """Rows of the same sign and label are one stroke."""
    found: dict[tuple[bool, str], list[list[float]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    for number, row in enumerate(rows):
        numbers: list[float] = []
        for cell in row[:3]:
            try:
                numbers.append(float(cell))
            except ValueError:
                break
        if not numbers and number == 0:
            continue  # a header
        rest = row[len(numbers):]
        sign = rest.pop(0).lower() if rest and rest[0].lower() in _SIGNS else "+"
        if len(numbers) < 2 or len(rest) > 1:
            raise PromptError(complain(f"row {number + 1} of {path.name}", ",".join(row), _FORMS))
        found.setdefault((_SIGNS[sign], rest[0] if rest else ""), []).append(numbers)
    return [Stroke(points, sign, label) for (sign, label), points in found.items()]


def _from_image(path: Path, grid: Grid, merge: bool) -> list[Stroke]:
    from promptzoo.data.io import RASTER, read_image, read_labels

    if path.name.lower().endswith(RASTER):
        picture = read_image(path)
        if picture.grid.shape != grid.shape:
            raise PromptError(complain(f"scribble picture {path.name}", list(picture.grid.shape), str(grid.shape)))
        colors = picture.meta.get("rgb")
        if colors is not None:
            places = [(np.argwhere(colors[..., channel] > 127), sign) for channel, sign in ((0, True), (1, False))]
            return [Stroke(np.pad(p, ((0, 0), (0, 1))), sign, painted=True) for p, sign in places if len(p)]
    labels = read_labels(path, reference=None if path.name.lower().endswith(RASTER) else grid)[0]
    if merge or (path.name.lower().endswith(RASTER) and set(np.unique(labels)) <= {0, 255}):
        labels = (labels != 0).astype(np.uint8)  # a black and white picture is one object, not the 255th
    return [Stroke(np.argwhere(labels == value), True, str(value), True)
            for value in np.unique(labels[labels != 0]).tolist()]
