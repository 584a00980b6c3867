"""The MONAI Label app of promptzoo: serves every bundle of ``bundles/`` by what its metadata says."""
import logging
import tempfile
import threading
from pathlib import Path

import torch
from lib import routes, shims
from lib.datastore import StudyDatastore
from lib.desk import Desk
from lib.infer import PromptInferTask
from lib.pacs import PacsDatastore
from lib.strategies import NextCase
from lib.train import CorrectionTrainTask
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import DefaultLabelTag

import promptzoo
from promptzoo.cli.server.learning import keep_renewing
from promptzoo.cli.server.service import PromptService, is_ready
from promptzoo.cli.server.telemetry import Telemetry
from promptzoo.cli.server.token import read_token
from promptzoo.cli.server.work import WorkQueue
from promptzoo.core.errors import NotFoundError, complain

logger = logging.getLogger(__name__)
shims.install()


class PromptLabel(MONAILabelApp):
    """Promptable bundles for 3D Slicer, OHIF and MONAI Label's client.

    Configuration (``--conf NAME VALUE``): ``bundles`` (folder), ``engine`` (``auto``, ``torch`` …), ``cache_mb`` (most
    memory for encoded images), ``preload`` (``false``: load a bundle at its first request), ``queue`` (most requests
    that wait for the device), ``token_file`` (file with the bearer token that every request must have), ``upload_mb``
    (largest request), ``sessions`` (file of the sessions).
    """

    def __init__(self, app_dir, studies, conf):
        conf = conf or {}
        self.results = shims.result_folder()
        self.service = PromptService(conf.get("bundles"), conf.get("engine", "auto"),
                                     int(conf.get("cache_mb", 512)) << 20)
        self.queue = WorkQueue("cuda:0" if torch.cuda.is_available() else "cpu", int(conf.get("queue", 32)))
        self.loading = True
        telemetry = Telemetry(self.queue)
        self.service.heard = lambda answer: telemetry.decoded(answer.bundle.name, answer.seconds["total"])
        telemetry.watch("cache_bytes", "Memory of encoded images", lambda: self.service.states.nbytes)
        self.desk = Desk(self, studies, self.queue, conf.get("sessions", ""))
        telemetry.watch("session_bytes", "Memory of the answers of sessions", self.desk.runner.held_bytes)
        routes.serve_ours(self.desk, self.queue, telemetry, self.unready, read_token(conf.get("token_file")),
                          int(conf.get("upload_mb", 2048)) << 20)
        for bundle in self.service.bundles.values():
            if not is_ready(bundle):
                logger.warning("bundle %s is not offered: no weights %s", bundle.name, bundle.weights.get("file"))
        super().__init__(app_dir, studies, conf, name="promptzoo", version=promptzoo.__version__,
                         description="Every way of prompting a medical-imaging model. Not a medical device.")

    def init_infers(self):
        """``auto`` first, then each bundle under the type in its metadata, then once more for scribbles."""
        bundles = list(self.service.bundles.values())
        tasks = {"auto": PromptInferTask(self.service, "segmentation", None, self.results)}
        for bundle in bundles:
            kind = bundle.label.get("type") or ("deepgrow" if "point" in bundle.prompts else bundle.task)
            tasks[bundle.name] = PromptInferTask(self.service, kind, bundle, self.results)
        for bundle in bundles:
            if "scribble" in bundle.prompts and tasks[bundle.name].type != "scribbles":
                tasks[f"{bundle.name}_scribbles"] = PromptInferTask(self.service, "scribbles", bundle, self.results)
        return tasks

    def init_trainers(self):
        """Every bundle that can be trained on corrections."""
        return {name: CorrectionTrainTask(bundle) for name, bundle in self.desk.trainable().items()}

    def init_strategies(self):
        """What chooses the next case, for MONAI Label's clients."""
        return {name: NextCase(self.desk, name) for name in self.desk.strategies()}

    def init_batch_infer(self):
        """Batch inference that also runs on the CPU."""
        return shims.BatchInfer()

    def init_datastore(self):
        """A folder of NIfTI, NRRD and DICOM, a DICOMweb server, or what else MONAI Label makes of a URL."""
        if self.desk.client is not None:
            own = settings.MONAI_LABEL_DATASTORE.lower() in ("xnat", "dsa")
            return super().init_datastore() if own else PacsDatastore(self.desk.client)
        return StudyDatastore(self.studies)

    def _download_dcmqi_tools(self):
        """Not needed, and not to be fetched from the network at start: promptzoo writes DICOM SEG itself."""

    def on_init_complete(self):
        """Load the bundles while the first user still looks for the study."""
        super().on_init_complete()
        keep_renewing(self.service.renew, self.service.version_sign)
        if str(self.conf.get("preload", "true")).lower() == "false":
            self.loading = False
        else:
            threading.Thread(target=self._preload, name="preload", daemon=True).start()

    def _preload(self):
        self.service.preload()
        self.loading = False

    def unready(self):
        """What the server still waits for; empty once it can answer at once."""
        return "the bundles are being loaded" if self.loading else ""

    def infer(self, request, datastore=None):
        """Answer an infer request; unlike MONAI Label's own, with readable errors and files of the studies only."""
        self.check_task("infer", request)
        task, store = self._infers[request["model"]], datastore or self.datastore()
        image_id = request.get("image")
        path = store.get_image_uri(image_id) if isinstance(image_id, str) and image_id else ""
        listed = bool(path)
        if not listed and self._is_upload(image_id):
            path = image_id
        if not path:
            raise NotFoundError(complain("image id", image_id, "an id of /datastore/?output=all", "Reload the studies"))
        file, description = task({**request, "image": path, "description": task.description})
        label, tag = file, request.get("label_tag") or DefaultLabelTag.ORIGINAL
        if file and listed and request.get("save_label"):
            label = store.save_label(image_id, file, tag, {"model": request["model"], "params": description})
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": description}

    def check_task(self, method, request):
        """Refuse a request for a model, trainer or scoring method that is not offered."""
        offered = {"train": self._trainers, "scoring": self._scoring_methods}.get(
            method, {name: task for name, task in self._infers.items() if task.is_valid()})
        wanted = request.get("method" if method == "scoring" else "model")
        if wanted not in offered:
            raise NotFoundError(complain(f"{method} model" if method != "scoring" else "scoring method", wanted,
                                         ", ".join(offered) or "none in this version"))

    def _is_upload(self, path):
        """Whether a path is a file that a client sent: in the temporary folder or in that of the sessions."""
        place = Path(str(path)).resolve()
        sessions = Path(self.sessions().store_path).resolve() if self.sessions() is not None else None
        return place.exists() and (place.parent == Path(tempfile.gettempdir()).resolve()
                                   or sessions is not None and sessions in place.parents)
