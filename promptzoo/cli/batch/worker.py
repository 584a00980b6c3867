"""What one process of a batch does: load the bundle once, answer study after study."""
from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptzoo.cli.batch.studies import Study, client_of
from promptzoo.cli.choice import file_sha256
from promptzoo.core.errors import ConflictError, complain
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import PromptSet


@dataclass(frozen=True)
class Job:
    """What is done with every study; picklable.

    Args:
        bundle: folder of the bundle.
        version: of the bundle; part of the key of results.
        variant, engine, precision: see :func:`promptzoo.inference.load_predictor`.
        labels: ``BundleInfo.spoken_classes``; texts become one object for each class that they ask for.
        out: folder of the results.
        suffix: of the masks.
        overlap: whose a voxel is that two objects claim.
        threads: of torch in each process; 0 for its default.
        embeddings: compute what the bundle computes before it knows the prompts, and no masks.
    """

    bundle: str
    version: str
    variant: str | None
    engine: str
    precision: str
    labels: tuple[str, ...]
    out: str
    suffix: str = ".nii.gz"
    overlap: str = "last"
    threads: int = 0
    embeddings: bool = False

    def key(self, study: Study) -> str:
        """Digest of what decides the result: bundle, variant, prompts, image (by path, size and time of change)."""
        stamp = ""
        if not study.remote:
            files = sorted(Path(study.image).rglob("*")) if Path(study.image).is_dir() else [Path(study.image)]
            stamp = "".join(f"{f.name} {f.stat().st_size} {f.stat().st_mtime_ns}\n" for f in files if f.is_file())
        told = (Path(self.bundle).name, self.version, self.variant, self.precision, self.overlap, self.suffix,
                study.image, study.remote, study.prompts, study.log, stamp) + (("embeddings",) * self.embeddings)
        return hashlib.sha256(repr(told).encode()).hexdigest()


