"""``promptzoo segment``: prompts on an image become a mask on the image's own grid."""
from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, List, Mapping, Optional

import numpy as np
import typer

from promptzoo import __version__
from promptzoo.cli import options
from promptzoo.cli.choice import choose_bundle, weights_record
from promptzoo.cli.common import JSON_OPTION, command_line, one_of, print_json, print_table, say, waiting
from promptzoo.cli.prompt_options import PromptOptions
from promptzoo.cli.public import is_public, load, public_info
from promptzoo.core.bundles import BundleInfo, get_bundle
from promptzoo.core.errors import ImageError, PromptZooError, complain
from promptzoo.core.protocols import OVERLAP_RULES, Prediction
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import PromptSet


def segment(
    ctx: typer.Context,
    image: str = typer.Argument(..., help="NIfTI, NRRD, MetaImage, PNG, JPEG or TIFF file, or DICOM folder; FILE#t=3 "
                                          "takes the fourth volume of a 4D file."),
    bundle: str = typer.Option("auto", "--bundle", "-b", help="Name of a bundle, path of its folder, or auto: a 2D "
                                                              "bundle for one slice, a 3D bundle for a volume."),
    point: Optional[List[str]] = typer.Option(None, help="i,j,k[,+|-][,label]; on a 2D image also i,j."),
    box: Optional[List[str]] = typer.Option(None, help="i0,j0,k0,i1,j1,k1[,label], half-open voxel bounds; on a 2D "
                                                       "image also i0,j0,i1,j1."),
    scribble: Optional[List[str]] = typer.Option(None, help="FILE[,+|-][,label]: label map (value n is object n), "
                                                            "colour picture (red +, green -), JSON or CSV of points."),
    lasso: Optional[List[str]] = typer.Option(None, help="FILE[,+|-][,label] or 'i,j,k;i,j,k;i,j,k[;+|-][;label]': an "
                                                         "outline on one slice."),
    mask: Optional[List[str]] = typer.Option(None, help="FILE[=value][,label]: a mask to start from."),
    classes: Optional[List[str]] = typer.Option(None, "--class", help="NAME[,label]: a class that the bundle knows."),
    text: Optional[List[str]] = typer.Option(None, help="What to segment, in words: a name, a list or a sentence such "
                                                        "as 'both kidneys'."),
    attribute: Optional[List[str]] = typer.Option(None, help="NAME=VALUE[,label]: a property of the object or the "
                                                             "case, such as side=left or grade=3."),
    example: Optional[List[str]] = typer.Option(None, help="'IMAGE;MASK[=value][,label]': a finished case to imitate."),
    prompts: Optional[List[Path]] = typer.Option(None, help="Prompt set as JSON, as --save-prompts writes it."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Mask file: .nii.gz, .nrrd, .seg.nrrd, .dcm (DICOM "
                                                                 "SEG), .png. Default: IMAGE_mask in this folder."),
    png: Optional[Path] = typer.Option(None, help="Write a picture of image, prompts and mask."),
    engine: str = options.ENGINE,
    precision: str = options.PRECISION,
    through_slices: bool = typer.Option(False, "--through-slices", help="A 2D bundle carries the prompts from slice to "
                                        "slice through the volume, instead of answering the prompted slices alone."),
    variant: Optional[str] = options.VARIANT,
    weights: Optional[str] = options.WEIGHTS,
    space: str = typer.Option("voxel", help="Of typed coordinates: voxel (indices of the image) or world (RAS mm)."),
    overlap: str = typer.Option("last", help="Whose a voxel is that two objects claim: last, first or probability."),
    save_prompts: Optional[Path] = typer.Option(None, help="Write the prompt set as JSON (world mm)."),
    reference: Optional[Path] = typer.Option(None, help="DICOM series that a .dcm mask refers to. Default: IMAGE."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Segment what the prompts say, on the image's own grid.

    Prompts repeat and may speak of several objects: a label is an object's name or its number, and the mask holds one
    value per object. Voxel indices count from 0, (i, j, k) is the order of the file's axes (column, row, slice for
    pictures and DICOM). Beside the mask a JSON file says what made it.
    """
    from promptzoo.data.io import read_image

    one_of(overlap, OVERLAP_RULES, "--overlap")
    stated = PromptOptions(point or (), box or (), scribble or (), lasso or (), mask or (), prompts or (), space,
                           classes or (), text or (), attribute or (), example or ())
    volume = read_image(image)
    given = stated.build(volume)
    given = replace(given, through_slices=given.through_slices or through_slices)
    if weights is not None:
        info = public_info(weights, bundle, variant)
    else:
        named = [prompt.name for prompt in given.of("class")]
        texts = [prompt.text for prompt in given.of("text")]
        info = (choose_bundle(volume.grid, given.kinds, None, named, texts) if bundle == "auto"
                else get_bundle(bundle))
    if variant is not None:
        info.variant(variant)
    given.check_on(volume.grid, info.prompts if variant is None else None)  # a variant may take more
    given = _in_classes(given, info)
    files = _Files.of(image, out, png, save_prompts, reference, volume, stated)
    drawn = given.kinds - {"class", "text", "attribute", "reference"}
    if info.dimensions == 2 and not volume.grid.is_2d and drawn and not given.through_slices:
        kind = "2D" if is_public(info) else "a 2D bundle"
        say(f"{info.name} is {kind}: only the slices that carry a prompt are segmented; --through-slices carries them "
            "through the volume.")

    from promptzoo.engines import choose_engine

    started, reason = time.perf_counter(), choose_engine(engine)[1]
    with waiting(f"Loading {info.name}", as_json):
        predictor = load(info, engine, precision, variant)
    loaded = time.perf_counter()
    with waiting("Segmenting", as_json):
        state = predictor.encode(volume)
        encoded = time.perf_counter()
        prediction = predictor.decode(state, given)
    seconds = {"load": loaded - started, "encode": encoded - loaded, "decode": time.perf_counter() - encoded}
    labels = prediction.labelmap(overlap)
    record = {
        "image": _image_record(image, volume),
        "bundle": {"name": info.name, "version": info.version, "variant": variant,
                   "weights": weights_record(info, variant)},
        "engine": prediction.engine, "engine_reason": reason,
        "requested": {"engine": engine, "precision": precision}, "overlap": overlap,
        "objects": _object_records(given, prediction, labels, volume),
        "seconds": {name: round(value, 4) for name, value in seconds.items()}}
    files = files.with_generated(prediction)
    _write(files, volume, given, labels, {**record, "not_for": list(info.not_for), "prompts": given.to_json(),
                                          "command": command_line(ctx)})
    record["files"] = files.record()
    print_json(record) if as_json else _print(record)


def _in_classes(prompts: PromptSet, info: BundleInfo) -> PromptSet:
    """With an object for each class that texts ask for, if the bundle tells its classes."""
    from promptzoo.text.wording import separate

    found, notes = separate(prompts, info.spoken_classes)
    for note in notes:
        say(note)
    return found


@dataclass(frozen=True)
class _Files:
    """Where the results go."""

    mask: Path
    provenance: Path
    png: Path | None
    prompts: Path | None
    reference: Path | None
    generated: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, image: str, out: Path | None, png: Path | None, prompts: Path | None, reference: Path | None,
           volume: Volume, stated: PromptOptions) -> "_Files":
        """The files of a run, checked before anything heavy starts.

        Raises:
            ImageError: for a mask format that does not exist or lacks its DICOM series, or a picture that is no PNG.
            PromptZooError: if a result would overwrite an input or another result.
        """
        from promptzoo.data.arrays import file_stem, split_frame
        from promptzoo.data.io import WRITABLE, provenance_path

        source, kind = split_frame(image)[0], volume.meta.get("format")
        suffix = ".png" if kind == "raster" else ".nii.gz"
        target = Path(f"{file_stem(source)}_mask{suffix}") if out is None else out.expanduser()
        if not target.name.lower().endswith(WRITABLE):
            raise ImageError(complain("--out", target.name, ", ".join(WRITABLE), "Choose a format by the suffix"))
        if target.name.lower().endswith(".dcm") and reference is None:
            if kind != "dicom":
                raise ImageError(complain("DICOM SEG without its source", f"--out {target.name}",
                                          "--reference with the folder of the source series"))
            reference = source
        if png is not None and png.suffix.lower() != ".png":
            raise ImageError(complain("--png", png.name, "a name that ends in .png"))
        files = cls(target, provenance_path(target), png, prompts, reference)
        inputs = [source, *stated.files, *(Path(t.split(",")[0].split("=")[0]) for t in (
            *stated.masks, *stated.scribbles, *stated.lassos) if ";" not in t)]
        seen = {Path(p).expanduser().resolve(): f"the input {p}" for p in inputs}
        for path in (p for p in (files.mask, files.provenance, png, prompts) if p is not None):
            place = path.expanduser().resolve()
            if place in seen:
                raise PromptZooError(complain("a result would overwrite " + seen[place], str(path), "another name",
                                              "Beside the mask goes a .json file of the same name"))
            seen[place] = f"the result {path}"
        return files

    def with_generated(self, prediction: Prediction) -> "_Files":
        """With the prompts that a bundle made by itself, beside the mask: a prompt set per object, to edit and give.

        A file of the name with other content is somebody's edit and stays; the new one gets a number behind its name.
        """
        stem = self.provenance.name.removesuffix(".json")
        told = {}
        for entry in prediction.objects:
            if entry.info.get("generated"):
                text = entry.info["generated"]
                told[_unedited(self.mask.with_name(f"{stem}_prompts_{entry.object_id}.json"), text + "\n")] = text
        return replace(self, generated=told)

    def record(self) -> dict[str, str]:
        """Name to path of what was written."""
        pairs = {"mask": self.mask, "provenance": self.provenance, "png": self.png, "prompts": self.prompts}
        made = {f"generated prompts {n}": path for n, path in enumerate(self.generated, 1)}
        return {name: str(path) for name, path in {**pairs, **made}.items() if path is not None}


def _unedited(path: Path, text: str) -> Path:
    """``path``, or the first of ``name_2``, ``name_3`` … that is free or holds ``text`` already."""
    number, place = 1, path
    while place.exists() and place.read_text(encoding="utf-8", errors="replace") != text:
        number += 1
        place = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return place


def _image_record(image: str, volume: Volume) -> dict[str, Any]:
    kept = {key: volume.meta[key] for key in ("modality", "study_uid", "series_uid") if volume.meta.get(key)}
    return {"source": image, "content_sha256": volume.content_hash, "shape": list(volume.grid.shape),
            "affine": volume.grid.affine.tolist(), "axis_codes": "".join(volume.grid.axis_codes), **kept}


def _object_records(prompts: PromptSet, prediction: Prediction, labels: np.ndarray, volume: Volume) -> list[dict]:
    """Per object: id, name, voxels, volume, estimated Dice, number of prompts."""
    voxel_mm3 = abs(float(np.linalg.det(volume.grid.affine[:3, :3])))
    records = []
    answered = {entry.object_id for entry in prediction.objects}
    for info in (o for o in prompts.objects if o.object_id in answered):  # priors of other objects get no answer
        answer, voxels = prediction[info.object_id], int(np.count_nonzero(labels == info.object_id))
        estimate = answer.estimated_dice
        records.append({
            "object_id": info.object_id, "name": info.name, "voxels": voxels,
            "volume_ml": None if volume.grid.is_2d else round(voxels * voxel_mm3 / 1000, 4),
            "estimated_dice": None if estimate is None else round(float(estimate), 4),
            "prompts": len(prompts.for_object(info.object_id)),
            **({"through_slices": answer.info["through_slices"]} if "through_slices" in answer.info else {}),
            **{key: answer.info[key] for key in ("reading", "similarity") if answer.info.get(key)},
            **({"note": answer.info.get("reason", "empty mask")} if not voxels else {})})
    return records


def _write(files: _Files, volume: Volume, prompts: PromptSet, labels: np.ndarray, record: dict[str, Any]) -> None:
    """Write mask, provenance, picture and prompts."""
    import json

    from promptzoo.data.io import write_mask

    names = {o.object_id: o.name or f"object {o.object_id}" for o in prompts.objects}
    provenance = {"promptzoo": __version__, "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                  **record}
    small = labels.astype(np.uint8) if labels.max(initial=0) <= 255 else labels
    write_mask(files.mask, small, volume.grid, names=names, reference=files.reference, provenance=provenance)
    for path, text in files.generated.items():
        path.write_text(text + "\n", encoding="utf-8")
    if files.prompts is not None:
        files.prompts.parent.mkdir(parents=True, exist_ok=True)
        files.prompts.write_text(json.dumps(prompts.to_json(), indent=1) + "\n", encoding="utf-8")
    if files.png is not None:
        from promptzoo.data.overlay import overlay_png

        overlay_png(files.png, volume, labels, prompts)


def _print(record: dict[str, Any]) -> None:
    rows = [[o["object_id"], o["name"], o["estimated_dice"], o["voxels"], o["volume_ml"], o["prompts"],
             o.get("note", "")] for o in record["objects"]]
    bundle, seconds = record["bundle"], record["seconds"]
    for entry in (o for o in record["objects"] if o.get("reading")):
        typer.echo(f"object {entry['object_id']}: {entry['reading']}")
    print_table(["object", "name", "estimated Dice", "voxels", "ml", "prompts", "note"], rows)
    variant = f", variant {bundle['variant']}" if bundle["variant"] else ""
    typer.echo(f"{bundle['name']} {bundle['version']}{variant}; {record['engine']} ({record['engine_reason']})")
    typer.echo(f"{seconds['encode'] + seconds['decode']:.3f} s for the answer, {seconds['load']:.1f} s to load")
    for name, path in record["files"].items():
        typer.echo(f"{name}: {path}")
