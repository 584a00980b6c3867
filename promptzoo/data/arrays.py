"""What all readers share: one 3D array out of whatever a file holds, its grid, and exact moves between grids."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from promptzoo.core.errors import GeometryError, ImageError, NotFoundError, complain
from promptzoo.core.geometry import Grid, Reorientation

ALIGNMENT_TOLERANCE_VOX = 0.02
"""Two grids are aligned when voxel centres meet within this fraction of a voxel: more than the rounding of decimal
strings in DICOM and NRRD headers, far less than a half-voxel mistake."""

LABEL_TOLERANCE = 1e-3
"""A mask stored as floats may miss whole numbers by this much (rounding of intensity scaling)."""

UPRIGHT_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Affine of images without geometry (PNG, JPEG, plain X-ray): voxel ``(x, y, 0)`` is column x, row y, 1 mm each;
columns grow to the patient's left and rows to the back (LPS), so viewers show the picture upright."""


def one_volume(array: np.ndarray, frame: int | None, source: str) -> np.ndarray:
    """The 3D array ``[i, j, k]`` in a file's array.

    Args:
        array: 2 to 5 dimensions; axes behind the third count volumes (time, echo, channel).
        frame: which volume, counted over all axes behind the third, the fourth axis fastest; None where there is one.
        source: name of the file, for messages.

    Raises:
        ImageError: if the array is empty, one-dimensional or complex, holds several volumes and none is chosen, or the
            chosen one does not exist.
    """
    if array.size == 0 or array.ndim < 2:
        raise ImageError(complain(f"{source} holds no image", f"an array of shape {list(array.shape)}", "2D or 3D"))
    if array.dtype.kind not in "buif":
        raise ImageError(complain(f"{source} has unusable voxels", str(array.dtype), "integers or real numbers",
                                  "Save the magnitude image first"))
    if array.ndim == 2:
        array = array[:, :, None]
    volumes = array.reshape(*array.shape[:3], -1, order="F") if array.ndim > 3 else array[..., None]
    count = volumes.shape[3]
    if frame is None:
        if count > 1:
            raise ImageError(complain(
                f"{source} is {array.ndim}D and holds {count} volumes", f"shape {list(array.shape)}",
                "one 2D or 3D image", f"Choose one: '{source}#t=0' … '#t={count - 1}', or the argument frame"))
        frame = 0
    if not 0 <= frame < count:
        raise ImageError(complain(f"volume index for {source}", frame, f"0 … {count - 1}"))
    return volumes[..., frame]


def grid_of(shape: tuple[int, ...], affine: np.ndarray, source: str) -> Grid:
    """The grid of a file, with the file's name in the error.

    Raises:
        ImageError: if shape or affine are unusable.
    """
    try:
        return Grid(shape, affine)  # type: ignore[arg-type]
    except GeometryError as error:
        raise ImageError(f"{source}: {error}") from error


