"""NRRD through pynrrd (with Slicer's segmentation fields) and MetaImage through SimpleITK.

Both formats speak LPS or name their frame; promptzoo gets RAS+. Reference: http://teem.sourceforge.net/nrrd/format.html
and, for ``.seg.nrrd``, Slicer's vtkMRMLSegmentationStorageNode.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import LPS_TO_RAS, Grid
from promptzoo.core.optional import require
from promptzoo.data.arrays import grid_of, luminance, one_volume

_SPACE_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
}
_COLOR_KINDS = {"rgb-color": 3, "rgba-color": 4}


def _load(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    nrrd = require("nrrd", "reading NRRD")
    try:
        return nrrd.read(str(path), index_order="F")
    except Exception as error:  # pynrrd, zlib and numpy each raise their own
        raise ImageError(complain(f"cannot read {path.name} as NRRD", f"{type(error).__name__}: {error}",
                                  "a complete file with a valid header")) from error


def _affine(header: Mapping[str, Any], axes: list[int], path: Path) -> np.ndarray:
    """RAS+ affine of the three (or two) spatial axes ``axes`` of the stored array."""
    space = str(header.get("space", "left-posterior-superior")).lower()
    signs = _SPACE_TO_RAS.get(space.removesuffix("-time"))
    if signs is None:
        raise ImageError(complain(f"{path.name}: NRRD space", space, ", ".join(_SPACE_TO_RAS)))
    affine = np.eye(4)
    if header.get("space directions") is not None:
        vectors = np.asarray(header["space directions"], dtype=float)[axes, :3]
        affine[: vectors.shape[1], : len(axes)] = vectors.T
    else:
        spacings = np.asarray(header.get("spacings", np.ones(max(axes) + 1)), dtype=float)[axes]
        affine[range(len(axes)), range(len(axes))] = np.where(np.isfinite(spacings), spacings, 1.0)
    if len(axes) == 2 and abs(np.linalg.det(affine[:3, :3])) < 1e-12:  # a slice standing upright in 3D space
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
    origin = np.nan_to_num(np.asarray(header.get("space origin", (0, 0, 0)), dtype=float))
    affine[: len(origin), 3] = origin
    return np.diag([*signs, 1.0]) @ affine


def _spatial_axes(array: np.ndarray, header: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """The spatial axes of a stored array and the others, by ``space directions``, else by ``kinds``, else the first."""
    count = array.ndim
    kinds = [str(k).lower() for k in header.get("kinds", ["domain"] * count)]
    directions = header.get("space directions")
    if directions is not None:
        rows = np.asarray(directions, dtype=float)
        spatial = [a for a in range(count) if np.isfinite(rows[a]).all()]
    else:
        spatial = [a for a in range(count) if kinds[a] in ("domain", "space", "???", "none", "")][:3]
    return spatial[:3], [a for a in range(count) if a not in spatial[:3]]


def read_nrrd(path: Path, frame: int | None = None) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """Read ``.nrrd`` or ``.nhdr``.

    Args:
        path: the file.
        frame: which volume of a 4D file.

    Returns:
        Array ``[i, j, k]`` of the stored type, grid in RAS+, meta (``rgb`` for a colour slice).

    Raises:
        ImageError: if the file is broken, 4D without ``frame``, in an unknown space or has unusable geometry.
    """
    array, header = _load(path)
    spatial, other = _spatial_axes(array, header)
    kinds = [str(k).lower() for k in header.get("kinds", [""] * array.ndim)]
    meta: dict[str, Any] = {}
    color = next((a for a in other if kinds[a] in _COLOR_KINDS), None)
    if color is not None:
        array, rgb = luminance(np.moveaxis(array, color, -1)[..., :3])
        spatial_now = [a - (a > color) for a in spatial]
        other_now = [a - (a > color) for a in other if a != color]
        if rgb is not None and array.ndim == 2:
            meta["rgb"] = rgb.astype(np.uint8)
    else:
        spatial_now, other_now = spatial, other
    moved = np.transpose(array, spatial_now + other_now)
    if len(spatial_now) == 2:
        moved = moved[:, :, None]
    affine = _affine(header, spatial, path)
    volume = one_volume(moved, frame, path.name)
    return volume, grid_of(volume.shape, affine, path.name), meta


def read_nrrd_labels(path: Path) -> tuple[np.ndarray, Grid, dict[int, str]]:
    """Read a label map; a Slicer segmentation with overlapping layers is flattened, later segments on top.

    Returns:
        Labels ``[i, j, k]``, grid, and the segment names by label value. When a label value occurs in more than one
        layer, values are numbered anew from 1 in the order of the segments.

    Raises:
        ImageError: as :func:`read_nrrd`.
    """
    array, header = _load(path)
    spatial, other = _spatial_axes(array, header)
    segments: list[tuple[int, int, str]] = []
    while f"Segment{len(segments)}_ID" in header or f"Segment{len(segments)}_LabelValue" in header:
        n = len(segments)
        segments.append((int(header.get(f"Segment{n}_Layer", 0)), int(header.get(f"Segment{n}_LabelValue", n + 1)),
                         str(header.get(f"Segment{n}_Name", f"Segment_{n + 1}"))))
    if not segments or not other:
        volume, grid, _ = read_nrrd(path)
        return volume, grid, {value: name for _, value, name in segments}
    layers = np.transpose(array, spatial + other).reshape(*[array.shape[a] for a in spatial], -1, order="F")
    values = [value for _, value, _ in segments]
    fresh = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
    labels = np.zeros(layers.shape[:3], dtype=np.int32)
    for (layer, value, _), label in zip(segments, fresh):
        labels[layers[..., layer] == value] = label
    names = {label: name for label, (_, _, name) in zip(fresh, segments)}
    return labels, grid_of(labels.shape, _affine(header, spatial, path), path.name), names


def write_nrrd(path: Path, array: np.ndarray, grid: Grid, names: Mapping[int, str] | None = None,
               colors: list[tuple[int, int, int]] | None = None) -> None:
    """Write ``[i, j, k]`` in LPS; with ``.seg.nrrd`` as suffix, one Slicer segment per label present."""
    nrrd = require("nrrd", "writing NRRD")
    affine = LPS_TO_RAS @ grid.affine
    array = array.astype(np.uint8) if array.dtype == bool else array
    header: dict[str, Any] = {
        "space": "left-posterior-superior", "space directions": affine[:3, :3].T, "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3, "encoding": "gzip"}
    if path.name.lower().endswith(".seg.nrrd"):
        for n, value in enumerate(int(v) for v in np.unique(array) if v):
            where = np.nonzero(array == value)
            color = colors[(value - 1) % len(colors)] if colors else (230, 60, 60)
            header[f"Segment{n}_ID"] = f"Segment_{value}"
            header[f"Segment{n}_Name"] = (names or {}).get(value, f"object {value}")
            header[f"Segment{n}_Color"] = " ".join(f"{c / 255:.4f}" for c in color)
            header[f"Segment{n}_LabelValue"] = str(value)
            header[f"Segment{n}_Layer"] = "0"
            header[f"Segment{n}_Extent"] = " ".join(f"{w.min()} {w.max()}" for w in where)
        header["Segmentation_MasterRepresentation"] = "Binary labelmap"
    nrrd.write(str(path), array, header, index_order="F")


def read_metaimage(path: Path, frame: int | None = None) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """Read ``.mha`` or ``.mhd`` with SimpleITK; LPS geometry becomes RAS+.

    Raises:
        ImageError: if the file is broken, 4D without ``frame``, or has unusable geometry.
    """
    sitk = require("SimpleITK", "reading MetaImage")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ImageError(complain(f"cannot read {path.name} as MetaImage", str(error).strip().splitlines()[-1],
                                  "a complete file")) from error
    array = sitk.GetArrayFromImage(image)
    meta: dict[str, Any] = {}
    if image.GetNumberOfComponentsPerPixel() in (3, 4) and array.dtype == np.uint8:
        array, rgb = luminance(array[..., :3])
        if rgb is not None and np.prod(array.shape[:-2]) == 1:
            meta["rgb"] = np.ascontiguousarray(rgb.reshape(*array.shape[-2:], 3).transpose(1, 0, 2))
    elif image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    count = image.GetDimension()
    direction = np.asarray(image.GetDirection()).reshape(count, count)
    affine, used = np.eye(4), min(count, 3)
    affine[:used, :used] = (direction * np.asarray(image.GetSpacing()))[:used, :used]
    affine[:used, 3] = image.GetOrigin()[:used]
    volume = one_volume(array.transpose(), frame, path.name)
    return volume, grid_of(volume.shape, LPS_TO_RAS @ affine, path.name), meta
