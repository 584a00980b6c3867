"""Read images and masks, write masks, whatever the format: the door of promptzoo.

Inside there is only :class:`promptzoo.core.volume.Volume`: array axes ``(i, j, k)``, affine to world RAS+ millimetres.
Axis order by format: NIfTI, MGH and NRRD as stored; MetaImage ``(x, y, z)``; DICOM ``i`` = column, ``j`` = row, ``k`` =
slice, growing along the cross product of row and column direction; PNG, JPEG and TIFF ``(x, y, 0)``.
"""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import file_stem, onto_grid, split_frame, whole_labels
from promptzoo.data.colors import OBJECT_COLORS

NIFTI = (".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh")
NRRD = (".nrrd", ".nhdr")
METAIMAGE = (".mha", ".mhd")
RASTER = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM = (".dcm", ".dicom", ".ima")
READABLE = NIFTI + NRRD + METAIMAGE + RASTER + DICOM
WRITABLE = (".nii", ".nii.gz", ".mgz", ".nrrd", ".seg.nrrd", ".dcm", ".png")


def file_format(path: Path) -> str:
    """``nifti``, ``nrrd``, ``metaimage``, ``raster`` or ``dicom``, by suffix; files without a known one by content.

    Raises:
        ImageError: if the format is not known.
    """
    name = path.name.lower()
    groups = {"nifti": NIFTI, "nrrd": NRRD, "metaimage": METAIMAGE, "raster": RASTER, "dicom": DICOM}
    for kind, suffixes in groups.items():
        if name.endswith(suffixes):
            return kind
    if path.is_dir():
        return "dicom"
    if path.is_file():
        with path.open("rb") as stream:
            if stream.read(132)[128:] == b"DICM":
                return "dicom"
    raise ImageError(complain(f"image format of {path.name}", "".join(path.suffixes) or "no suffix",
                              "a DICOM folder or " + ", ".join(READABLE)))


def read_image(path: str | Path, *, frame: int | None = None, series_uid: str | None = None) -> Volume:
    """Read an image.

    Args:
        path: file or DICOM folder; ``path#t=3`` chooses the fourth volume of a 4D file.
        frame: the same choice as an argument, from 0.
        series_uid: which series of a mixed DICOM folder; default the one with the most pixels.

    Returns:
        The volume: float32 ``[i, j, k]`` (intensities after the file's own scaling). ``meta`` holds ``source``,
        ``format``, for colour slices ``rgb`` (uint8 ``[i, j, 3]``), and for DICOM what
        :func:`promptzoo.data.dicom.read_dicom` adds.

    Raises:
        NotFoundError: if there is no such file.
        ImageError: if the format is unknown, the file is empty, broken, 4D without a choice, without a finite value or
            has unusable geometry; for DICOM see :func:`promptzoo.data.dicom.read_dicom`.
    """
    place, frame = split_frame(path, frame)
    kind = file_format(place)
    if kind == "dicom":
        from promptzoo.data.dicom import read_dicom
        return read_dicom(place, frame=frame, series_uid=series_uid)
    if kind == "nifti":
        from promptzoo.data.nifti import read_nifti as reader
    elif kind == "nrrd":
        from promptzoo.data.nrrd_files import read_nrrd as reader
    elif kind == "metaimage":
        from promptzoo.data.nrrd_files import read_metaimage as reader
    else:
        from promptzoo.data.raster import read_raster as reader
    array, grid, meta = reader(place, frame)
    try:
        return Volume(array, grid, {"source": str(place), "format": kind, **meta})
    except ImageError as error:
        raise ImageError(f"{place.name}: {error}") from error


def read_labels(path: str | Path, *, reference: str | Path | Grid | None = None
                ) -> tuple[np.ndarray, Grid, dict[int, str]]:
    """Read a label map with the names its file carries.

    Args:
        path: mask file: NIfTI, MGH, NRRD, Slicer ``.seg.nrrd``, MetaImage, PNG or DICOM SEG.
        reference: image (path, DICOM folder) or grid onto which the labels are moved; the grids must share voxel
            centres. Default: the mask's own grid.

    Returns:
        Labels ``[i, j, k]`` (uint8, uint16 or int32), their grid, names by label value (NRRD, DICOM SEG, or the
        provenance beside the file; may be empty).

    Raises:
        NotFoundError: if there is no such file.
        ImageError: if the file is broken, not a label map, or not aligned with ``reference``.
    """
    place, frame = split_frame(path)
    kind = file_format(place)
    names: dict[int, str] = {}
    if kind == "dicom":
        from promptzoo.data.dicom_seg_read import read_seg
        array, grid, names = read_seg(place, reference)
        reference = None
    elif kind == "nrrd" and frame is None:
        from promptzoo.data.nrrd_files import read_nrrd_labels
        array, grid, names = read_nrrd_labels(place)
    elif kind == "raster":
        from promptzoo.data.raster import read_raster_labels
        array, grid = read_raster_labels(place)
    elif kind == "nifti":
        from promptzoo.data.nifti import read_nifti
        array, grid, _ = read_nifti(place, frame)
    else:
        from promptzoo.data.nrrd_files import read_metaimage, read_nrrd
        array, grid, _ = (read_nrrd if kind == "nrrd" else read_metaimage)(place, frame)
    labels = whole_labels(array, place.name)
    if not names:
        names = _names_beside(place)
    if reference is not None:
        target = reference if isinstance(reference, Grid) else read_image(reference).grid
        labels, grid = onto_grid(labels, grid, target, place.name), target
    return labels, grid, names


