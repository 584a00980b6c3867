"""From an answer to what clients of MONAI Label read: a label map in the wanted format, and its description."""
from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from promptzoo.cli.server.service import Answer
from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.data.colors import OBJECT_COLORS
from promptzoo.data.io import write_mask
from promptzoo.data.nifti import write_nifti
from promptzoo.prompts.types import PromptSet

EXTENSIONS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".png")
DTYPES = ("uint8", "uint16", "int16", "int32", "float32")


def labelmap(answer: Answer, request: Mapping[str, Any]) -> np.ndarray:
    """The masks as one label map ``[i, j, k]``; voxel value = object id.

    Args:
        answer: the masks.
        request: ``result_dtype`` (default uint8, uint16 if an id needs it) and ``overlap`` (default ``last``).

    Raises:
        ImageError: for a type that is unknown or too small for the object ids.
    """
    labels = answer.prediction.labelmap(request.get("overlap") or "last")
    largest = max((entry.object_id for entry in answer.prediction.objects), default=0)
    wanted = request.get("result_dtype") or ("uint8" if largest < 256 else "uint16")
    if wanted not in DTYPES or (wanted == "uint8" and largest > 255):
        raise ImageError(complain("result_dtype", f"{wanted} for object ids up to {largest}", ", ".join(DTYPES)))
    return labels.astype(wanted, order="F")  # the order of NIfTI and NRRD files: written several times faster


def label_names(answer: Answer, labels: np.ndarray) -> dict[str, int]:
    """Name to value of the objects that are in the label map, by value.

    Objects with an empty mask are left out: 3D Slicer gives the names by position among the values that it finds.
    """
    counts = voxel_counts(answer, labels)
    return {name: number for number, name in sorted(object_names(answer).items()) if counts.get(number)}


def voxel_counts(answer: Answer, labels: np.ndarray) -> dict[int, int]:
    """Voxels of every object in the label map, by object id; looks only where the object was predicted."""
    return {entry.object_id: int(np.count_nonzero(labels[entry.region] == entry.object_id))
            for entry in answer.prediction.objects}


def object_names(answer: Answer) -> dict[int, str]:
    """A name for every object; unnamed and equally named ones get their number."""
    names: dict[int, str] = {}
    for entry in answer.prompts.objects:
        name = entry.name or f"object {entry.object_id}"
        names[entry.object_id] = name if name not in names.values() else f"{name} {entry.object_id}"
    return names


def describe(answer: Answer, labels: np.ndarray) -> dict[str, Any]:
    """The JSON beside the label map: names, estimated Dice and generated prompts per object, seconds, engine, bundle
    and its version."""
    names, counts = object_names(answer), voxel_counts(answer, labels)
    objects = [{"id": entry.object_id, "name": names.get(entry.object_id, ""), "voxels": counts[entry.object_id],
                "estimated_dice": None if entry.estimated_dice is None else round(float(entry.estimated_dice), 4),
                **generated(entry)}
               for entry in answer.prediction.objects]
    for told, entry in zip(objects, answer.prediction.objects):
        if (box := corrected_box(entry)) is not None:
            told["corrected_box"] = box
    description: dict[str, Any] = {
        "label_names": label_names(answer, labels), "objects": objects,
        "estimated_dice": {entry["name"]: entry["estimated_dice"] for entry in objects},
        "seconds": {name: round(value, 4) for name, value in answer.seconds.items()},
        "engine": answer.prediction.engine, "bundle": answer.bundle.name, "bundle_version": answer.bundle.version,
        "warm_start": answer.warm_start}
    if answer.reason:
        description["reason"] = answer.reason
    return description


def corrected_box(entry: ObjectPrediction) -> dict[str, Any] | None:
    """The box that a bundle used in place of the given one, as the JSON of a prompt in voxels of the image, or None."""
    box = entry.info.get("corrected_box")
    return None if box is None else PromptSet((box,)).to_json()["prompts"][0]


def generated(entry: ObjectPrediction) -> dict[str, Any]:
    """The prompts that a bundle made by itself for an object, ``{"generated": prompt set}``; empty if it made none."""
    told = entry.info.get("generated")
    return {"generated": json.loads(told)} if told else {}


def extension(request: Mapping[str, Any], image: Path) -> str:
    """The suffix of the result: as wanted, else that of the image if masks can be written so, else ``.nii.gz``.

    Raises:
        ImageError: for a suffix that cannot be written.
    """
    wanted = request.get("result_extension")
    if not wanted:
        own = next((suffix for suffix in EXTENSIONS[:-1] if image.name.lower().endswith(suffix)), "")
        return own or (".nrrd" if image.is_file() else ".nii.gz")
    if wanted not in EXTENSIONS:
        raise ImageError(complain("result_extension", wanted, ", ".join(EXTENSIONS)))
    return str(wanted)


def write_labels(labels: np.ndarray, grid: Grid, names: Mapping[str, int], suffix: str, compress: bool,
                 folder: Path) -> Path:
    """Write a label map under a new name.

    Args:
        labels: ``[i, j, k]``.
        grid: of the image.
        names: value by name, for formats that carry names.
        suffix: one of :data:`EXTENSIONS`.
        compress: whether ``.nrrd`` is gzip-compressed; viewers in a browser read it raw.
        folder: where; must exist.
    """
    handle, name = tempfile.mkstemp(suffix=suffix, dir=folder)
    os.close(handle)
    path = Path(name)
    if suffix == ".nrrd":
        _write_nrrd(path, labels, grid, compress)
    elif suffix.startswith(".nii"):
        write_nifti(path, labels, grid)
    else:
        write_mask(path, labels, grid, names={value: key for key, value in names.items()})
    return path


def _write_nrrd(path: Path, labels: np.ndarray, grid: Grid, compress: bool) -> None:
    if compress:
        from promptzoo.data.nrrd_files import write_nrrd

        write_nrrd(path, labels, grid, colors=list(OBJECT_COLORS))
        return
    import nrrd

    from promptzoo.core.geometry import LPS_TO_RAS

    affine = LPS_TO_RAS @ grid.affine
    nrrd.write(str(path), labels, {
        "space": "left-posterior-superior", "space directions": affine[:3, :3].T, "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3, "encoding": "raw"}, index_order="F")
