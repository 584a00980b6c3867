"""Sample studies made by a procedure: a torso CT, a head MR, an ultrasound frame and a microscopy field, with truth.

They serve the server when no studies are given, the pictures of the documentation, and tests. They look real at first
glance; they are no one's anatomy and no substitute for measuring on real scans.
"""
from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import UPRIGHT_AFFINE
from promptzoo.data.io import write_mask
from promptzoo.data.nifti import write_nifti
from promptzoo.data.phantom_head import HEAD_LABELS, Head
from promptzoo.data.phantom_planar import ULTRASOUND_LABELS, nuclei, ultrasound
from promptzoo.data.phantom_shapes import Canvas
from promptzoo.data.phantom_torso import TORSO_LABELS, Torso

Phantom = tuple[Volume, np.ndarray, dict[int, str]]
"""Image, labels ``[i, j, k]`` uint8 on its grid, names by label value (only labels that occur)."""

LEAST_SIZE = 24
"""Fewest voxels along an axis of a phantom: below, the noise fields and organs mean nothing."""


def _checked(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> None:
    if min(shape) < LEAST_SIZE or len(shape) != len(spacing_mm):
        raise PromptZooError(complain("phantom shape", list(shape), f"at least {LEAST_SIZE} voxels along each axis"))
    if not np.isfinite(spacing_mm).all() or min(spacing_mm) <= 0:
        raise PromptZooError(complain("phantom spacing", list(spacing_mm), "positive millimetres"))


def _finished(canvas: Canvas, names: dict[int, str], flips: tuple[bool, bool, bool], meta: dict[str, Any]) -> Phantom:
    """Store a RAS canvas with some axes reversed, as scanners do."""
    affine = np.diag([*canvas.spacing_mm, 1.0])
    affine[:3, 3] = canvas.first_mm
    for axis, flip in enumerate(flips):
        if flip:
            affine[axis, 3] += (canvas.shape[axis] - 1) * canvas.spacing_mm[axis]
            affine[axis, axis] *= -1
    _tidy(canvas.labels)
    turn = tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)
    labels = np.ascontiguousarray(canvas.labels[turn])
    volume = Volume(canvas.values[turn], Grid(canvas.shape, affine), meta)
    return volume, labels, {v: n for v, n in names.items() if (labels == v).any()}


def _tidy(labels: np.ndarray) -> None:
    """Drop specks: parts of a label below 2 % of its largest part, left over where organs cut each other."""
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        view = labels[box]
        parts, count = ndimage.label(view == value)
        if count > 1:
            sizes = np.bincount(parts.ravel())
            sizes[0] = 0
            view[(parts > 0) & (sizes < 0.02 * sizes.max())[parts]] = 0


def torso_ct(seed: int = 0, shape: tuple[int, int, int] = (192, 144, 112),
             spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.5)) -> Phantom:
    """A contrast-enhanced torso in Hounsfield units, stored as DICOM would be (axes L, P, S).

    Args:
        seed: anatomy, texture and noise follow from it.
        shape: voxels from right to left, front to back, feet to head.
        spacing_mm: voxel size; the anatomy keeps its size in mm and is cut off where the volume ends.

    Returns:
        Image, labels, names (liver, spleen, kidneys, aorta …).

    Raises:
        PromptZooError: if the shape is too small or the spacing not positive.
    """
    _checked(shape, spacing_mm)
    canvas = Torso(shape, spacing_mm, seed).build()
    return _finished(canvas, TORSO_LABELS, (True, True, False), {"modality": "CT", "source": f"torso_ct(seed={seed})"})


def head_mr(seed: int = 0, shape: tuple[int, int, int] = (132, 164, 120),
            spacing_mm: tuple[float, float, float] = (1.4, 1.4, 1.5)) -> Phantom:
    """A T1-weighted head after contrast with a ring-enhancing tumour, stored as NIfTI usually is (axes R, A, S).

    Args, returns and errors as :func:`torso_ct`; intensities are arbitrary.
    """
    _checked(shape, spacing_mm)
    canvas = Head(shape, spacing_mm, seed).build()
    return _finished(canvas, HEAD_LABELS, (False, False, False), {"modality": "MR", "source": f"head_mr(seed={seed})"})


def _planar(image: np.ndarray, labels: np.ndarray, names: dict[int, str], meta: dict[str, Any],
            pixel_mm: float) -> Phantom:
    grid = Grid((*image.shape, 1), UPRIGHT_AFFINE @ np.diag([pixel_mm, pixel_mm, 1.0, 1.0]))  # type: ignore[arg-type]
    return Volume(np.round(image)[:, :, None], grid, meta), labels[:, :, None], names


