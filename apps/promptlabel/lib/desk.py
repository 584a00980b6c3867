"""What our routes need of the app: images, labels, strategies, sessions and the DICOM store."""
import hashlib
import json
from pathlib import Path

from lib.datastore import StudyDatastore
from lib.pacs import PacsDatastore, make_client
from lib.train import final_labels, label_names
from monailabel.interfaces.datastore import DefaultLabelTag

from promptzoo.active_learning.ledger import Ledger
from promptzoo.active_learning.places import Place
from promptzoo.active_learning.scores import encoder_embedding, scoring
from promptzoo.active_learning.strategies import STRATEGIES, USUAL_CLICKS
from promptzoo.cli.server.service import is_ready
from promptzoo.cli.server.worklist import Cases, Scorer, Worklist
from promptzoo.core.bundles import get_shipped
from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.locations import data_dir, versions_dir
from promptzoo.core.seeding import generator
from promptzoo.data.dicomweb.remote import RemoteArchive
from promptzoo.data.dicomweb.store import DicomStore
from promptzoo.data.io import read_mask
from promptzoo.inference.sessions import SessionRunner, SessionStore
from promptzoo.training.corrections import read_log
from promptzoo.training.settings import why_not_trainable

EMBEDDER = "sam_box_finetune"
"""The bundle whose encoder says how alike images are."""
LATEST = 20
"""Labels from which is learned where structures lie and how many prompts they take."""


def session_file(studies):
    """The file of the sessions of a folder, or of a server, of studies; on the local disk, as SQLite needs."""
    place = studies if "://" in studies else str(Path(studies).expanduser().resolve())
    return data_dir("sessions") / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.sqlite"


class Desk:
    """Between our routes and the app.

    Args:
        app: the app; its datastore is asked for only while a request is answered.
        studies: folder or URL.
        queue: :class:`promptzoo.cli.server.work.WorkQueue` of the device.
        sessions: file of the sessions; empty for the usual one.
        cache_bytes: most memory for the answers of sessions.
    """

    def __init__(self, app, studies, queue, sessions="", cache_bytes=256 << 20):
        self.app, self.service = app, app.service
        self.sessions = SessionStore(sessions or session_file(studies))
        self.runner = SessionRunner(cache_bytes)
        self.client = make_client(studies) if "://" in studies else None
        self.store = None if self.client else DicomStore(studies)
        self.archive = RemoteArchive(self.client) if self.client else self.store
        self._places = None, {}
        ledger = Ledger(self.sessions.path.with_suffix(".work.sqlite"))
        self.worklist = Worklist(ledger, self.cases, Scorer(self.scoring, ledger, queue).want)

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

    def trainable(self):
        """Bundles, as they came, that can be trained on corrections; none where versions are switched off."""
        if versions_dir() is None:
            return {}
        found = {name: get_shipped(name, self.service.folder) for name in self.bundles()}
        return {name: bundle for name, bundle in found.items() if not why_not_trainable(bundle)}

    def strategies(self):
        """Description of every strategy."""
        return {name: strategy.description for name, strategy in STRATEGIES.items()}

    def next_case(self, strategy, user=""):
        """The next case of a user by a strategy, with the reason; ``id`` None if there is none."""
        if strategy not in STRATEGIES:
            raise NotFoundError(complain("strategy", strategy, ", ".join(STRATEGIES)))
        self.look_again()
        return self.worklist.next(strategy, user)

    def cases(self):
        """The images, as the worklist needs them."""
        store = self.app.datastore()
        done = set(store.get_labeled_images(DefaultLabelTag.FINAL))
        images = sorted(store.list_images())
        corrected = {entry[0]: entry for entry in final_labels(store)}
        logs = [read_log(Path(store.get_label_uri(label, DefaultLabelTag.FINAL))) for _, label, _ in
                list(corrected.values())[-LATEST:]]
        prompts = [len(log["given"]) / max(1, len({p["object_id"] for p in log["prompts"]["prompts"]}))
                   for log in logs if log.get("given")]
        names = sorted({name for _, _, info in corrected.values() for name in label_names(info).values()})
        key = json.dumps([names, {name: bundle.version for name, bundle in self.bundles().items()
                                  if {"box"} <= set(bundle.prompts)}])
        return Cases([i for i in images if i not in done], [i for i in images if i in done], key,
                     sum(prompts) / len(prompts) if prompts else USUAL_CLICKS)

    def scoring(self, image_id):
        """The steps that score an image, with the bundle that would answer a box on it."""
        image = self.service.images.open(self.find_image(image_id))
        yield
        bundle = self.service.choose(image.grid, {"box"})
        predictor = self.service.predictor(bundle.name, bundle.version)
        embedder = self.service.predictor(EMBEDDER).segmenter
        yield
        return (yield from scoring(image_id, image.take_volume(), predictor, bundle.dimensions, self.places(),
                                   encoder_embedding(embedder.parts.encode, embedder.settings.window),
                                   generator(int(image.content_hash[:8], 16))))

    def places(self):
        """Where the structures of the latest labels lie, by name; one of no name without labels."""
        store, found = self.app.datastore(), {}
        latest = final_labels(store)[-LATEST:]
        sign = [(image_id, info.get("ts")) for image_id, _, info in latest]
        if sign == self._places[0]:
            return self._places[1]
        for image_id, label, info in latest:
            labels, grid = read_mask(store.get_label_uri(label, DefaultLabelTag.FINAL))
            for value, name in label_names(info).items():
                place = Place.of(labels == value, grid)
                found.setdefault(name, []).extend([place] if place else [])
        self._places = sign, {name: Place.mean(places) for name, places in (found or {"object": []}).items()}
        return self._places[1]

    def look_again(self):
        """Take in images that came to the folder since; a PACS is asked at every request anyway."""
        store = self.app.datastore()
        if isinstance(store, StudyDatastore):
            store.look_again()
