"""Voxels of a session's answer as bytes: the label map, or probability and uncertainty of one object."""
from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
from fastapi import Response

from promptzoo.cli.server.reply import write_labels
from promptzoo.cli.server.saving import on_series
from promptzoo.cli.server.session_desk import Look
from promptzoo.core.errors import NotFoundError, complain
from promptzoo.data.dicomweb.links import SeriesLink
from promptzoo.data.nifti import write_nifti

MEDIA_TYPES = {"raw": "application/octet-stream", "nii.gz": "application/gzip", "nrrd": "application/octet-stream"}
"""Formats of an answer and their media types."""


def labelmap_response(look: Look, form: str, accepts_gzip: bool, link: SeriesLink | None = None) -> Response:
    """The label map: uint8, or uint16 if an object id needs it.

    Args:
        look: the answer.
        form: ``raw`` (``i`` fastest, little-endian; shape, type and affine in the headers), ``nii.gz`` or ``nrrd``.
        accepts_gzip: whether raw bytes may be sent with ``Content-Encoding: gzip``.
        link: of the DICOM series whose voxels ``[column, row, slice]`` are wanted raw; None for those of the image.
    """
    largest = max((info.object_id for info in look.state.objects), default=0)
    labels = look.labels.astype(np.uint8 if largest < 256 else np.uint16, order="F")
    if form == "raw":
        return _raw(look, labels, accepts_gzip, link)
    with tempfile.TemporaryDirectory(prefix="promptzoo-session-") as folder:
        names = {info.name or f"object {info.object_id}": info.object_id for info in look.state.objects}
        path = write_labels(labels, look.session.info.grid, names, f".{form}", True, Path(folder))
        return _file(look, path.read_bytes(), form)


def object_response(look: Look, what: str, object_id: int | None, form: str, accepts_gzip: bool,
                    link: SeriesLink | None = None) -> Response:
    """One object's ``probability`` or ``uncertainty`` as float32, raw or ``nii.gz``.

    Args:
        look: the answer.
        what: which of the two.
        object_id: whose; None for the first object.
        form, accepts_gzip, link: see :func:`labelmap_response`.

    Raises:
        NotFoundError: if the object has no answer.
    """
    entries = {entry.object_id: entry for entry in look.prediction.objects}
    wanted = next(iter(entries), None) if object_id is None else object_id
    if wanted not in entries:
        raise NotFoundError(complain("object with an answer", "none" if wanted is None else wanted,
                                     ", ".join(map(str, entries)) or "none, no object has prompts"))
    entry = entries[wanted]
    array = entry.full_probability() if what == "probability" else entry.uncertainty()
    if form == "raw":
        return _raw(look, array, accepts_gzip, link)
    with tempfile.TemporaryDirectory(prefix="promptzoo-session-") as folder:
        path = Path(folder) / "map.nii.gz"
        write_nifti(path, array, look.session.info.grid)
        return _file(look, path.read_bytes(), form)


def _raw(look: Look, array: np.ndarray, accepts_gzip: bool, link: SeriesLink | None) -> Response:
    grid = look.session.info.grid
    if link is not None:
        array, grid = on_series(link, array, grid)
    body = array.astype(array.dtype.newbyteorder("<")).tobytes(order="F")
    headers = {"X-Promptzoo-Shape": json.dumps(list(array.shape)), "X-Promptzoo-Dtype": array.dtype.name,
               "X-Promptzoo-Affine": json.dumps(grid.affine.tolist()), "Vary": "Accept-Encoding"}
    if accepts_gzip:
        body, headers["Content-Encoding"] = gzip.compress(body, 1, mtime=0), "gzip"
    return Response(body, media_type=MEDIA_TYPES["raw"], headers={**headers, **_told(look)})


def _file(look: Look, body: bytes, form: str) -> Response:
    name = f"session-{look.session.id[:8]}-{look.state.sequence}.{form}"
    return Response(body, media_type=MEDIA_TYPES[form],
                    headers={"Content-Disposition": f'attachment; filename="{name}"', **_told(look)})


def _told(look: Look) -> dict[str, str]:
    return {"X-Promptzoo-Sequence": str(look.state.sequence), "X-Promptzoo-Digest": look.digest,
            "Cache-Control": "no-cache"}
