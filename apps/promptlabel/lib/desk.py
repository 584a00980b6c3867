"""What our routes need of the app: images, labels, strategies, sessions and the DICOM store."""
import hashlib
from pathlib import Path

from lib.datastore import StudyDatastore
from lib.pacs import PacsDatastore, make_client
from monailabel.interfaces.datastore import DefaultLabelTag

from promptzoo.cli.server.service import is_ready
from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.locations import data_dir
from promptzoo.data.dicomweb.remote import RemoteArchive
from promptzoo.data.dicomweb.store import DicomStore
from promptzoo.inference.sessions import SessionRunner, SessionStore


def session_file(studies):
    """The file of the sessions of a folder, or of a server, of studies; on the local disk, as SQLite needs."""
    place = studies if "://" in studies else str(Path(studies).expanduser().resolve())
    return data_dir("sessions") / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.sqlite"


class Desk:
    """Between our routes and the app.

    Args:
        app: the app; its datastore is asked for only while a request is answered.
        studies: folder or URL.
        sessions: file of the sessions; empty for the usual one.
        cache_bytes: most memory for the answers of sessions.
    """

    def __init__(self, app, studies, sessions="", cache_bytes=256 << 20):
        self.app, self.service = app, app.service
        self.sessions = SessionStore(sessions or session_file(studies))
        self.runner = SessionRunner(cache_bytes)
        self.client = make_client(studies) if "://" in studies else None
        self.store = None if self.client else DicomStore(studies)
        self.archive = RemoteArchive(self.client) if self.client else self.store

    def find_image(self, image_id):
        """Path of an image."""
        path = self.app.datastore().get_image_uri(image_id)
        if not path:
            raise NotFoundError(complain("image id", image_id, "an id of /datastore/?output=all", "Reload the studies"))
        return Path(path)

    def grid_of(self, image_id):
        """Voxel grid of an image."""
        return self.service.images.open(self.find_image(image_id)).grid

    def save_label(self, image_id, file, tag, info):
        """Save a label; its place."""
        store = self.app.datastore()
        save = store.save_here if isinstance(store, PacsDatastore) else store.save_label
        label = save(image_id, str(file), tag or DefaultLabelTag.FINAL, dict(info))
        return store.get_label_uri(label, tag) or label

    def bundles(self):
        """Bundles whose weights are here."""
        return {name: bundle for name, bundle in self.service.bundles.items() if is_ready(bundle)}

    def strategies(self):
        """Description of every strategy."""
        return {name: str(strategy.description) for name, strategy in self.app._strategies.items()}

    def look_again(self):
        """Take in images that came to the folder since; a PACS is asked at every request anyway."""
        store = self.app.datastore()
        if isinstance(store, StudyDatastore):
            store.look_again()

    def next_case(self, name):
        """The next case that a strategy chooses, with the reason."""
        strategy = self.app._strategies.get(name)
        if strategy is None:
            raise NotFoundError(complain("strategy", name, ", ".join(self.app._strategies) or "none"))
        self.look_again()
        chosen = strategy({"strategy": name}, self.app.datastore())
        if not chosen:
            return None
        return {"reason": f"{strategy.description}: it has no final label yet", **chosen}
