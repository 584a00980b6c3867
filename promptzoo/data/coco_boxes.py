"""Pictures with boxes, as COCO's JSON of detections lists them."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from promptzoo.core.errors import ImageError, NotFoundError, complain


@dataclass(frozen=True, eq=False)
class BoxCase:
    """A picture and its boxes.

    Args:
        name: id of the case.
        path: the picture.
        size: width and height in pixels.
        split: ``train``, ``val``, ``test``, or empty.
        boxes: ``[n, 4]`` float ``x0, y0, x1, y1`` in pixels, half-open.
        names: class of each box.
    """

    name: str
    path: Path
    size: tuple[int, int]
    split: str
    boxes: np.ndarray
    names: tuple[str, ...]


def read_coco(path: str | Path) -> list[BoxCase]:
    """The cases of a COCO file; pictures lie relative to it, ``split`` is read from the images' own key if there.

    Boxes are clipped to the picture; those without an area are left out.

    Raises:
        NotFoundError: if there is no such file.
        ImageError: if it is not COCO's JSON of detections.
    """
    place = Path(path)
    if not place.is_file():
        raise NotFoundError(complain("COCO file", str(path), "an existing JSON file"))
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        boxes: dict[int, list[tuple[list[float], str]]] = {}
        for entry in content["annotations"]:
            boxes.setdefault(entry["image_id"], []).append((entry["bbox"], names[entry["category_id"]]))
        cases = []
        for image in sorted(content["images"], key=lambda entry: str(entry["file_name"])):
            size = (int(image["width"]), int(image["height"]))
            found = np.array([b for b, _ in boxes.get(image["id"], [])], float).reshape(-1, 4)
            found[:, 2:] += found[:, :2]
            found = np.clip(found, 0, [*size, *size])
            keep = (found[:, 2:] > found[:, :2]).all(1)
            told = tuple(name for (_, name), kept in zip(boxes.get(image["id"], []), keep) if kept)
            cases.append(BoxCase(Path(image["file_name"]).stem, place.parent / image["file_name"], size,
                                 str(image.get("split", "")), found[keep], told))
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(complain(f"{place.name} is not a COCO file of boxes", f"{type(error).__name__}: {error}",
                                  "images, annotations and categories")) from error
    return cases