def whole_labels(array: np.ndarray, source: str) -> np.ndarray:
    """Label values as integers: uint8, uint16 or int32, whichever is the smallest that fits.

    Raises:
        ImageError: if a value is not a whole number or too large.
    """
    if array.dtype.kind == "f":
        rounded = np.round(array)
        if not np.isfinite(array).all() or np.abs(array - rounded).max(initial=0.0) > LABEL_TOLERANCE:
            raise ImageError(complain(f"{source} is not a label map", "fractional or non-finite values",
                                      "whole numbers", "Threshold the probability map first"))
        array = rounded
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    for kind in (np.uint8, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.ascontiguousarray(array, dtype=kind)
    raise ImageError(complain(f"{source} holds too large labels", [low, high], "32-bit integers"))


def luminance(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Split colours ``[..., 3]`` into luminance ``[...]`` float32 (ITU-R BT.601) and the colours (None if grey)."""
    if (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all():
        return rgb[..., 0].astype(np.float32), None
    return (rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)), rgb


def onto_grid(array: np.ndarray, source: Grid, target: Grid, what: str = "mask") -> np.ndarray:
    """Copy voxels to another grid whose voxel centres coincide: flips, axis swaps, crops and pads, never resampling.

    Args:
        array: ``[i, j, k]`` on ``source``.
        source: where the voxels are.
        target: where they are wanted; voxels outside are dropped, missing ones become 0.
        what: name for the message.

    Returns:
        ``[i, j, k]`` on ``target``, same type.

    Raises:
        ImageError: if the two grids are not aligned, or if dropping would lose non-zero voxels.
    """
    move = target.inverse @ source.affine
    order = np.abs(move[:3, :3]).argmax(axis=1)
    signs = np.sign(move[np.arange(3), order])
    expected = np.zeros((3, 3))
    expected[np.arange(3), order] = signs
    reach = np.abs(move[:3, :3] - expected) @ (np.asarray(source.shape) - 1.0)
    shift = np.round(move[:3, 3])
    if (len(set(order.tolist())) < 3
            or (reach + np.abs(move[:3, 3] - shift)).max() > ALIGNMENT_TOLERANCE_VOX):
        raise ImageError(complain(
            f"{what} is not aligned with the image", f"shape {list(source.shape)}, spacing "
            f"{np.round(source.spacing_mm, 4).tolist()} mm, axes {''.join(source.axis_codes)}",
            f"a grid that shares voxel centres with shape {list(target.shape)}, spacing "
            f"{np.round(target.spacing_mm, 4).tolist()} mm, axes {''.join(target.axis_codes)}",
            "Resample it onto the image's grid first"))
    step = Reorientation(tuple(int(a) for a in order), tuple(bool(s < 0) for s in signs))  # type: ignore[arg-type]
    moved = step.array(array)
    low = np.where(signs < 0, shift - (np.asarray(moved.shape) - 1), shift).astype(int)
    result = np.zeros(target.shape, dtype=array.dtype)
    here = tuple(slice(max(0, a), max(0, min(n, a + m))) for a, n, m in zip(low, target.shape, moved.shape))
    there = tuple(slice(s.start - a, s.stop - a) if s.stop > s.start else slice(0, 0) for s, a in zip(here, low))
    if all(s.stop > s.start for s in here):
        result[here] = moved[there]
    lost = np.count_nonzero(array) - np.count_nonzero(result)
    if lost:
        raise ImageError(complain(f"{what} reaches beyond the image", f"{lost} voxels outside", "none",
                                  "Give the image that it was drawn on"))
    return result


def file_stem(path: Path) -> str:
    """Name of a file without its image suffix: ``a.b.nii.gz`` gives ``a.b``."""
    name = path.name
    for suffix in (".seg.nrrd", ".nii.gz"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def split_frame(path: str | Path, frame: int | None = None) -> tuple[Path, int | None]:
    """Split ``path#t=3`` into the path and the volume index 3.

    Args:
        path: a path, with or without ``#t=N``; a file that really has such a name is taken as it is.
        frame: the index given in another way.

    Raises:
        NotFoundError: if there is no such file or folder.
        ImageError: if two different indices are given, or the file has 0 bytes.
    """
    chosen = re.fullmatch(r"(.+)#t=(\d+)", str(path))
    if chosen and not Path(path).exists():
        if frame is not None and frame != int(chosen[2]):
            raise ImageError(complain("volume chosen twice", f"{path} and frame={frame}", "one of them"))
        path, frame = chosen[1], int(chosen[2])
    place = Path(path).expanduser()
    if not place.exists():
        raise NotFoundError(complain("image or mask file", str(place), "an existing file or DICOM folder",
                                     "Check the path"))
    if place.is_file() and place.stat().st_size == 0:
        raise ImageError(complain(f"{place.name} is empty", "0 bytes", "an image file"))
    return place, frame
