"""What a bundle's own measurements advise to prompt with: ``docs/advice.json``, as ``promptzoo study`` writes it."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping

from promptzoo.core.bundles import BundleInfo, read_json

DICOM_MODALITIES = {"CR": "X-ray", "DX": "X-ray", "RG": "X-ray", "RF": "X-ray", "XA": "X-ray", "MG": "X-ray",
                    "PT": "PET", "US": "ultrasound", "IVUS": "ultrasound", "OP": "fundus", "SM": "microscopy",
                    "GM": "microscopy", "ES": "endoscopy"}
"""DICOM's code of a modality to the name in datalists, where they differ."""
_SIDES = re.compile(r"\b(left|right|upper|lower|middle|l|r|lobe|[tlsc]?\d+)\b")
_PLURALS = {"ribs": "rib", "lungs": "lung", "kidneys": "kidney", "nodules": "nodule", "vertebra": "vertebrae"}


@dataclass(frozen=True)
class Advice:
    """A prompt to begin with.

    Args:
        bundle: who was measured.
        group: what the measured objects have in common: ``organ lung``, ``modality CT`` or ``all objects``.
        prompt: ``box`` or ``point``.
        condition: in words, for example ``box +5%``.
        count: how many.
        clicks: what it costs; a box counts two.
        margin: how much larger than the object the box is to be drawn, as a fraction of its side; None for points.
        expected_dice: mean Dice of the measured answers.
        n: number of measured objects.
    """

    bundle: str
    group: str
    prompt: str
    condition: str
    count: int
    clicks: int
    margin: float | None
    expected_dice: float
    n: int


def read_advice(info: BundleInfo) -> dict[str, Any]:
    """The bundle's advice; empty if it has none.

    Raises:
        BundleError: if the file is no JSON object.
    """
    file = info.path / "docs" / "advice.json"
    return read_json(file) if file.is_file() else {}


def recommend(info: BundleInfo, modality: str = "", label: str = "") -> Advice | None:
    """The prompt to begin with on an object.

    Args:
        info: the bundle.
        modality: as in datalists (``CT``, ``X-ray``) or DICOM's code; empty if unknown.
        label: name of the object; empty if unknown.

    Returns:
        What was advised for the organ, else for the modality, else for all objects; the first of them that was measured
        on enough objects. None if none was, or the bundle does not take that prompt.
    """
    advice = read_advice(info)
    places: list[tuple[str, Mapping[str, Any] | None]] = []
    if label:
        organ = organ_name(label)
        places.append((f"organ {organ}", advice.get("organ", {}).get(organ)))
    if modality:
        name = DICOM_MODALITIES.get(modality.upper(), modality)
        found = {key.lower(): (key, entry) for key, entry in advice.get("modality", {}).items()}
        key, entry = found.get(name.lower(), (name, None))
        places.append((f"modality {key}", entry))
    places.append(("all objects", advice.get("all")))
    for group, entry in places:
        told = (entry or {}).get("recommended")
        if told and told["prompt"] in info.prompts:
            return Advice(info.name, group, told["prompt"], told["condition"], told["count"], told["clicks"],
                          told["margin"], told["dice"], told["n"])
    return None


def organ_name(label: str) -> str:
    """A label's organ without sides, lobes and numbers: ``Lung upper lobe left`` is ``lung``."""
    name = " ".join(_SIDES.sub(" ", label.lower().replace("_", " ")).split())
    return _PLURALS.get(name, name)
