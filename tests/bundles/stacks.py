"""Held-out windows with neighbouring slices or frames, and how predictors answer boxes on the middle one."""
import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts import Box, PromptSet

from .conftest import dice


def middle_slices(dataset):
    """Pairs of a volume ``[S, S, slices]`` and the mask ``[S, S]`` of a structure on its middle slice."""
    found = []
    for n in range(len(dataset)):
        for image, label in zip(*(dataset[n][key].numpy() for key in ("image", "label"))):
            data = np.ascontiguousarray(100 * np.moveaxis(image, 0, 2))
            found.append((Volume(data, Grid(data.shape, np.eye(4))), label[0]))
    return found


def boxed(predictor, pairs, alone=False):
    """Dice of each tight box on the middle slice; ``alone`` cuts the neighbours off."""
    found = []
    for volume, mask in pairs:
        k = volume.data.shape[2] // 2
        data = volume.data[:, :, k:k + 1] if alone else volume.data
        k = 0 if alone else k
        at = np.argwhere(mask)
        box = Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), k + 1.0), 1, "voxel")
        seen = Volume(np.ascontiguousarray(data), Grid(data.shape, np.eye(4)))
        answer = predictor.decode(predictor.encode(seen), PromptSet((box,))).objects[0].mask
        assert not np.delete(answer, k, 2).any()
        found.append(dice(answer[:, :, k], mask))
    return np.array(found)