def read_mask(path: str | Path, label_value: int | None = None, *, reference: str | Path | Grid | None = None
              ) -> tuple[np.ndarray, Grid]:
    """Read a mask.

    Args:
        path: as for :func:`read_labels`.
        label_value: the label wanted; None for all.
        reference: as for :func:`read_labels`.

    Returns:
        Integer labels ``[i, j, k]``, or with ``label_value`` the boolean mask of that label (empty if it does not
        occur), and the grid. A boolean mask saved as PNG comes back as 0 and 255.

    Raises:
        NotFoundError: if there is no such file.
        ImageError: as :func:`read_labels`.
    """
    labels, grid, _ = read_labels(path, reference=reference)
    return (labels, grid) if label_value is None else (labels == label_value, grid)


def provenance_path(path: str | Path) -> Path:
    """Where the provenance of a mask lies: ``liver.nii.gz`` has ``liver.json``."""
    return Path(path).with_name(file_stem(Path(path)) + ".json")


def _names_beside(path: Path) -> dict[int, str]:
    try:
        known = json.loads(provenance_path(path).read_text(encoding="utf-8")).get("names", {})
        return {int(value): str(name) for value, name in known.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def write_mask(path: str | Path, mask: np.ndarray, grid: Grid, *, names: Mapping[int, str] | None = None,
               reference: str | Path | None = None, series_uid: str | None = None,
               provenance: Mapping[str, Any] | None = None) -> Path:
    """Write a mask in the format its suffix names.

    Args:
        path: ``.nii``, ``.nii.gz``, ``.mgz``, ``.nrrd``, ``.seg.nrrd`` (Slicer segments), ``.dcm`` (DICOM SEG),
            ``.rtstruct.dcm`` (RT Structure Set) or ``.png`` (one slice); folders are made.
        mask: ``[i, j, k]`` boolean, or labels from 0 to 65535.
        grid: where it lies; must fit the mask.
        names: name by label value, for the formats that carry names.
        reference: for DICOM SEG, the folder (or file) of the source series.
        series_uid: for DICOM SEG, which series of a mixed folder; default the one that has the mask's grid.
        provenance: what made the mask; written as JSON beside the file (:func:`provenance_path`) together with
            ``names``, and into the DICOM SEG itself.

    Returns:
        The path written.

    Raises:
        ImageError: if the suffix is unknown, the mask does not fit, has labels outside the range, is empty (DICOM SEG
            only: it cannot hold nothing), has several slices (PNG), or ``reference`` is missing (DICOM SEG).
    """
    place, labels = Path(path).expanduser(), np.asarray(mask)
    if not place.name.lower().endswith(WRITABLE):
        raise ImageError(complain("mask format", place.name, ", ".join(WRITABLE), "Choose one by the suffix"))
    if labels.shape != grid.shape:
        raise ImageError(complain("mask does not fit its grid", list(labels.shape), str(grid.shape)))
    if labels.dtype != bool:
        labels = whole_labels(labels, "mask")
        if labels.min(initial=0) < 0 or labels.max(initial=0) > 65535:
            raise ImageError(complain("mask labels", [int(labels.min()), int(labels.max())], "0 … 65535"))
    place.parent.mkdir(parents=True, exist_ok=True)
    name = place.name.lower()
    if name.endswith(".rtstruct.dcm"):
        from promptzoo.data.rtstruct import write_rtstruct
        if reference is None:
            raise ImageError(complain("RTSTRUCT without its source", "no reference", "the folder of the source series",
                                      "Give the DICOM series that was segmented, or write .nii.gz"))
        write_rtstruct(place, labels, grid, reference, names=names, provenance=provenance, series_uid=series_uid)
    elif name.endswith(".dcm"):
        from promptzoo.data.dicom_seg import write_seg
        if reference is None:
            raise ImageError(complain("DICOM SEG without its source", "no reference", "the folder of the source series",
                                      "Give the DICOM series that was segmented, or write .nii.gz"))
        write_seg(place, labels, grid, reference, names=names, provenance=provenance, series_uid=series_uid)
    elif name.endswith(".png"):
        from promptzoo.data.raster import write_png
        write_png(place, labels, list(OBJECT_COLORS))
    elif name.endswith(".nrrd"):
        from promptzoo.data.nrrd_files import write_nrrd
        write_nrrd(place, labels, grid, names, list(OBJECT_COLORS))
    else:
        from promptzoo.data.nifti import write_nifti
        write_nifti(place, labels, grid)
    if provenance is not None:
        record = {"names": {str(v): n for v, n in (names or {}).items()}, **provenance}
        provenance_path(place).write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    return place