class Worker:
    """Answers studies with one predictor, which is loaded at the first of them.

    Args:
        job: what is done.
    """

    def __init__(self, job: Job) -> None:
        self.job, self._predictor = job, None

    def __call__(self, study: Study) -> dict[str, Any]:
        """Segment a study and write its mask, which appears in its place only when it is whole.

        Returns:
            ``mask`` (relative to the folder of results), ``sha256``, ``objects`` (``id``, ``name``, ``voxels``,
            ``estimated_dice``, perhaps ``note``; of a replay ``dice_to_saved``), ``seconds``, ``pid``.

        Raises:
            PromptZooError: if image or prompts cannot be used.
        """
        from promptzoo.data.io import read_mask, write_mask
        from promptzoo.evaluation.metrics import dice
        from promptzoo.text.wording import separate

        started = time.perf_counter()
        predictor = self.predictor()
        volume = self._volume(study)
        if self.job.embeddings:
            return self._ahead(study, volume, started)
        prompts = separate(PromptSet.from_json(study.prompts), self.job.labels)[0]
        prompts = prompts.check_on(volume.grid, predictor.prompt_kinds)
        if study.log:
            prediction, rule = replayed(study.log, predictor, volume)
        else:
            prediction, rule = predictor.decode(predictor.encode(volume), prompts), self.job.overlap
        labels = prediction.labelmap(rule)
        saved = read_mask(study.saved)[0] if study.saved else None
        names = {info.object_id: info.name or f"object {info.object_id}" for info in prompts.objects}
        target = Path(self.job.out) / f"{study.name}{self.job.suffix}"
        with tempfile.TemporaryDirectory(dir=self.job.out, prefix=".part-") as folder:
            file = Path(folder) / target.name
            write_mask(file, labels, volume.grid, names=names, provenance={
                "image": study.image, "bundle": Path(self.job.bundle).name, "version": self.job.version,
                "variant": self.job.variant, "engine": prediction.engine, "prompts": prompts.to_json()})
            for made in sorted(Path(folder).iterdir(), key=lambda path: path == file):  # the mask last
                os.replace(made, target.with_name(made.name))
        told = []
        for entry in prediction.objects:
            voxels = int((labels == entry.object_id).sum())
            estimate = None if entry.estimated_dice is None else round(float(entry.estimated_dice), 4)
            told.append({"id": entry.object_id, "name": names[entry.object_id], "voxels": voxels,
                         "estimated_dice": estimate,
                         **({} if saved is None else {"dice_to_saved": round(dice(
                             labels == entry.object_id, saved == entry.object_id), 4)}),
                         **({} if voxels else {"note": str(entry.info.get("reason", "empty mask"))})})
        return {"mask": target.name, "sha256": file_sha256(target), "objects": told, "pid": os.getpid(),
                "seconds": round(time.perf_counter() - started, 3)}

    def _ahead(self, study: Study, volume: Volume, started: float) -> dict[str, Any]:
        """Let the predictor compute and keep what it needs of an image, and write which files that is."""
        predictor = self.predictor()
        kept = getattr(predictor, predictor.ahead_part)
        kept.used.clear()
        for _ in predictor.ahead(predictor.encode(volume)):
            pass
        target = Path(self.job.out) / f"{study.name}.embeddings.json"
        files = {str(file.relative_to(self.job.out)): size for file, size in sorted(kept.used.items())}
        with tempfile.TemporaryDirectory(dir=self.job.out, prefix=".part-") as folder:
            part = Path(folder) / target.name
            part.write_text(json.dumps({"image": study.image, "image_hash": volume.content_hash, "files": files},
                                       indent=1), encoding="utf-8")
            os.replace(part, target)
        return {"mask": target.name, "sha256": file_sha256(target), "objects": [], "pid": os.getpid(),
                "files": len(files), "bytes": sum(files.values()), "seconds": round(time.perf_counter() - started, 3)}

    def predictor(self) -> Any:
        """The predictor, loaded at the first call; raises what :func:`promptzoo.inference.load_predictor` raises."""
        if self._predictor is None:
            from promptzoo.inference import load_predictor

            if self.job.threads:
                import torch

                torch.set_num_threads(self.job.threads)
            keep = {"embeddings": self.job.out} if self.job.embeddings else {}
            self._predictor = load_predictor(self.job.bundle, self.job.engine, self.job.precision, self.job.variant,
                                             **keep)
        return self._predictor

    def _volume(self, study: Study) -> Volume:
        from promptzoo.data.io import read_image

        if not study.remote:
            return read_image(study.image)
        from promptzoo.data.dicomweb.remote import RemoteArchive

        with tempfile.TemporaryDirectory(prefix="promptzoo-batch-") as folder:
            return read_image(RemoteArchive(client_of(study.remote)).export(study.image, folder))


def replayed(log: str, predictor: Any, volume: Volume) -> tuple[Any, str]:
    """What a predictor answers to the steps of a session, one refining the other, and the overlap rule at its end.

    Args:
        log: JSON of the session's export.
        predictor: of any version, or of another bundle that takes the same kinds of prompt.
        volume: the session's image.

    Raises:
        ConflictError: if the image is another one.
        PromptError: if the bundle does not take the prompts.
    """
    from promptzoo.core.protocols import Prediction
    from promptzoo.inference.sessions.provenance import read_operations
    from promptzoo.inference.sessions.runner import take_step
    from promptzoo.inference.sessions.state import fold

    told = json.loads(log)
    if told["image"]["hash"] != volume.content_hash:
        raise ConflictError(complain("image of the session", volume.content_hash, told["image"]["hash"],
                                     "It changed since the session"))
    state = fold(read_operations(told, "replay"))
    encoded, prediction = predictor.encode(volume), None
    for step in state.steps:
        prediction = take_step(step, predictor, encoded, prediction)
    return prediction or Prediction(volume.grid, (), 0.0, "none"), state.overlap
