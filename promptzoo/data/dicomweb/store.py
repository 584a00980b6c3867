"""A folder of studies as a DICOMweb store: search, metadata, frames, files, storing; no PACS, no database.

Why not ``dicomweb_client.DICOMfileClient`` (0.61.2), measured here on the STS series of real hospital data: it found 0
of 131 files, because it drops every file in which any value breaks the rules of its representation (an SH of 18
characters), and it does so by switching pydicom's process-wide settings; its SQLite connection works only in the thread
that made it ("SQLite objects created in a thread can only be used in that same thread"), while a server answers from a
pool of threads; it indexes files only, so every NIfTI volume would have to be written out as DICOM first; and it serves
the frames of 1-bit segmentations at byte borders only. So files are read with pydicom, whose JSON model and
encapsulation code are used as they are, and the index is a dictionary that is rebuilt from file stamps.

OHIF 3.10 shows wrapped volumes in its three planes with exactly the voxels, origin, spacing and directions of
:class:`promptzoo.data.dicomweb.voxels.VoxelMap` (left-handed, sagittal, oblique with reversed slices; CT difference 0).
"""
from __future__ import annotations

import hashlib
import logging
import threading
import time
from pathlib import Path
from typing import Iterator, Mapping

from promptzoo.core.errors import ConflictError, ImageError, NotFoundError, complain
from promptzoo.core.locations import cache_dir, data_dir
from promptzoo.data.dicomweb.folder import is_writable
from promptzoo.data.dicomweb.links import SeriesLink, links_of
from promptzoo.data.dicomweb.model import Instance, Json, as_number, bulk_value, element, json_of, tag_of
from promptzoo.data.dicomweb.part10 import open_pixels, pixel_tag, read_header, transfer_syntax, whole_file
from promptzoo.data.dicomweb.query import Query
from promptzoo.data.dicomweb.quiet import quiet_pydicom
from promptzoo.data.dicomweb.receive import Received, check_received, put, same_content
from promptzoo.data.dicomweb.results import search_index
from promptzoo.data.dicomweb.scan import Index, Scanner
from promptzoo.data.dicomweb.wrapped import PixelCache

logger = logging.getLogger(__name__)

SLOWEST_RESCAN_S = 10.0
"""A look at a huge folder may take long; then the next one waits as long again, but no longer than this."""


