"""A PACS over DICOMweb, asked for what sessions and viewers need; the embedded store answers the same questions."""
from __future__ import annotations

import contextlib
from io import BytesIO
from pathlib import Path
from typing import Any, Iterator

import pydicom

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.data.dicom import NOT_IMAGES
from promptzoo.data.dicomweb.errors import UpstreamError
from promptzoo.data.dicomweb.links import SeriesLink
from promptzoo.data.dicomweb.model import first_value, tag_of
from promptzoo.data.dicomweb.quiet import quiet_pydicom


class RemoteArchive:
    """Series of a DICOMweb server; an image is a series, its id the SeriesInstanceUID.

    Args:
        client: :class:`dicomweb_client.DICOMwebClient`, with its credentials.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._links: dict[str, SeriesLink] = {}

    def link(self, image_id: str) -> SeriesLink:
        """Study and series of an image.

        Raises:
            NotFoundError: if the server has no such series.
            UpstreamError: if it refuses or cannot be reached.
        """
        if image_id not in self._links:
            with upstream(self.client):
                found = self.client.search_for_series(search_filters={"SeriesInstanceUID": image_id})
            if not found:
                raise NotFoundError(complain("series", image_id, f"one of {self.client.base_url}", "Search again"))
            study = str(first_value(found[0].get(tag_of("StudyInstanceUID"))))
            self._links[image_id] = SeriesLink(image_id, study, image_id, None)
        return self._links[image_id]

    def image_of(self, series_uid: str) -> str:
        """Image id of a series: its UID. Raises as :meth:`link`."""
        return self.link(series_uid).image_id

    def images(self, filters: dict[str, str] | None = None) -> list[str]:
        """Ids of all series that are images, not masks, reports or plans.

        Args:
            filters: wanted value by attribute, for example ``{"Modality": "MR"}``.

        Raises:
            UpstreamError: if the server refuses or cannot be reached.
        """
        with upstream(self.client):
            found = self.client.search_for_series(search_filters=filters or {})
        return [str(first_value(entry[tag_of("SeriesInstanceUID")])) for entry in found
                if first_value(entry.get(tag_of("Modality"))) not in NOT_IMAGES]

    def export(self, series_uid: str, folder: str | Path) -> Path:
        """Download a series as files ``00001.dcm`` …; the folder. Raises as :meth:`link`."""
        link, place = self.link(series_uid), Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        with upstream(self.client), quiet_pydicom():
            for number, dataset in enumerate(self.client.retrieve_series(link.study_uid, series_uid), 1):
                dataset.save_as(place / f"{number:05d}.dcm", enforce_file_format=True)
        return place

    def store(self, data: bytes, study_uid: str | None = None) -> None:
        """Send a DICOM file. Raises UpstreamError if the server does not take it."""
        with upstream(self.client), quiet_pydicom():
            self.client.store_instances([pydicom.dcmread(BytesIO(data))], study_uid)


@contextlib.contextmanager
def upstream(client: Any) -> Iterator[None]:
    """Turn what goes wrong with the server behind this one into :class:`UpstreamError`."""
    import requests

    try:
        yield
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        raise UpstreamError(complain("DICOMweb server", f"{type(error).__name__}{f' {status}' if status else ''}",
                                     f"an answer of {client.base_url}",
                                     "Check address, credentials and that it runs")) from error