def ultrasound_cyst(seed: int = 0, shape: tuple[int, int] = (384, 320), pixel_mm: float = 0.12) -> Phantom:
    """One ultrasound frame (columns, rows) with a cyst and a solid nodule; grey values 0 to 255.

    Raises:
        PromptZooError: if the shape is too small or the pixel size not positive.
    """
    _checked(shape, (pixel_mm, pixel_mm))
    image, labels = ultrasound(shape, seed)
    meta = {"modality": "US", "source": f"ultrasound_cyst(seed={seed})"}
    return _planar(image, labels, dict(ULTRASOUND_LABELS), meta, pixel_mm)


def microscopy_nuclei(seed: int = 0, shape: tuple[int, int] = (384, 320)) -> Phantom:
    """A field of fluorescent nuclei (columns, rows), one label per nucleus; grey values 0 to 255, 1 mm pixels as a PNG.

    Raises:
        PromptZooError: if the shape is too small.
    """
    _checked(shape, (1.0, 1.0))
    image, labels = nuclei(shape, seed)
    names = {int(v): f"nucleus {v}" for v in np.unique(labels) if v}
    return _planar(image, labels, names, {"modality": "microscopy", "source": f"microscopy_nuclei(seed={seed})"}, 1.0)


def inner_point(mask: np.ndarray) -> tuple[int, int, int]:
    """The voxel of a mask ``[i, j, k]`` that lies deepest inside: a good first click.

    Axes along which the mask is one voxel thick do not count.

    Raises:
        PromptZooError: if the mask is empty.
    """
    if not mask.any():
        raise PromptZooError(complain("inner point of an empty mask", "no voxel", "at least one voxel"))
    box = ndimage.find_objects(mask)[0]
    step = 2 if mask[box].size > 200_000 else 1  # on large organs half the resolution is enough
    inside = mask[box][::step, ::step, ::step]
    if not inside.any():
        step, inside = 1, mask[box]
    pads = [(int(n > 1),) * 2 for n in inside.shape]
    depth = ndimage.distance_transform_edt(np.pad(inside, pads))
    found = np.unravel_index(int(depth.argmax()), depth.shape)
    return tuple((int(f) - p[0]) * step + s.start for f, p, s in zip(found, pads, box))


def write_sample_studies(folder: str | Path, truth: str | Path | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Write the four sample studies.

    Args:
        folder: where the images go: ``torso_ct.nii.gz``, ``head_mr.nii.gz``, ``ultrasound_cyst.nii.gz``,
            ``nuclei.png``. Nothing else is written there, so that a server takes nothing for a saved annotation.
        truth: where the label maps go, and an ``index.csv`` with the columns that ``promptzoo bench`` reads, paths
            relative to it; default the hidden folder ``.<name of folder>_truth`` beside ``folder``.
        seed: of all phantoms.

    Returns:
        One record per study: ``id``, ``image`` and ``mask`` (paths), ``modality``, ``names`` (by label value) and
        ``clicks`` (a good first click per name, voxel indices).
    """
    images = Path(folder).expanduser().resolve()
    masks = Path(truth).expanduser().resolve() if truth else images.parent / f".{images.name}_truth"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    makers = (("torso_ct", ".nii.gz", torso_ct), ("head_mr", ".nii.gz", head_mr),
              ("ultrasound_cyst", ".nii.gz", ultrasound_cyst), ("nuclei", ".png", microscopy_nuclei))
    for name, suffix, make in makers:
        volume, labels, names = make(seed)
        image, mask = images / (name + suffix), masks / (name + suffix)
        if suffix == ".png":
            Image.fromarray(volume.data[:, :, 0].T.astype(np.uint8)).save(image)
        else:
            _write_compressed(image, volume)
        write_mask(mask, labels, volume.grid, names=names)
        records.append({"id": name, "image": str(image), "mask": str(mask), "modality": volume.meta["modality"],
                        "names": names, "clicks": {n: inner_point(labels == v) for v, n in names.items()}})
    _write_index(masks / "index.csv", records)
    return records


def _write_compressed(path: Path, volume: Volume) -> None:
    """A 16-bit NIfTI with light compression: half the writing time for a tenth more bytes."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    write_nifti(plain, volume.data.astype(np.int16), volume.grid)
    with gzip.GzipFile(path, "wb", compresslevel=3, mtime=0) as stream:
        stream.write(plain.read_bytes())
    plain.unlink()


def _write_index(path: Path, records: list[dict[str, Any]]) -> None:
    columns = ["id", "case", "task", "modality", "image", "mask", "label_value", "label_name", "licence_class",
               "source"]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for record in records:
            task = "seg2d" if record["id"] in ("ultrasound_cyst", "nuclei") else "seg3d"
            files = [os.path.relpath(record[key], path.parent) for key in ("image", "mask")]
            for value, name in record["names"].items():
                writer.writerow([f"{record['id']}:{name}", record["id"], task, record["modality"], *files, value, name,
                                 "open", "procedural"])