class DicomStore:
    """A folder of studies as DICOM; safe to use from several threads.

    Args:
        folder: DICOM files, NIfTI, NRRD, MetaImage and pictures at any depth. Nothing outside it, the user cache and
            the user's data folder is read or written; links that lead out of it are not followed.
        wrap: whether files of other formats are served as DICOM.
        cache_bytes: most memory for decoded volumes.
        rescan_s: shortest time between two looks at the folder, in seconds.

    Raises:
        NotFoundError: if there is no such folder.
    """

    def __init__(self, folder: str | Path, *, wrap: bool = True, cache_bytes: int = 512 << 20,
                 rescan_s: float = 1.0) -> None:
        self.folder = Path(folder).expanduser().resolve()
        if not self.folder.is_dir():
            raise NotFoundError(complain("studies folder", str(folder), "an existing folder", "Check the path"))
        key = f"{self.folder.name}-{hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]}"
        self._aside = data_dir("dicomweb", key)
        self._scanner = Scanner(self.folder, self._aside, cache_dir("dicomweb", key) / "wrapped.json", wrap)
        self._pixels = PixelCache(cache_bytes)
        self._rescan_s = rescan_s
        self._index = Index()
        self._linked: tuple[Index, dict[str, SeriesLink]] = (self._index, {})
        self._looked, self._next = -1.0, 0.0
        self._scanning, self._storing = threading.Lock(), threading.Lock()

    @property
    def skipped(self) -> Mapping[str, str]:
        """Reason by file of what is not served."""
        return self._index.skipped

    def refresh(self, force: bool = False) -> None:
        """Find what was added, changed or removed.

        Args:
            force: look even if the last look was less than ``rescan_s`` ago.
        """
        asked = time.monotonic()
        first = self._looked < 0
        if not (force or first or asked >= self._next):
            return
        if not self._scanning.acquire(blocking=force or first):
            return  # another thread is looking; meanwhile the last index is good enough
        try:
            if self._looked >= asked:
                return  # done while this thread waited
            self._index = self._scanner.scan() or self._index
            ended = time.monotonic()
            self._next = ended + max(self._rescan_s, 0 if first else min(ended - asked, SLOWEST_RESCAN_S))
            self._looked = asked
        finally:
            self._scanning.release()

    def search(self, level: str, query: Query, study_uid: str | None = None, series_uid: str | None = None,
               base_url: str = "") -> list[Json]:
        """QIDO-RS (PS3.18 10.6).

        Args:
            level: ``study``, ``series`` or ``instance``.
            query: what must match and what is wanted, see :func:`promptzoo.data.dicomweb.query.parse_query`.
            study_uid, series_uid: search only in these.
            base_url: address of the service, for RetrieveURL.

        Returns:
            One dataset per result; none if nothing matches or the study does not exist.
        """
        self.refresh()
        return search_index(self._index.studies, level, query, study_uid, series_uid, base_url, self._header_json)

    def instances(self, study_uid: str, series_uid: str | None = None, sop_uid: str | None = None) -> list[Instance]:
        """The instances of a study or series, or the one instance, by series and instance number.

        Raises:
            NotFoundError: if there is no such study, series or instance.
        """
        found = self._find(study_uid, series_uid, sop_uid)
        if not found:
            self.refresh()
            found = self._find(study_uid, series_uid, sop_uid)
        if not found:
            what, uid = (("SOP instance", sop_uid) if sop_uid else ("series", series_uid) if series_uid
                         else ("study", study_uid))
            raise NotFoundError(complain(f"{what} in the store", str(uid), "one that a search lists",
                                         "Search again: the file may have been changed or removed"))
        return found

    def _find(self, study_uid: str, series_uid: str | None, sop_uid: str | None) -> list[Instance]:
        study = self._index.studies.get(study_uid, {})
        if sop_uid is not None and series_uid is not None:
            one = study.get(series_uid, {}).get(sop_uid)
            return [one] if one else []
        chosen = study.values() if series_uid is None else [study.get(series_uid, {})]
        return sorted((i for series in chosen for i in series.values()), key=lambda i: (
            as_number(i.value("SeriesNumber", 0)), i.series_uid, as_number(i.value("InstanceNumber", 0)), i.sop_uid))

    def metadata(self, instance: Instance, base_url: str = "") -> Json:
        """WADO-RS metadata (PS3.18 10.4.1.1.2): everything but bulk data, for which there are addresses.

        Raises:
            NotFoundError: if the file is gone.
            ImageError: if it cannot be read.
        """
        place = (f"{base_url}/studies/{instance.study_uid}/series/{instance.series_uid}"
                 f"/instances/{instance.sop_uid}/bulkdata")
        if instance.wrapped is not None:
            told = instance.wrapped.metadata(instance.slice_number)
            pixels, syntax, vr = "7FE00010", "1.2.840.10008.1.2.1", "OW"
        else:
            dataset = read_header(instance.path)
            with quiet_pydicom():
                told = json_of(dataset, lambda path: f"{place}/{path}")
                pixels, syntax = pixel_tag(dataset), transfer_syntax(dataset)
            vr = {"7FE00008": "OF", "7FE00009": "OD"}.get(pixels, "OW")
        told[tag_of("AvailableTransferSyntaxUID")] = element("AvailableTransferSyntaxUID", syntax)
        if pixels:
            told[pixels] = {"vr": vr, "BulkDataURI": f"{place}/{pixels}"}
        return told

    def _header_json(self, instance: Instance) -> Json:
        """All attributes of an instance without bulk data; empty if it cannot be read any more."""
        try:
            if instance.wrapped is not None:
                return instance.wrapped.metadata(instance.slice_number)
            with quiet_pydicom():
                return json_of(read_header(instance.path))
        except (NotFoundError, ImageError):
            return {}

    def file(self, instance: Instance) -> Iterator[bytes]:
        """WADO-RS instance: its DICOM file in chunks.

        Raises:
            NotFoundError: if the file is gone or was changed.
            ImageError: if it cannot be read.
        """
        if instance.wrapped is None:
            return whole_file(instance.path)
        return iter([instance.wrapped.file_of(instance.slice_number, self._pixels.pixels(instance.wrapped))])

    def frames(self, instance: Instance, numbers: list[int]) -> tuple[str, Iterator[bytes]]:
        """WADO-RS frames (PS3.18 10.4.1.1.6).

        Args:
            instance: an image.
            numbers: frames wanted, from 1.

        Returns:
            Transfer syntax UID, and the frames in it, read one by one. The first one is read at once, so that errors
            come before an answer is begun.

        Raises:
            NotFoundError: if the file is gone, has no pixels or no such frame.
            ImageError: if it cannot be read.
        """
        if instance.wrapped is not None:
            if any(number != 1 for number in numbers):
                raise NotFoundError(complain("frame", numbers, "1, as the instance has a single frame"))
            pixels = self._pixels.pixels(instance.wrapped)
            return "1.2.840.10008.1.2.1", iter([pixels[instance.slice_number].tobytes()] * len(numbers))
        with open_pixels(instance.path) as place:
            outside = [number for number in numbers if not 1 <= number <= place.frame_count]
            if outside:
                raise NotFoundError(complain("frame", outside, f"1 … {place.frame_count}"))
            first, syntax = place.frame(numbers[0]), place.syntax

        def rest() -> Iterator[bytes]:
            yield first
            if len(numbers) > 1:
                with open_pixels(instance.path) as again:
                    yield from (again.frame(number) for number in numbers[1:])
        return syntax, rest()

    def bulk(self, instance: Instance, path: str) -> Iterator[bytes]:
        """The binary value that a BulkDataURI of :meth:`metadata` points to; pixel data frame by frame.

        Raises:
            NotFoundError: if there is no such value.
            ImageError: if the file cannot be read.
        """
        if path.upper() in ("7FE00008", "7FE00009", "7FE00010"):
            count = int(instance.value("NumberOfFrames", 1) or 1)
            return self.frames(instance, list(range(1, count + 1)))[1]
        value = None if instance.wrapped is not None else bulk_value(read_header(instance.path), path)
        if value is None:
            raise NotFoundError(complain("bulk data", path, "a BulkDataURI of the metadata"))
        return iter([value])

    def store(self, data: bytes, study_uid: str | None = None) -> tuple[Instance, bool]:
        """STOW-RS of one instance; it is found by the next search.

        Args:
            data: a DICOM file.
            study_uid: the study it must belong to; None for any.

        Returns:
            The instance, and whether it is new: False if the same was there already.

        Raises:
            ImageError: if it is not a complete DICOM file with proper identifiers.
            ConflictError: if the UID is taken by other content, or it belongs to another study than named.
        """
        received = check_received(data, study_uid)
        with self._storing:
            self.refresh(force=True)
            taken = next((series[received.sop_uid] for study in self._index.studies.values()
                          for series in study.values() if received.sop_uid in series), None)
            if taken is not None:
                if taken.wrapped is None and same_content(taken.path, received):
                    return taken, False
                raise ConflictError(complain("SOPInstanceUID of a stored instance", received.sop_uid,
                                             "one that is not in use for other content", "Give it a new UID"))
            path = self._put(received)
            self.refresh(force=True)
        logger.info("stored %s", path.name)
        return self.instances(received.study_uid, received.series_uid, received.sop_uid)[0], True

    def _put(self, received: Received) -> Path:
        if is_writable(self.folder):
            try:
                return put(received, self.folder)
            except OSError as error:
                logger.warning("%s cannot be written (%s): masks go to %s", self.folder, error, self._aside)
        return put(received, self._aside)

    def links(self) -> dict[str, SeriesLink]:
        """The link of every image by image id: wrapped files, and DICOM image series by their SeriesInstanceUID."""
        self.refresh()
        index = self._index
        if self._linked[0] is not index:
            self._linked = (index, links_of(index))
        return self._linked[1]

    def link(self, image_id: str) -> SeriesLink:
        """Study, series and voxel mapping of an image.

        Raises:
            NotFoundError: if the store has no such image.
        """
        links = self.links()
        if image_id not in links:
            reasons = "; ".join(f"{file}: {why}" for file, why in self.skipped.items() if image_id in file)
            raise NotFoundError(complain("image in the DICOMweb store", image_id, "one of its images or series",
                                         reasons or "Check the image id"))
        return links[image_id]

    def export(self, series_uid: str, folder: str | Path) -> Path:
        """Write a series as DICOM files, for example as the reference of :func:`promptzoo.data.io.write_mask`.

        Args:
            series_uid: which series.
            folder: where to; made if need be.

        Returns:
            The folder, with a file ``00001.dcm`` … per instance.

        Raises:
            NotFoundError: if the store has no such series.
            ImageError: if it cannot be read.
        """
        link = self.link(self.image_of(series_uid))
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for number, instance in enumerate(self.instances(link.study_uid, series_uid), 1):
            with (place / f"{number:05d}.dcm").open("wb") as stream:
                stream.writelines(self.file(instance))
        return place

    def image_of(self, series_uid: str) -> str:
        """Image id of a series: of a wrapped file its own, of a DICOM series the SeriesInstanceUID.

        Raises:
            NotFoundError: if the store has no such series.
        """
        for image_id, link in self.links().items():
            if link.series_uid == series_uid:
                return image_id
        raise NotFoundError(complain("series in the DICOMweb store", series_uid, "one that a search lists"))
