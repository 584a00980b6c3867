"""DICOM Segmentation objects, read through highdicom as label maps, on their own grid or on the source image's."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.core.errors import ImageError, PromptZooError, complain
from promptzoo.core.geometry import LPS_TO_RAS, Grid
from promptzoo.core.optional import require
from promptzoo.data.arrays import UPRIGHT_AFFINE, grid_of, onto_grid, split_frame
from promptzoo.data.dicom import choose_series, find_series, ordered
from promptzoo.data.dicom_provenance import read_provenance


def _open(path: Path) -> Any:
    hd = require("highdicom", "reading DICOM SEG")
    pydicom = require("pydicom", "reading DICOM SEG")
    files = [path] if path.is_file() else [f for f in sorted(path.rglob("*")) if f.is_file()]
    found = []
    for file in files:
        try:
            if pydicom.dcmread(file, stop_before_pixels=True).get("Modality") == "SEG":
                found.append(file)
        except (pydicom.errors.InvalidDicomError, OSError, EOFError):
            continue
    if len(found) != 1:
        raise ImageError(complain(f"DICOM SEG in {path.name}", ", ".join(f.name for f in found) or "none",
                                  "one DICOM SEG file", "Give the file of the segmentation itself"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return hd.seg.segread(found[0])
    except (ValueError, AttributeError, TypeError, KeyError, OSError) as error:
        raise ImageError(complain(f"cannot read {found[0].name} as DICOM SEG", f"{type(error).__name__}: {error}",
                                  "a valid segmentation")) from error


def seg_record(dataset: Any) -> dict[str, Any]:
    """The record in a SEG written by promptzoo: ``label_values``, ``names``, provenance; else empty."""
    try:
        algorithm = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
        return read_provenance(algorithm.AlgorithmParameters) if algorithm.AlgorithmName == "promptzoo" else {}
    except (AttributeError, IndexError):
        return {}


def read_seg(path: str | Path, reference: str | Path | Grid | None = None
             ) -> tuple[np.ndarray, Grid, dict[int, str]]:
    """Read a DICOM SEG as a label map; overlapping segments: the later one on top; fractional ones: at least 0.5.

    Args:
        path: the file, or a folder with exactly one SEG in it.
        reference: image (DICOM folder or other file) or grid, to get the map on the source grid; default the region
            that the SEG covers (empty frames are usually left out of the file).

    Returns:
        Labels ``[i, j, k]`` uint16, their grid, segment labels by value. Values are those of the mask that was written,
        for files of other makers the segment numbers.

    Raises:
        ImageError: if there is no usable SEG, or it does not lie on the grid of ``reference``.
        NotFoundError: if ``reference`` does not exist.
    """
    segmentation = _open(Path(path))
    source = Path(path).name
    numbers = [int(n) for n in segmentation.segment_numbers]
    kept = seg_record(segmentation).get("label_values", numbers)
    values = dict(zip(numbers, kept if len(kept) == len(numbers) else numbers))
    target, uids = _target(segmentation, reference)
    labels, grid = None, None
    try:
        for number in numbers:
            mask, grid = _segment(segmentation, number, source, target, uids)
            labels = np.zeros(mask.shape, dtype=np.uint16) if labels is None else labels
            labels[mask] = values[number]
    except (ValueError, RuntimeError, AttributeError, KeyError, IndexError) as error:
        if isinstance(error, PromptZooError):
            raise
        raise ImageError(complain(f"{source} does not form a volume", f"{type(error).__name__}: {error}",
                                  "parallel, evenly spaced planes", "Give the source series as reference")) from error
    if labels is None or grid is None:
        raise ImageError(complain(f"{source} has no segment", "0 segments", "at least one"))
    names = {values[n]: str(segmentation.get_segment_description(n).segment_label) for n in numbers}
    if target is not None:
        labels, grid = onto_grid(labels, grid, target, source), target
    return labels, grid, names


def _target(segmentation: Any, reference: str | Path | Grid | None) -> tuple[Grid | None, list[str]]:
    """The wanted grid and, for a DICOM reference of single-frame files, its SOP instances by slice."""
    if reference is None or isinstance(reference, Grid):
        return reference, []
    from promptzoo.data.io import file_format, read_image  # the facade imports this module
    place, frame = split_frame(reference)
    if file_format(place) != "dicom":
        return read_image(reference).grid, []
    wanted = [str(s.SeriesInstanceUID) for s in segmentation.get("ReferencedSeriesSequence") or []]
    uid = next((s.uid for s in find_series(place) if s.uid in wanted), None)
    frames, grid = ordered(choose_series(place, uid)[0], place.name, frame)
    classic = all(int(f.header.get("NumberOfFrames") or 1) == 1 for f in frames)
    return grid, [str(f.header.SOPInstanceUID) for f in frames] if classic else []


def _segment(segmentation: Any, number: int, source: str, target: Grid | None, uids: list[str]
             ) -> tuple[np.ndarray, Grid]:
    """One segment as a boolean ``[i, j, k]``: by geometry, else by the source images it names, else as a lone plane."""
    try:
        geometry = segmentation.get_volume_geometry(allow_missing_positions=True)
    except (ValueError, RuntimeError, AttributeError):
        geometry = None
    if geometry is not None:
        volume = segmentation.get_volume(segment_numbers=[number], allow_missing_positions=True, dtype=np.float32)
        return _in_ras(volume.array[..., 0], volume.affine, source)
    if target is not None and uids:
        planes = segmentation.get_pixels_by_source_instance(
            uids, segment_numbers=[number], assert_missing_frames_are_empty=True, dtype=np.float32,
            ignore_spatial_locations=True)
        return planes[..., 0].transpose(2, 1, 0) >= 0.5, target
    return _lone_plane(segmentation, number, source, target)


def _in_ras(array: np.ndarray, lps: np.ndarray, source: str) -> tuple[np.ndarray, Grid]:
    """Turn ``[slice, row, column]`` with its LPS affine into ``[i, j, k]``, slices along row x column direction."""
    mask = array.transpose(2, 1, 0) >= 0.5
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = lps[:3, [2, 1, 0]], lps[:3, 3]
    if np.linalg.det(affine[:3, :3]) < 0:
        mask = mask[:, :, ::-1]
        affine[:3, 3] += affine[:3, 2] * (mask.shape[2] - 1)
        affine[:3, 2] *= -1
    return mask, grid_of(mask.shape, LPS_TO_RAS @ affine, source)


def _lone_plane(segmentation: Any, number: int, source: str, target: Grid | None) -> tuple[np.ndarray, Grid]:
    """A segment of an image without patient geometry (X-ray, photograph): one frame per segment."""
    groups = segmentation.get("PerFrameFunctionalGroupsSequence") or []
    owners = [int(g.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for g in groups]
    if max((owners.count(n) for n in owners), default=0) > 1:
        raise ImageError(complain(f"{source} does not form a volume", "several planes without a regular geometry",
                                  "one plane, or evenly spaced parallel planes", "Give the source series as reference"))
    frames = np.asarray(segmentation.pixel_array).reshape(-1, int(segmentation.Rows), int(segmentation.Columns))
    plane = frames[owners.index(number)] if number in owners else np.zeros_like(frames[0])
    mask = (plane > 0).T[:, :, None]
    if target is not None and target.shape == mask.shape:
        return mask, target
    return mask, grid_of(mask.shape, UPRIGHT_AFFINE, source)
