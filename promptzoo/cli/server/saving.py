"""Saving a session's label map: a label of the MONAI Label server, and a DICOM SEG beside the images."""
from __future__ import annotations

import json
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol

import numpy as np

from promptzoo.cli.server.session_desk import Look
from promptzoo.core.errors import PromptZooError
from promptzoo.core.geometry import Grid
from promptzoo.data.dicom_seg import write_seg
from promptzoo.data.dicomweb.links import SeriesLink
from promptzoo.data.nifti import write_nifti
from promptzoo.data.rtstruct import write_rtstruct

logger = logging.getLogger(__name__)


class Archive(Protocol):
    """Where the images are kept as DICOM: :class:`promptzoo.data.dicomweb.store.DicomStore`, or a PACS."""

    def link(self, image_id: str) -> SeriesLink:
        """Study and series of an image."""

    def image_of(self, series_uid: str) -> str:
        """Image id of a series."""

    def export(self, series_uid: str, folder: Path) -> Path:
        """Write a series as DICOM files."""

    def store(self, data: bytes, study_uid: str | None = None) -> Any:
        """Take in a DICOM file."""


@dataclass(frozen=True)
class Saved:
    """What was saved.

    Args:
        place: of the label on the server; empty if nothing was saved.
        seg_series, seg_instance: UIDs of the DICOM SEG; empty if none was written.
        reason: why nothing, or no DICOM, was saved; empty if all was.
        rtstruct_instance: SOP Instance UID of the RT Structure Set; empty if none was wanted.
    """

    place: str = ""
    seg_series: str = ""
    seg_instance: str = ""
    reason: str = ""
    rtstruct_instance: str = ""


class LabelSaver:
    """Saves label maps with their provenance.

    Args:
        save_label: ``(image id, file, tag, info)`` to the place of the label, as the MONAI Label server keeps it.
        archive: takes the DICOM SEG; None: no DICOM.
    """

    def __init__(self, save_label: Callable[[str, Path, str, Mapping[str, Any]], str],
                 archive: Archive | None = None) -> None:
        self.save_label, self.archive = save_label, archive

    def __call__(self, look: Look, tag: str, rtstruct: bool = False) -> Saved:
        """Save.

        An empty label map is not saved: DICOM has no empty segmentation, and MONAI Label would offer the image as done.

        Args:
            look: what to save.
            tag: under which the server files the label.
            rtstruct: whether an RT Structure Set is stored too.

        Raises:
            OSError, PromptZooError: if the label cannot be written. That no DICOM SEG can be written is told in the
                answer only, as the label is safe by then.
        """
        if not look.labels.any():
            return Saved(reason=f"nothing to save: {look.reason}")
        present = [int(value) for value in np.unique(look.labels) if value]
        names = {info.object_id: info.name or f"object {info.object_id}" for info in look.state.objects}
        provenance = look.session.provenance(upto=look.state.sequence)
        info = {"label_info": [{"name": names[value], "idx": value} for value in present],
                "params": {"label_names": {names[value]: value for value in present}, "session": look.session.id,
                           "bundle": look.session.info.bundle, "bundle_version": look.session.info.bundle_version}}
        with tempfile.TemporaryDirectory(prefix="promptzoo-save-") as folder:
            file = Path(folder) / "label.nii.gz"
            labels = look.labels.astype(np.uint8 if max(present) < 256 else np.uint16)
            write_nifti(file, labels, look.session.info.grid)
            place = self.save_label(look.session.info.image_id, file, tag, info)
            _write_sidecar(Path(place), provenance)
            if self.archive is None:
                return Saved(place, reason="this server has no DICOM store")
            try:
                return Saved(place, **self._dicom(look, names, provenance, Path(folder), rtstruct))
            except PromptZooError as error:
                logger.warning("session %s: no DICOM SEG: %s", look.session.id, error)
                return Saved(place, reason=f"saved, but not as DICOM SEG: {error}")

    def _dicom(self, look: Look, names: Mapping[int, str], provenance: Mapping[str, Any], folder: Path, rtstruct: bool
               ) -> dict[str, str]:
        """Write DICOM SEG, and RT Structure Set if wanted, and store them; their UIDs."""
        import pydicom

        archive = self.archive
        link = archive.link(look.session.info.image_id)  # type: ignore[union-attr]
        labels, grid = on_series(link, look.labels, look.session.info.grid)
        source = archive.export(link.series_uid, folder / "series")  # type: ignore[union-attr]
        written: dict[str, str] = {}
        for kind, write in (("seg", write_seg), *([("rtstruct", write_rtstruct)] if rtstruct else [])):
            file = folder / f"{kind}.dcm"
            write(file, np.ascontiguousarray(labels), grid, source, names=dict(names), provenance=provenance)
            header = pydicom.dcmread(file, stop_before_pixels=True)
            archive.store(file.read_bytes(), link.study_uid)  # type: ignore[union-attr]
            written[f"{kind}_instance"] = str(header.SOPInstanceUID)
            if kind == "seg":
                written["seg_series"] = str(header.SeriesInstanceUID)
        return written


def on_series(link: SeriesLink, array: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """An array on an image's grid as ``[column, row, slice]`` of the series that shows it, and that grid."""
    if link.voxels is None:
        return array, grid
    return link.voxels.array_to_series(array), link.voxels.series


def _write_sidecar(label: Path, provenance: Mapping[str, Any]) -> None:
    """The prompt log beside a label: ``NAME.prompts.json``."""
    if label.parent.is_dir():
        name = label.name.partition(".nii")[0]
        label.with_name(f"{name}.prompts.json").write_text(json.dumps(provenance, indent=1), encoding="utf-8")
