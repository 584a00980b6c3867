"""NIfTI and MGH files through nibabel, whose affine already is the RAS+ frame of promptzoo."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.optional import require
from promptzoo.data.arrays import grid_of, luminance, one_volume

SHEAR_TOLERANCE = 1e-4
"""Largest cosine between two axes up to which the quaternion of NIfTI's qform can carry an affine."""


def read_nifti(path: Path, frame: int | None = None) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """Read ``.nii``, ``.nii.gz``, ``.hdr/.img``, ``.mgz`` or ``.mgh``.

    Args:
        path: the file.
        frame: which volume of a 4D file.

    Returns:
        Array ``[i, j, k]`` (stored type where no scaling is set, else float32), grid, meta.

    Raises:
        ImageError: if the file is broken, empty, 4D without ``frame``, or has unusable geometry.
    """
    nib = require("nibabel", "reading NIfTI")
    meta: dict[str, Any] = {}
    try:
        image = nib.load(path, mmap=False)  # a mapped array would break when its file is written again
        raw = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel, gzip, zlib and numpy each raise their own
        raise ImageError(complain(f"cannot read {path.name} as NIfTI or MGH", f"{type(error).__name__}: {error}",
                                  "a complete file", "Check that it was copied or downloaded entirely")) from error
    if raw.dtype.names:  # NIfTI RGB24 / RGBA32
        raw, rgb = luminance(np.stack([raw[name] for name in raw.dtype.names[:3]], axis=-1))
        if rgb is not None and np.prod(raw.shape[2:]) == 1:
            meta["rgb"] = rgb.reshape(*raw.shape[:2], 3)
    array = one_volume(raw, frame, path.name)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return array, grid_of(array.shape, image.affine, path.name), meta


def write_nifti(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write an array ``[i, j, k]`` with the grid's affine as sform, and as qform where a quaternion can carry it."""
    nib = require("nibabel", "writing NIfTI")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    kind = nib.freesurfer.MGHImage if path.suffix.lower() in (".mgz", ".mgh") else nib.Nifti1Image
    image = kind(array, grid.affine)
    if kind is nib.Nifti1Image:
        cosines = grid.directions.T @ grid.directions - np.eye(3)
        image.set_sform(grid.affine, code=1)
        image.set_qform(grid.affine, code=1 if np.abs(cosines).max() < SHEAR_TOLERANCE else 0)
        image.header.set_xyzt_units("mm")
    nib.save(image, path)
