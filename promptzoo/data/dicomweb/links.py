"""Which image of the MONAI Label server is which series of the store."""
from __future__ import annotations

from dataclasses import dataclass

from promptzoo.data.dicomweb.scan import Index
from promptzoo.data.dicomweb.voxels import VoxelMap


@dataclass(frozen=True, eq=False)
class SeriesLink:
    """Where an image of the MONAI Label server is found in the store.

    Args:
        image_id: the id that MONAI Label knows.
        study_uid, series_uid: what OHIF opens.
        voxels: the image's voxels and the series'; None where they are the same grid, that is for DICOM series, whose
            volumes are ``[column, row, slice]`` in the reader's order already.
    """

    image_id: str
    study_uid: str
    series_uid: str
    voxels: VoxelMap | None


def links_of(index: Index) -> dict[str, SeriesLink]:
    """The link of every image by image id: wrapped files, and DICOM image series by their SeriesInstanceUID."""
    found = {image_id: SeriesLink(image_id, series.study_uid, series.series_uid, series.voxels)
             for image_id, series in index.wrapped.items()}
    shown = {series.series_uid for series in index.wrapped.values()}
    for study_uid, study in index.studies.items():
        for series_uid, instances in study.items():
            if series_uid not in shown and any(one.is_image for one in instances.values()):
                found.setdefault(series_uid, SeriesLink(series_uid, study_uid, series_uid, None))
    return found
