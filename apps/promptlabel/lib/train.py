"""The train task: a bundle fine-tuned on the labels that were saved, in a process of its own at the lowest priority."""
import logging
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path

import torch
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.task import AsyncTask

from promptzoo.core.errors import ConflictError, PromptZooError, complain
from promptzoo.core.versions import Versions
from promptzoo.data.io import read_image
from promptzoo.training.corrections import Corrected, read_log
from promptzoo.training.settings import Settings

logger = logging.getLogger(__name__)
NICE = 10
"""A click gets nine tenths of a core that it shares with a training."""


def final_labels(store):
    """Images with a final label made here: pairs of image id and what the store knows of the label."""
    found = []
    for image_id in store.list_images():
        label_id = store.get_label_by_image_id(image_id, DefaultLabelTag.FINAL)
        if label_id:
            found.append((image_id, label_id, store.get_label_info(label_id, DefaultLabelTag.FINAL) or {}))
    return sorted(found, key=lambda entry: (entry[2].get("ts", 0), entry[0]))


def label_names(info):
    """Names of the objects of a label by their values, from what the store knows of it."""
    told = (info.get("params") or {}).get("label_names") or {
        entry.get("name") or f"object {n}": entry.get("idx", n) for n, entry in enumerate(
            info.get("label_info") or [{"name": "object", "idx": 1}], 1)}
    return {int(value): str(name) for name, value in told.items()}


def corrected_cases(store):
    """The saved labels with their prompt logs, the one saved first first."""
    cases = []
    for image_id, label_id, info in final_labels(store):
        image, label = store.get_image_uri(image_id), Path(store.get_label_uri(label_id, DefaultLabelTag.FINAL))
        try:
            modality = str(read_image(image).meta.get("modality") or "")
        except PromptZooError as error:
            logger.warning("image %s is not trained on: %s", image_id, error)
            continue
        cases.append(Corrected(image_id, Path(image), label, modality, label_names(info), read_log(label)))
    return cases


def end_with_parent(pause_s=1.0):
    """End this process soon after the server that started it: nobody would look after it any more."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(pause_s)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


class CorrectionTrainTask(TrainTask):
    """Fine-tunes one bundle.

    Args:
        bundle: as it came.
    """

    def __init__(self, bundle):
        super().__init__(f"Fine-tunes {bundle.name} on the saved labels; the result is used if it is better on cases "
                         "that were held back")
        self.bundle = bundle

    def config(self):
        """The settings with their defaults."""
        told = asdict(Settings())
        return {name: told[name] for name in ("iterations", "minutes", "learning_rate", "real_share", "seed")}

    def stats(self):
        """The last training and the version in use."""
        versions = Versions(self.bundle)
        history = versions.history()
        return {"version": versions.info(versions.current).version, "progress": versions.progress(),
                "last": history[-1] if history else {}}

    def __call__(self, request, datastore):
        """Train; what is reported is printed, so that MONAI Label's clients see it in the details of the task."""
        defaults = self.config()
        try:
            settings = Settings(**{name: type(usual)(request.get(name, usual)) for name, usual in defaults.items()})
        except (TypeError, ValueError) as error:
            raise PromptZooError(complain("settings of the training", {n: request.get(n) for n in defaults},
                                          "numbers")) from error
        from promptzoo.training.finetune import finetune  # heavy, and of no use to the server itself

        os.nice(NICE)
        torch.set_num_threads(1)
        end_with_parent()
        record = finetune(self.bundle, corrected_cases(datastore), settings, lambda state: print(state, flush=True))
        return record


class BackgroundTrainer:
    """Trainings as background tasks of MONAI Label, so that its clients see and stop them too.

    Args:
        app: the app.
    """

    def __init__(self, app):
        self.app = app

    def start(self, bundle, settings):
        """Start one."""
        task, reason = AsyncTask.run("train", request={"model": bundle}, params=dict(settings))
        if task is None:
            raise ConflictError(complain("training", reason, "one at a time", "Wait for it, or cancel it"))

    def cancel(self):
        """End the one that runs."""
        return AsyncTask.stop("train") is not None

    def corrected(self):
        """Images with a final label."""
        return len(final_labels(self.app.datastore()))
