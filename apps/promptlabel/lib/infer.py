"""The one infer task: request -> prompt set -> bundle -> label map."""
from dataclasses import replace
from pathlib import Path

from monailabel.interfaces.tasks.infer_v2 import InferTask

from promptzoo.cli.server.reply import describe, extension, label_names, labelmap, write_labels
from promptzoo.cli.server.service import is_ready
from promptzoo.cli.server.wire import Form, read_prompts
from promptzoo.core.advice import recommend
from promptzoo.text.wording import separate


def options(bundle, kinds):
    """The rows of options that clients show, with their defaults; None if there are none."""
    rows = {"text_prompt": ""} if "text" in kinds else {}
    if bundle is not None and bundle.dimensions == 2 and "box" in kinds:
        rows["through_slices"] = False
    return rows or None


class PromptInferTask(InferTask):
    """Serves one bundle under one of MONAI Label's task types, or, without a bundle, the one that fits each request.

    Args:
        service: :class:`promptzoo.cli.server.service.PromptService`.
        type: MONAI Label's task type.
        bundle: the bundle; None to choose by image and prompts.
        results: folder for result files.
    """

    def __init__(self, service, type, bundle=None, results=Path(".")):
        labels = bundle.label.get("labels") if bundle else None
        kinds = bundle.prompts if bundle else {kind for b in service.bundles.values() for kind in b.prompts}
        super().__init__(type, list(labels or ["object"]), bundle.dimensions if bundle else 3,
                         bundle.description if bundle else "Chooses the bundle by image and prompts",
                         options(bundle, kinds))
        self.service, self.results = service, results
        self.name = bundle.name if bundle else ""
        self.form = Form(str(type), dict(enumerate(self.labels, 1)), frozenset(kinds))

    @property
    def bundle(self):
        """The bundle in the version in use; None to choose one."""
        return self.service.bundle(self.name) if self.name else None

    def is_valid(self):
        """Whether the weights are there."""
        return self.bundle is None or is_ready(self.bundle)

    def info(self):
        """What MONAI Label tells clients of the task; with the advice of the bundle's study, if it has one."""
        self._renew_labels()
        told = recommend(self.bundle) if self.bundle else None
        return super().info() | ({"recommended_prompt": told.prompt} if told else {})

    def _renew_labels(self):
        """A bundle may have been taught a structure, or made to forget one, since the start."""
        if self.bundle and self.bundle.learns:
            self.labels = list(self.bundle.label["labels"])
            self.form = replace(self.form, labels=dict(enumerate(self.labels, 1)))

    def __call__(self, request):
        """Segment; returns the path of the label map and its description.

        In a batch nobody looks at the answers, so an empty label map is not kept there.
        """
        image = self.service.images.open(request["image"])
        self._renew_labels()
        prompts = read_prompts(request, self.form, image.grid)
        bundle = self.bundle or self.service.choose(
            image.grid, prompts.kinds, [p.name for p in prompts.of("class")], [p.text for p in prompts.of("text")])
        prompts.check_on(image.grid, bundle.prompts)
        prompts = separate(prompts, bundle.spoken_classes)[0]
        suffix = extension(request, image.path)
        client = request.get("client_id") or (request.get("session") or {}).get("name")
        answer = self.service.answer(image, prompts, bundle, client, bool(request.get("reset_state")))
        labels = labelmap(answer, request)
        if "_image_id" in request and not labels.any():
            return None, describe(answer, labels)
        file = write_labels(labels, image.grid, label_names(answer, labels), suffix,
                            bool(request.get("result_compress")), self.results)
        return str(file), describe(answer, labels)
