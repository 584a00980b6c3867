"""MONAI Label's datastore of a DICOMweb server, with promptzoo's own conversion and DICOM SEG."""
import tempfile
import time
from pathlib import Path

import numpy as np
from dicomweb_client.session_utils import create_session_from_user_pass
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX, DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import DefaultLabelTag

from promptzoo.core.errors import ImageError, complain
from promptzoo.data.dicom_seg import write_seg
from promptzoo.data.dicomweb.remote import RemoteArchive
from promptzoo.data.io import read_image, read_labels
from promptzoo.data.nifti import write_nifti

LISTED_S = 2.0
"""How long a list of the server is good: MONAI Label keeps it for two hours, so that a case just labelled is offered
again."""


class PacsDatastore(DICOMWebDatastore):
    """The image series of a PACS.

    MONAI Label's own writes DICOM SEG with an external program that names segments by position, and lists CT only.
    """

    def __init__(self, client):
        cache = (settings.MONAI_LABEL_DICOMWEB_CACHE_PATH or "").strip()
        super().__init__(client, settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER, cache or None)
        self.archive, self._listed = RemoteArchive(client), (float("-inf"), [])

    def list_images(self):
        """Ids of all image series, of any modality unless the search filter says otherwise."""
        if time.monotonic() - self._listed[0] > LISTED_S:
            self._listed = (time.monotonic(), self.archive.images(dict(self._search_filter or {})))
        return list(self._listed[1])

    def get_labeled_images(self, label_tag=None, labels=None):
        """Series that a DICOM SEG of the PACS refers to, and those with a final label here."""
        local = {name for name, known in self._datastore.objects.items() if DefaultLabelTag.FINAL in known.labels}
        remote = DICOMWebDatastore.get_labeled_images.__wrapped__(self, label_tag, labels)
        return [image for image in self.list_images() if image in local or image in remote]

    def get_image_uri(self, image_id):
        """Path of a series as NIfTI, downloaded at the first call."""
        if not image_id:
            return ""
        place = Path(self._datastore.image_path()) / f"{image_id}.nii.gz"
        if not place.is_file():
            self.archive.link(image_id)
            with tempfile.TemporaryDirectory(prefix="promptzoo-pacs-") as folder:
                volume = read_image(self.archive.export(image_id, Path(folder) / "series"))
                data = volume.data
                if np.array_equal(data, np.round(data)) and np.abs(data).max() < 32768:
                    data = data.astype(np.int16)
                file = Path(folder) / "image.nii.gz"
                write_nifti(file, data, volume.grid)
                LocalDatastore.add_image(self, image_id, str(file), self._dicom_info(image_id))
        return str(place.resolve())

    def get_label_uri(self, label_id, label_tag, image_id=""):
        """Path of a label made here."""
        return LocalDatastore.get_label_uri(self, label_id, label_tag)

    def save_here(self, image_id, file, tag, info):
        """Keep a label on this machine only."""
        self.get_image_uri(image_id)
        return LocalDatastore.save_label(self, image_id, file, tag, info)

    def save_label(self, image_id, label_filename, label_tag, label_info, label_id=""):
        """Keep a label; a final one also goes to the PACS as DICOM SEG with the names of the segments present."""
        if label_tag != DefaultLabelTag.FINAL:
            return self.save_here(image_id, label_filename, label_tag, label_info)
        with tempfile.TemporaryDirectory(prefix="promptzoo-pacs-") as folder:
            kept = self._send(image_id, label_filename, label_info or {}, Path(folder))
            return self.save_here(image_id, str(kept), label_tag, label_info)

    def _send(self, image_id, file, info, folder):
        """Send a DICOM SEG; the label as NIfTI in ``folder``."""
        volume = read_image(self.get_image_uri(image_id))
        if str(file).endswith(".bin"):
            raw = np.fromfile(file, np.uint8)
            if raw.size != np.prod(volume.grid.shape):
                raise ImageError(complain("bytes of the label", raw.size, "one per voxel of the image"))
            labels = raw.reshape(volume.grid.shape, order="F")
        else:
            labels, _, _ = read_labels(file, reference=volume.grid)
        names = {int(entry.get("idx", n)): str(entry.get("name", "")) for n, entry in enumerate(
            info.get("label_info") or [], 1)}
        series = self.archive.export(image_id, folder / "series")
        write_seg(folder / "seg.dcm", labels, volume.grid, series, names=names)
        self.archive.store((folder / "seg.dcm").read_bytes(), self.archive.link(image_id).study_uid)
        write_nifti(folder / "label.nii.gz", labels.astype(np.uint16 if labels.max() > 255 else np.uint8), volume.grid)
        return folder / "label.nii.gz"


def make_client(url):
    """A client of a DICOMweb server, with the credentials and prefixes of MONAI Label's settings."""
    user, password = credentials()
    session = create_session_from_user_pass(user, password) if user else None
    return DICOMwebClientX(url=url, session=session, qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
                           wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
                           stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX)


def credentials():
    """User and password for the PACS, as MONAI Label's settings have them."""
    return settings.MONAI_LABEL_DICOMWEB_USERNAME or "", settings.MONAI_LABEL_DICOMWEB_PASSWORD or ""
