"""Every work-around for MONAI Label 0.8.5, each with its reason; tests/apps/test_shims.py has a test for each.

Two of them must be in place before MONAI Label is imported, which is before it imports this app; they are in
``promptzoo.core.autoload``: ``pydicom._storage_sopclass_uids`` for pydicom_seg, and torchvision's operator schemas
beside a CPU build of torch.
"""
import json
import os
import sys
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace

import torch
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.endpoints import infer as infer_endpoint
from monailabel.endpoints.user import auth
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask

from promptzoo.cli.server import problems
from promptzoo.core.errors import ImageError, NotFoundError, PromptError, complain
from promptzoo.core.locations import cache_dir

DEFAULTS = {
    "MONAI_LABEL_AUTO_UPDATE_SCORING": False,  # every start, next sample and training forks a process that scores all
    "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": {},  # CT only by default
    "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY": 2,  # two hours by default: the case just labelled is offered again
}
SIGNATURES = ("RS256", "RS384", "RS512", "PS256", "ES256", "EdDSA")


def settings_that_work() -> None:
    """Better defaults for settings that the user did not set."""
    for name, value in DEFAULTS.items():
        if name not in os.environ:
            setattr(settings, name, value)


def background_tasks_start() -> None:
    """Batch inference, training and scoring run ``os.environ["PYTHONPATH"] + …``: without the variable they hang. And
    they accept any model or method: a process starts, imports everything, and fails where nobody looks."""
    os.environ.setdefault("PYTHONPATH", "")
    original = AsyncTask.run
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def run(method, request=None, params=None, force_sync=False, enqueue=False):
        app_instance().check_task(method, {**(request or {}), **(params or {})})
        return original(method, request, params, force_sync, enqueue)

    AsyncTask.run = staticmethod(run)


def errors_are_json() -> None:
    """MONAI Label raises plain exceptions for unknown models, images and strategies: "500 Internal Server Error"."""
    host = sys.modules.get("monailabel.app")  # absent in the processes of background tasks, which answer nobody
    if host is not None:
        problems.install(host.app, MONAILabelException)


def infer_requests_are_checked() -> None:
    """``/infer`` reads its parameters unchecked: no image, broken JSON, a JSON list, or DICOM SEG without a DICOMweb
    server (after the whole inference) end in a 500."""
    original = infer_endpoint.run_inference
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def run_inference(tasks, model, image="", session_id="", params="{}", file=None, label=None, output=None):
        if not (file or image or session_id):
            raise NotFoundError(complain("image of the request", "none", "image=ID, an uploaded file or a session_id"))
        if not isinstance(json.loads(params or "{}"), dict):
            raise PromptError(complain("params", params, "a JSON object"))
        if output == "dicom_seg" and not isinstance(app_instance().datastore(), DICOMWebDatastore):
            raise ImageError(complain("output", "dicom_seg", "image, json or all", "It needs a DICOMweb server"))
        return original(tasks, model, image, session_id, params, file, label, output)

    infer_endpoint.run_inference = run_inference


def tokens_are_read() -> None:
    """With MONAI Label's own login every request ends in 401: PyJWT 2 wants to be told the algorithms of signatures.
    Only asymmetric ones are allowed: the realm's key is public."""
    if not isinstance(auth.jwt, SimpleNamespace):
        auth.jwt = SimpleNamespace(decode=partial(auth.jwt.decode, algorithms=list(SIGNATURES)))


def result_folder() -> Path:
    """A folder of our own for results: MONAILabelClient stores an answer under the name of the server's temporary file,
    by default in the same folder, and the server deletes that file once it is sent."""
    return cache_dir("results")


class BatchInfer(BatchInferTask):
    """Batch inference that runs without a CUDA device, where MONAI Label divides by the number of devices, zero."""

    def __call__(self, request, datastore, infer):
        """Run on the CPU if there is no CUDA device."""
        if not torch.cuda.is_available():
            request = {**request, "multi_gpu": False, "device": "cpu"}
        return super().__call__(request, datastore, infer)


def install() -> None:
    """Put every work-around in place that does not belong to a class; harmless when repeated."""
    settings_that_work()
    background_tasks_start()
    errors_are_json()
    infer_requests_are_checked()
    tokens_are_read()
