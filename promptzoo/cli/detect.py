"""``promptzoo detect``: words on a picture become boxes that can be edited."""
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import typer

from promptzoo.cli.common import JSON_OPTION, one_of, print_json, print_table, say, waiting
from promptzoo.core.bundles import BundleInfo, find_bundles, get_bundle
from promptzoo.core.errors import BundleError, NotFoundError, PromptZooError, complain
from promptzoo.core.protocols import Prediction
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import Box, ObjectInfo, PromptSet, TextPrompt

ATTRIBUTES = ("bundle", "auto", "none", "noun", "manual", "mlm", "vqa", "hybrid", "sorted")
SPACES = ("voxel", "world", "lps")


def detect(
    image: str = typer.Argument(..., help="Picture or single slice: PNG, JPEG, TIFF, NIfTI, NRRD, DICOM."),
    text: List[str] = typer.Option(..., "--text", "-t", help="What to find, such as 'large purple round cell'; repeat "
                                                             "it for several things."),
    attributes: str = typer.Option("bundle", help="Words added to a name: none, noun (an everyday noun in its "
                                                  "place), manual (by hand), mlm (cloze), vqa (from the picture), "
                                                  "hybrid (both), sorted (the most relevant of many), auto (hybrid "
                                                  "beside the text as it is); bundle: as the bundle or its variant "
                                                  "says."),
    captions: int = typer.Option(0, "--captions", "-k", help="Most captions per text, fused by weighted boxes "
                                                             "fusion; 0: one, for auto and sorted three."),
    bundle: str = typer.Option("auto", "--bundle", "-b", help="Name or path of a detection bundle."),
    variant: Optional[str] = typer.Option(None, help="Catalog id of a variant overlay of the bundle."),
    weights: Optional[str] = typer.Option(None, help="Folder (or name on a hub) of Grounding DINO, OWL-ViT or OWLv2 "
                                                     "for transformers, in the place of a bundle."),
    masked_model: Optional[str] = typer.Option(None, help="Folder of a masked language model for mlm and hybrid. "
                                                          "Default: the bundle's own."),
    question_model: Optional[str] = typer.Option(None, help="Folder of BLIP or ViLT for vqa and hybrid. Default: "
                                                            "the bundle's own, else statistics of the picture."),
    threshold: Optional[float] = typer.Option(None, help="Score from which a box is kept. Default: the bundle's."),
    out: Optional[List[Path]] = typer.Option(None, "--out", "-o", help="boxes.json: prompt set and scores; "
                                                                       "picture.png: the boxes drawn. Repeatable."),
    space: str = typer.Option("voxel", help="Of the corners in the answer: voxel, world (RAS mm) or lps (mm)."),
    lint: bool = typer.Option(False, "--lint", help="Also say how much each word changes the score."),
    engine: str = typer.Option("auto", help="auto, torch, openvino, onnxruntime or tensorrt."),
    precision: str = typer.Option("auto", help="auto, fp32, bf16, fp16 or int8."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Find what words describe, as boxes.

    The JSON file holds the boxes as a prompt set in world space, one object per box, that promptzoo segment takes with
    --prompts after editing. Words that the detector does not know are answered with those it does.
    """
    from promptzoo.data.io import read_image

    one_of(attributes, ATTRIBUTES, "--attributes")
    one_of(space, SPACES, "--space")
    wrong = [path.name for path in out or () if path.suffix.lower() not in (".json", ".png")]
    if wrong:
        raise PromptZooError(complain("--out", ", ".join(wrong), "names that end in .json or .png"))
    if threshold is not None and not 0 < threshold < 1:
        raise PromptZooError(complain("--threshold", threshold, "between 0 and 1"))
    volume = read_image(image)
    predictor, told = load_detector(bundle, variant, weights, engine, precision, as_json)
    predictor = _asking(predictor, attributes, captions, masked_model, question_model)
    if threshold is not None:
        settings = replace(predictor.detector.settings, threshold=threshold,
                           least=min(predictor.detector.settings.least, threshold))
        predictor.detector.settings = settings
    prompts = PromptSet(tuple(TextPrompt(one, n) for n, one in enumerate(text, 1)),
                        tuple(ObjectInfo(n, one) for n, one in enumerate(text, 1)))
    with waiting("Detecting", as_json):
        state = predictor.encode(volume)
        prediction = predictor.decode(state, prompts)
    boxes, found = drawn(prediction, prompts, volume)
    record: dict[str, Any] = {
        "image": image, **told, "engine": prediction.engine, "attributes": predictor.builder.mode,
        "threshold": predictor.detector.settings.threshold, "space": space,
        "texts": [_text_record(entry, prompts) for entry in prediction.objects],
        "boxes": [{**one, **_corners(box, volume, space)} for one, box in zip(found, boxes.prompts)],
        "prompts": boxes.to_json()}
    if lint:
        record["lint"] = {one: dict(predictor.lint(state, predictor.captions(state, one)[0].text)) for one in text}
    record["files"] = [str(_write(path, record, volume, prediction, boxes)) for path in out or ()]
    print_json(record) if as_json else _print(record)


def detection_bundle(name: str) -> BundleInfo:
    """The detection bundle of a name or path, or for ``auto`` the first one there is.

    Raises:
        NotFoundError: if there is none.
        BundleError: if the bundle is for another task.
    """
    if name != "auto":
        info = get_bundle(name)
        if info.task != "detection":
            raise BundleError(complain(f"task of {info.name}", info.task, "detection", "See: promptzoo bundles"))
        return info
    there = [info for info in find_bundles() if info.task == "detection"]
    if not there:
        raise NotFoundError(complain("a bundle for detection", "none", "grounded_attribute_detection"))
    return there[0]


def load_detector(bundle: str, variant: str | None, weights: str | None, engine: str, precision: str, quiet: bool
                  ) -> tuple[Any, dict[str, Any]]:
    """The predictor and what to say of it; arguments as the options of ``promptzoo detect``."""
    if weights is not None:
        if bundle != "auto" or variant is not None:
            raise PromptZooError(complain("--weights beside", "--bundle or --variant", "one of the two"))
        from promptzoo.inference.public_detector import PublicDetector

        with waiting(f"Loading {weights}", quiet):
            return PublicDetector(weights), {"weights": weights}
    from promptzoo.inference import load_predictor

    info = detection_bundle(bundle)
    if variant is not None:
        info.variant(variant)
    with waiting(f"Loading {info.name}", quiet):
        predictor = load_predictor(info.path, engine, precision, variant)
    return predictor, {"bundle": info.name, "version": info.version, "variant": variant, "not_for": list(info.not_for)}


def _asking(predictor: Any, attributes: str, captions: int, masked: str | None, question: str | None) -> Any:
    """The predictor with captions made as the options say."""
    from promptzoo.text.attributes.answers import QuestionNetwork
    from promptzoo.text.attributes.builder import PromptBuilder
    from promptzoo.text.attributes.knowledge import MaskedLanguageCloze

    own = predictor.builder
    if attributes == "bundle" and not (captions or masked or question):
        return predictor
    auto, mode = attributes == "auto", {"auto": "hybrid", "bundle": own.mode}.get(attributes, attributes)
    builder = PromptBuilder(
        mode, captions or (3 if mode == "sorted" or auto else own.k if attributes == "bundle" else 1),
        auto or own.keep_plain, own.lay_noun, MaskedLanguageCloze(masked) if masked else own.cloze,
        QuestionNetwork(question) if question else own.answers)
    return predictor.asking(builder)


def drawn(prediction: Prediction, prompts: PromptSet, volume: Volume) -> tuple[PromptSet, list[dict[str, Any]]]:
    """The boxes of an answer as one prompt set in world space, an object per box, and text and score of each."""
    boxes, names, found = [], [], []
    for entry in prediction.objects:
        said = prompts.for_object(entry.object_id).objects[0].name
        for number, one in enumerate(entry.info["boxes"][:entry.info["instances"]], 1):
            identity = len(boxes) + 1
            boxes.append(Box(tuple(one["low"]), tuple(one["high"]), identity, "voxel"))
            names.append(ObjectInfo(identity, f"{said} {number}"))
            found.append({"object_id": identity, "text": said, "score": one["score"]})
    return PromptSet(tuple(boxes), tuple(names)).to_world(volume.grid), found


def _text_record(entry: Any, prompts: PromptSet) -> dict[str, Any]:
    said = prompts.for_object(entry.object_id).objects[0].name
    told = {"text": said, "found": entry.info["instances"], "captions": entry.info["captions"],
            "best_score": max((one["score"] for one in entry.info["boxes"]), default=None)}
    return {**told, **({"note": entry.info["reason"]} if "reason" in entry.info else {})}


def _corners(box: Box, volume: Volume, space: str) -> dict[str, list[float]]:
    """Lowest and highest coordinates of a box in the space asked for."""
    if space == "voxel":
        moved = box.moved(volume.grid, "voxel")
        return {"low": [round(v, 2) for v in moved.low], "high": [round(v, 2) for v in moved.high]}
    corners = box.corners() * (np.array([-1.0, -1.0, 1.0]) if space == "lps" else 1.0)
    return {"low": corners.min(0).round(3).tolist(), "high": corners.max(0).round(3).tolist()}


def _write(path: Path, record: dict[str, Any], volume: Volume, prediction: Prediction, boxes: PromptSet) -> Path:
    place = path.expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.suffix.lower() == ".png":
        from promptzoo.data.overlay import overlay_png

        overlay_png(place, volume, np.zeros(volume.grid.shape, np.uint8), boxes)
    else:
        place.write_text(json.dumps({**boxes.to_json(), "detection": {k: v for k, v in record.items() if k not in
                                                                      ("prompts", "files")}}, indent=1) + "\n",
                         encoding="utf-8")
    return place


def _print(record: dict[str, Any]) -> None:
    print_table(["object", "text", "score", "low", "high"],
                [[one["object_id"], one["text"], one["score"], str(one["low"]), str(one["high"])]
                 for one in record["boxes"]])
    for one in record["texts"]:
        asked = "; ".join(one["captions"])
        say(f"{one['text']}: {one['found']} found" + (f", asked as: {asked}" if asked else "")
            + (f". {one['note']}" if "note" in one else ""))
    for phrase, words in record.get("lint", {}).items():
        print_table(["word", "adds to the score"], [[word, round(change, 3)] for word, change in words.items()],
                    f"{phrase}")
    for path in record["files"]:
        say(f"written: {path}")
