"""MONAI Label's datastore of a folder, made to survive a kill at any moment and to notice new files."""
import json
import logging
import os
import shutil
import time
from pathlib import Path

from filelock import FileLock
from monailabel.config import settings
from monailabel.datastore.local import DataModel, LocalDatastore
from monailabel.interfaces.exception import ImageNotFoundException

from promptzoo.cli.server.studies import prepare_studies
from promptzoo.core.files import replace_file
from promptzoo.data.dicomweb.folder import SUFFIXES

logger = logging.getLogger(__name__)


class StudyDatastore(LocalDatastore):
    """The images and labels of a folder of studies.

    MONAI Label writes labels and its list of them in place: a kill while it writes leaves half a label where a whole
    one was, or a list that keeps the server from starting.

    Args:
        source: the folder of studies, as :func:`promptzoo.cli.server.studies.prepare_studies` takes it.
    """

    def __init__(self, source):
        self.source = source
        studies = prepare_studies(source)
        for uid, reason in studies.skipped.items():
            logger.warning("DICOM series %s is not offered: %s", uid, reason)
        self._set_broken_list_aside(studies.folder / "datastore_v2.json")
        super().__init__(str(studies.folder), extensions=[f"*{suffix}" for suffix in SUFFIXES],
                         auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
                         read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY)

    @staticmethod
    def _set_broken_list_aside(listing):
        """A list that an older server left half-written is kept under another name; labels are found again by name."""
        try:
            if listing.is_file():
                json.loads(listing.read_text(encoding="utf-8"))
        except ValueError:
            aside = listing.resolve().with_name(f"datastore_v2.broken-{int(time.time())}.json")
            logger.error("%s is broken; it is kept as %s and made anew", listing, aside.name)
            os.replace(os.path.realpath(listing), aside)

    def get_image_uri(self, image_id):
        """Path of an image; looks at the folder again if it is not known yet."""
        found = super().get_image_uri(image_id)
        if not found and image_id:
            self.look_again()
            found = super().get_image_uri(image_id)
        return found

    def look_again(self):
        """Take in images that were added to the folder, DICOM series included."""
        prepare_studies(self.source)
        self.refresh()

    def save_label(self, image_id, label_filename, label_tag, label_info):
        """Save a label; the earlier one of the same tag stays whole until the new one is."""
        known = self._datastore.objects.get(image_id)
        if not known:
            raise ImageNotFoundException(f"Image {image_id} not found")
        _, suffix = self._to_id(os.path.basename(label_filename))
        name = self._filename(image_id, suffix)
        folder = Path(self._datastore.label_path(label_tag))
        with FileLock(self._lock_file):
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / name, lambda new: shutil.copyfile(label_filename, new))
            info = {**(label_info or {}), "ts": int(time.time()), "name": name}
            known.labels[label_tag] = DataModel(info=info, ext=suffix)
            self._update_datastore_file(lock=False)
        return image_id

    def _update_datastore_file(self, lock=True):
        if lock:
            with FileLock(self._lock_file):
                self._update_datastore_file(lock=False)
            return
        self._ignore_event_config = True
        text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
        replace_file(self._datastore_config_path, lambda new: Path(new).write_text(text, encoding="utf-8"))
        self._config_ts = os.stat(self._datastore_config_path).st_mtime
