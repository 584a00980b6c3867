"""``promptzoo self-train``: a detector learns from its own boxes on pictures that nobody labelled."""
from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, List, Optional

import typer

from promptzoo.cli.common import JSON_OPTION, existing, print_json, waiting
from promptzoo.cli.detect import detection_bundle, load_detector
from promptzoo.core.bundles import METADATA, BundleInfo, read_json
from promptzoo.core.errors import NotFoundError, PromptZooError, complain

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")
TEACHER = "attriprompter"


def self_train(
    pictures: List[str] = typer.Argument(..., help="Pictures or single slices, or folders of them."),
    text: str = typer.Option(..., "--text", "-t", help="What to find, such as nucleus."),
    out: Path = typer.Option(..., "--out", "-o", help="New folder: the bundle with what it learned."),
    bundle: str = typer.Option("auto", "--bundle", "-b", help="Name or path of a detection bundle."),
    variant: Optional[str] = typer.Option(None, help="Variant that finds the boxes to learn from. Default: "
                                                     f"{TEACHER} where the bundle has it."),
    iterations: int = typer.Option(60, min=1, help="Steps of four views; about 0.4 s each."),
    threshold: float = typer.Option(0.3, help="Score from which a box is learned from."),
    seed: int = typer.Option(0, help="Of all draws."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Let a detector learn from its own boxes on pictures without labels.

    Many captions find boxes; a copy of the detector learns to find them by the plain name. The result is a bundle
    folder of its own (detect --bundle FOLDER); the bundle that it came from stays as it was. Nothing is measured, for
    there are no labels: look at the boxes before and after.
    """
    from promptzoo.data.io import read_image
    from promptzoo.inference.loader import load_network
    from promptzoo.training.self_training import self_trained

    if not 0 < threshold < 1:
        raise PromptZooError(complain("--threshold", threshold, "between 0 and 1"))
    if out.exists():
        raise PromptZooError(complain("--out", str(out), "a folder that does not exist yet"))
    info, files = detection_bundle(bundle), _files(pictures)
    chosen = variant or (TEACHER if TEACHER in info.variants() else None)
    started = time.perf_counter()
    teacher, _ = load_detector(str(info.path), chosen, None, "torch", "auto", as_json)
    unknown = teacher.unknown(text)
    if unknown is not None:
        raise PromptZooError(unknown)
    with waiting(f"Learning from {len(files)} pictures", as_json):
        student, boxes = self_trained(load_network(info)[0], teacher, (read_image(path) for path in files), text,
                                      iterations, threshold, seed)
    record = {"bundle": info.name, "version": info.version, "teacher": chosen, "text": text, "pictures": len(files),
              "boxes": boxes, "iterations": iterations, "threshold": threshold, "seed": seed,
              "seconds": round(time.perf_counter() - started, 1), "out": str(out)}
    _keep(info, student, record, out)
    if as_json:
        print_json(record)
        return
    typer.echo(f"{text}: learned from {boxes} boxes in {len(files)} pictures in {record['seconds']:.0f} s")
    typer.echo(f"promptzoo detect PICTURE --bundle {out} --text \"{text}\"")


def _files(given: List[str]) -> list[Path]:
    """The pictures named, and those in the folders named.

    Raises:
        NotFoundError: if one is not there, or none is.
    """
    found: list[Path] = []
    for one in given:
        place = existing(one, "picture")
        found += sorted(f for f in place.iterdir() if f.suffix.lower() in PICTURES) if place.is_dir() else [place]
    if not found:
        raise NotFoundError(complain("pictures", ", ".join(given), f"files that end in {', '.join(PICTURES)}"))
    return found


def _keep(info: BundleInfo, student: Any, record: dict[str, Any], out: Path) -> None:
    """A copy of the bundle with the weights of the student, half precision as shipped, a version that says so, and the
    record; it is there whole or not at all."""
    import torch

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=out.parent) as part:
        fresh = Path(part) / "bundle"
        shutil.copytree(info.path, fresh, ignore=shutil.ignore_patterns("eval", "__pycache__"))
        torch.save({name: value.half() if value.is_floating_point() else value
                    for name, value in student.state_dict().items()}, fresh / str(info.weights["file"]))
        metadata = read_json(fresh / METADATA)
        metadata["version"] = f"{info.version.partition('+')[0]}+self"
        (fresh / METADATA).write_text(json.dumps(metadata, indent=4), encoding="utf-8")
        (fresh / "docs" / "self_training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        os.replace(fresh, out)
