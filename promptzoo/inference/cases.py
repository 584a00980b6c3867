"""Image and prompt files as the input of ``configs/inference.json``."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import MapTransform

from promptzoo.core.errors import ImageError, PromptError, complain
from promptzoo.data.io import read_image
from promptzoo.prompts.types import PromptSet


def prompt_cases(image: str, prompts: str) -> list[dict[str, str]]:
    """The single-case data list of a command-line run.

    Args:
        image: image file or DICOM folder.
        prompts: JSON file of a prompt set, or its JSON text.

    Returns:
        ``[{"image": path, "prompts": JSON text}]``; empty if no image is named, so that a configuration can be parsed
        before one is.

    Raises:
        ImageError: if the image does not exist.
        PromptError: if the prompts are not readable.
    """
    if not image:
        return []
    if not Path(image).exists():
        raise ImageError(complain("image", image, "an existing file or DICOM folder"))
    text = prompts
    if not prompts.lstrip().startswith("{"):
        if not Path(prompts).is_file():
            raise PromptError(complain("prompts", prompts or "nothing", "a JSON file or JSON text",
                                       "Give --prompts FILE.json"))
        text = Path(prompts).read_text()
    return [{"image": image, "prompts": json.dumps(PromptSet.from_json(text).to_json())}]


class LoadVolumed(MapTransform):
    """Read an image of any supported format into a ``MetaTensor`` ``[1, i, j, k]`` with its RAS affine.

    Args:
        keys: keys of paths.
        colours: give a picture with colours as ``[3, i, j, 1]`` from 0 to 255 instead.
    """

    def __init__(self, keys: Any, colours: bool = False) -> None:
        super().__init__(keys)
        self.colours = colours

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace each path by its image."""
        import torch
        from monai.data import MetaTensor

        result = dict(data)
        for key in self.key_iterator(result):
            volume = read_image(result[key])
            rgb = volume.meta.get("rgb") if self.colours else None
            array = volume.data[None] if rgb is None else np.moveaxis(rgb, -1, 0)[..., None].astype(np.float32)
            meta = {"filename_or_obj": str(result[key]), "original_channel_dim": float("nan")}
            result[key] = MetaTensor(torch.from_numpy(array.copy()),
                                     affine=torch.from_numpy(volume.grid.affine.copy()), meta=meta)
        return result


class PreparePrompts:
    """``prepare_batch`` of an evaluator: the image as input, the prompts' JSON as keyword of the inferer."""

    def __call__(self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False,
                 **kwargs: Any) -> tuple:
        """Image ``[B, 1, i, j, k]``, no label, no arguments, ``prompts`` as a list of JSON texts."""
        image = batchdata["image"].to(device=device, non_blocking=non_blocking)
        return image, None, (), {"prompts": list(batchdata["prompts"])}
