"""``promptzoo batch``: the command."""
from __future__ import annotations

import time
from pathlib import Path
from typing import Any, List, Optional

import typer

from promptzoo.cli import options
from promptzoo.cli.batch.manifest import Manifest
from promptzoo.cli.batch.pool import work_through
from promptzoo.cli.batch.studies import Study, common_prompts, studies_of
from promptzoo.cli.batch.worker import Job
from promptzoo.cli.common import JSON_OPTION, UNEXPECTED, one_of, print_json, print_table, progress, say, say_error
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.protocols import OVERLAP_RULES
from promptzoo.prompts.types import PromptSet

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".png")


def batch(
    studies: str = typer.Argument(..., help="CSV with a column image (and perhaps id and prompts), a folder, or "
                                            "http(s)://…/dicom-web?Modality=CT."),
    bundle: str = typer.Option(..., "--bundle", "-b", help="Name of a bundle, or the path of its folder."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the results."),
    prompts: Optional[Path] = typer.Option(None, help="Prompt set as JSON, in world space, for every image without "
                                                      "prompts of its own."),
    text: Optional[List[str]] = typer.Option(None, help="What to segment, in words; several times."),
    classes: Optional[List[str]] = typer.Option(None, "--class", help="A class that the bundle knows; several times."),
    remaining: bool = typer.Option(False, "--remaining", help="STUDIES is the folder of a server: only the images "
                                                              "without a final label."),
    replay: bool = typer.Option(False, "--replay", help="STUDIES is the folder of a server: the prompts of saved "
                                                        "sessions, step by step, compared with what was saved."),
    embeddings: bool = typer.Option(False, "--embeddings", help="No masks: compute in advance what the bundle computes "
                                                                "before it knows the prompts. serve, segment and batch "
                                                                "use it with PROMPTZOO_EMBEDDINGS=OUT."),
    jobs: int = typer.Option(1, "--jobs", "-j", min=1, help="Processes."),
    ray: Optional[str] = typer.Option(None, help="Work on a Ray cluster: auto, or its address; --jobs is the number of "
                                                 "actors."),
    retries: int = typer.Option(2, min=0, help="Further attempts at a study whose process died or failed."),
    engine: str = options.ENGINE,
    precision: str = options.PRECISION,
    variant: Optional[str] = options.VARIANT,
    suffix: str = typer.Option(".nii.gz", help="Of the masks: .nii.gz, .nii, .nrrd, .seg.nrrd or .png."),
    overlap: str = typer.Option("last", help="Whose a voxel is that two objects claim: last, first or probability."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Segment many studies, and go on where an interrupted run ended.

    Every finished study has one line in OUT/manifest.jsonl with the hash of its mask; a study whose line, inputs and
    mask agree is not done again. A study that fails is reported and keeps none of the others. A process that dies is
    replaced.
    """
    one_of(suffix, SUFFIXES, "--suffix")
    one_of(overlap, OVERLAP_RULES, "--overlap")
    info = get_bundle(bundle)
    if variant is not None:
        info.variant(variant)
    if info.task != "segmentation":
        raise PromptZooError(complain(f"task of {info.name}", info.task, "segmentation"))
    common = common_prompts(prompts, text or (), classes or ())
    if replay and (remaining or common is not None):
        raise PromptZooError(complain("--replay", "with other prompts or --remaining", "alone: the sessions' prompts"))
    if embeddings:
        if replay or common is not None:
            raise PromptZooError(complain("--embeddings", "with prompts", "alone: it computes what no prompt changes"))
        common = PromptSet(())
    found = studies_of(studies, common, "replay" if replay else "remaining" if remaining else "")
    names = [study.name for study in found]
    if len(set(names)) < len(names):
        raise PromptZooError(complain("ids of studies", "some differ only in letters that file names cannot hold",
                                      "ids that differ", "Give them ids in a list"))
    job = Job(str(info.path), info.version, variant, engine, precision, info.spoken_classes,
              str(out.expanduser().resolve()), suffix, overlap, threads=1 if jobs > 1 else 0, embeddings=embeddings)
    if embeddings:
        from promptzoo.inference import load_predictor

        load_predictor(job.bundle, "torch", "auto", variant, embeddings=job.out)  # told once, not for every study
    manifest = Manifest(Path(job.out))
    try:
        record = _run(job, found, manifest, jobs, retries, ray, as_json)
    finally:
        manifest.close()
    objects = [one for study in found for one in manifest.records.get(study.id, {}).get("objects", ())]
    agreement = [one["dice_to_saved"] for one in objects if "dice_to_saved" in one]
    if embeddings:
        kept = [manifest.records.get(study.id, {}) for study in found]
        record["embeddings"] = {name: sum(one.get(name, 0) for one in kept) for name in ("files", "bytes")}
    if agreement:
        record["dice_to_saved"] = {"mean": round(sum(agreement) / len(agreement), 4), "objects": len(agreement)}
    record |= {"bundle": info.name, "version": info.version, "out": job.out}
    print_json(record) if as_json else _print(record)
    if record["failed"]:
        raise typer.Exit(UNEXPECTED)


def _run(job: Job, studies: list[Study], manifest: Manifest, jobs: int, retries: int, ray: str | None, quiet: bool
         ) -> dict[str, Any]:
    started = time.perf_counter()
    keys = {study.id: _key(job, study) for study in studies}
    todo = [study for study in studies if not manifest.done(study.id, keys[study.id])]
    if len(todo) < len(studies):
        say(f"{len(studies) - len(todo)} of {len(studies)} were done before.")
    if ray is None:
        outcomes = work_through(job, todo, jobs, retries)
    else:
        from promptzoo.cli.batch.on_ray import work_on_ray

        outcomes = work_on_ray(job, todo, jobs, retries, ray)
    interrupted, errors, busy = False, [], 0.0
    with progress("batch", quiet) as report:
        try:
            for count, (study, told, error) in enumerate(outcomes, 1):
                line = {"id": study.id, "image": study.image, "key": keys[study.id],
                        "status": "failed" if told is None else "done"}
                manifest.write({**line, "error": error} if told is None else {**line, **told})
                errors += [{"id": study.id, "error": error}] if told is None else []
                busy += 0.0 if told is None else told["seconds"]
                report(count, len(todo), study.id)
        except KeyboardInterrupt:
            interrupted = True
            say("Interrupted: what is in the manifest is done; the same command goes on.")
    done = sum(manifest.records.get(s.id, {}).get("status") == "done" for s in studies)
    seconds = time.perf_counter() - started
    return {"studies": len(studies), "done": done, "before": len(studies) - len(todo), "failed": len(errors),
            "errors": errors, "interrupted": interrupted, "seconds": round(seconds, 2), "jobs": jobs,
            "seconds_in_studies": round(busy, 2), "manifest": str(manifest.path)}


def _key(job: Job, study: Study) -> str:
    try:
        return job.key(study)
    except OSError:
        return ""  # the worker will say what is wrong with the file


def _print(record: dict[str, Any]) -> None:
    for entry in record["errors"][:10]:
        say_error(f"{entry['id']}: {entry['error']}")
    if len(record["errors"]) > 10:
        say_error(f"… and {len(record['errors']) - 10} more, see {record['manifest']}")
    print_table(["studies", "done", "of them before", "failed", "seconds", "processes"],
                [[record["studies"], record["done"], record["before"], record["failed"], record["seconds"],
                  record["jobs"]]])
    if "embeddings" in record:
        told = record["embeddings"]
        say(f"{told['files']} embeddings, {told['bytes'] / 1e6:.1f} MB; use them with PROMPTZOO_EMBEDDINGS="
            f"{record['out']}")
    if "dice_to_saved" in record:
        told = record["dice_to_saved"]
        say(f"mean Dice to what was saved: {told['mean']:.3f} on {told['objects']} objects")
    typer.echo(f"results: {record['out']}")
