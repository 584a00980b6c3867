"""``promptzoo consensus``: what two or more annotators agree on, and the list of cases on which they do not."""
from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import typer

from promptzoo.cli.common import JSON_OPTION, print_json, print_table, say
from promptzoo.core.errors import NotFoundError, PromptZooError, complain

SURE = 0.5
"""Probability from which a voxel belongs to the consensus."""


def consensus(
    labels: List[Path] = typer.Argument(..., help="Label maps of one image by different annotators, or folders of "
                                                  "label maps with the same file names."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Label map, or folder, of the consensus."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Consensus of annotators by STAPLE (Warfield et al., IEEE TMI 2004), and how well they agree, the worst first.

    Each structure is estimated by itself; where several claim a voxel the likelier one gets it.
    """
    if len(labels) < 2:
        raise PromptZooError(complain("annotators", len(labels), "at least two label maps or folders"))
    missing = [str(place) for place in labels if not place.exists()]
    if missing:
        raise NotFoundError(complain("label maps", ", ".join(missing), "existing files or folders"))
    folders = [place for place in labels if place.is_dir()]
    if folders and len(folders) < len(labels):
        raise PromptZooError(complain("label maps", [str(place) for place in labels], "all files, or all folders"))
    names = sorted(set.intersection(*({file.name for file in place.iterdir() if _is_label(file)} for place in labels))
                   ) if folders else [labels[0].name]
    if not names:
        raise NotFoundError(complain("label maps of the same name", "none", "at least one in every folder"))
    rows = []
    for name in names:
        files = [place / name for place in labels] if folders else labels
        target = None if out is None else out / name if folders else out
        rows += [{"case": name, **row} for row in agree(files, target)]
    rows.sort(key=lambda row: row["dice"])
    if as_json:
        print_json(rows)
        return
    print_table(["case", "structure", "Dice between annotators", "voxels", "consensus",
                 *(f"sensitivity {n}" for n in range(1, len(labels) + 1))],
                [[row["case"], row["structure"], row["dice"], " / ".join(map(str, row["voxels"])), row["consensus"],
                  *row["sensitivity"]] for row in rows])
    if out is not None:
        say(f"consensus: {out}")


def agree(files: List[Path], target: Path | None) -> list[dict[str, Any]]:
    """Consensus of label maps of one image.

    Args:
        files: one of each annotator, on the same voxels.
        target: where the consensus is written; None: nowhere.

    Returns:
        For each structure: ``structure`` (name or value), ``dice`` (mean over pairs of annotators), ``voxels`` of each,
        ``consensus`` (voxels), ``sensitivity`` of each as STAPLE estimates it.

    Raises:
        GeometryError, ImageError: if the label maps do not share their voxels.
    """
    from promptzoo.data.io import read_labels, write_mask
    from promptzoo.evaluation.metrics import dice

    first, grid, names = read_labels(files[0])
    maps = [first, *(read_labels(file, reference=grid)[0] for file in files[1:])]
    best, merged, rows = np.full(first.shape, SURE), np.zeros(first.shape, np.uint16), []
    for value in sorted({int(v) for one in maps for v in np.unique(one) if v}):
        masks = [one == value for one in maps]
        chance, sensitivity = staple(masks)
        merged[chance > best] = value
        best = np.maximum(best, chance)
        rows.append({"structure": names.get(value, str(value)), "sensitivity": [round(s, 4) for s in sensitivity],
                     "dice": round(float(np.mean([dice(a, b) for a, b in combinations(masks, 2)])), 4),
                     "voxels": [int(mask.sum()) for mask in masks], "consensus": int((chance > SURE).sum())})
    if target is not None:
        write_mask(target, merged, grid, names=names)
    return rows


def staple(masks: List[np.ndarray]) -> tuple[np.ndarray, list[float]]:
    """STAPLE of boolean masks in the box around them, where nobody's silence far away counts as agreement.

    Returns:
        Probability of the structure, float64 of the masks' shape, and the sensitivity of each mask.
    """
    import SimpleITK as sitk

    from promptzoo.evaluation.metrics import bounding_box

    chance = np.zeros(masks[0].shape)
    box = bounding_box(np.any(masks, 0))
    if box is None:
        return chance, [1.0 for _ in masks]
    box = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
    run = sitk.STAPLEImageFilter()
    found = run.Execute([sitk.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks])
    chance[box] = sitk.GetArrayFromImage(found)
    return chance, [float(value) for value in run.GetSensitivity()]


def _is_label(file: Path) -> bool:
    return file.is_file() and file.name.endswith((".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".mgz"))
