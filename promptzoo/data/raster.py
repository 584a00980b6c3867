"""PNG, JPEG, TIFF and BMP pictures as volumes of one slice.

Voxel index ``(i, j, k)`` is ``(x, y, 0)``: i counts columns from the left, j rows from the top. The affine is
:data:`promptzoo.data.arrays.UPRIGHT_AFFINE`. A resolution entry in the file is not used.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid
from promptzoo.data.arrays import UPRIGHT_AFFINE, grid_of, luminance

_GREY_MODES = ("1", "L", "I", "I;16", "I;16L", "I;16B", "F")


def _open(path: Path, frame: int | None) -> Image.Image:
    try:
        picture = Image.open(path)
        count = getattr(picture, "n_frames", 1)
        if count > 1 and frame is None:
            raise ImageError(complain(f"{path.name} holds {count} pages", f"{count} pages", "one picture",
                                      f"Choose one: '{path.name}#t=0' … '#t={count - 1}', or the argument frame"))
        if frame is not None and not 0 <= frame < count:
            raise ImageError(complain(f"page index for {path.name}", frame, f"0 … {count - 1}"))
        picture.seek(frame or 0)
        picture.load()
        return ImageOps.exif_transpose(picture)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError …
        raise ImageError(complain(f"cannot read {path.name} as a picture", f"{type(error).__name__}: {error}",
                                  "a complete PNG, JPEG, TIFF or BMP file")) from error


def read_raster(path: Path, frame: int | None = None) -> tuple[np.ndarray, Grid, dict[str, Any]]:
    """Read a picture; a camera's EXIF rotation is applied, an alpha channel dropped, 16 bit kept.

    Args:
        path: the file.
        frame: which page of a multi-page TIFF.

    Returns:
        Luminance ``[x, y, 1]``, grid, and meta with ``rgb`` uint8 ``[x, y, 3]`` for colour pictures.

    Raises:
        ImageError: if the file is broken or holds several pages and none is chosen.
    """
    picture = _open(path, frame)
    meta: dict[str, Any] = {}
    if picture.mode in _GREY_MODES:
        rows = np.asarray(picture)
        grey = rows.astype(np.uint8) if rows.dtype == bool else rows
    elif picture.mode == "LA":
        grey = np.asarray(picture)[..., 0]
    else:
        grey, rgb = luminance(np.asarray(picture.convert("RGB")))
        if rgb is not None:
            meta["rgb"] = np.ascontiguousarray(rgb.transpose(1, 0, 2))
    array = np.ascontiguousarray(grey.T)[:, :, None]
    return array, grid_of(array.shape, UPRIGHT_AFFINE, path.name), meta


def read_raster_labels(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a mask picture: grey values, or palette indices, as labels ``[x, y, 1]``.

    Raises:
        ImageError: if the file is broken or coloured.
    """
    picture = _open(path, None)
    if picture.mode == "P":
        array = np.ascontiguousarray(np.asarray(picture).T)[:, :, None]
        return array, grid_of(array.shape, UPRIGHT_AFFINE, path.name)
    array, grid, meta = read_raster(path)
    if "rgb" in meta:
        raise ImageError(complain(f"{path.name} is a colour picture", "three differing channels",
                                  "a grey or palette picture whose values are labels",
                                  "Save each object as its own 0/255 PNG"))
    return array, grid


def write_png(path: Path, array: np.ndarray, colors: list[tuple[int, int, int]] | None = None) -> None:
    """Write labels or a mask ``[x, y, 1]`` as PNG.

    A boolean mask becomes 0/255. Labels up to 255 become a palette picture: the stored values are the labels, viewers
    show ``colors``. Larger labels become 16-bit grey.

    Raises:
        ImageError: if the array has more than one slice or labels over 65535.
    """
    if array.ndim != 3 or array.shape[2] != 1:
        raise ImageError(complain("a PNG holds one slice", f"shape {list(array.shape)}", "[n_x, n_y, 1]",
                                  "Write .nii.gz, .seg.nrrd or .dcm instead"))
    rows = np.ascontiguousarray(array[:, :, 0].T)
    if rows.dtype == bool:
        picture = Image.fromarray(rows.astype(np.uint8) * 255)
    elif rows.max(initial=0) <= 255:
        picture = Image.fromarray(rows.astype(np.uint8))
        table = [(0, 0, 0)] + [colors[(n - 1) % len(colors)] if colors else (n, n, n) for n in range(1, 256)]
        picture.putpalette([c for entry in table for c in entry])
    elif rows.max() <= 65535:
        picture = Image.fromarray(rows.astype(np.uint16))
    else:
        raise ImageError(complain("labels too large for PNG", int(rows.max()), "0 … 65535"))
    picture.save(path)
