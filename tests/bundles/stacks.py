"""Held-out windows with neighbouring slices or frames, and how predictors answer prompts on the middle one."""
import numpy as np
from scipy import ndimage

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts import Box, Point, PromptSet

from .conftest import dice


def middle_slices(dataset):
    """Pairs of a volume ``[S, S, slices]`` and the mask ``[S, S]`` of a structure on its middle slice."""
    found = []
    for n in range(len(dataset)):
        for image, label in zip(*(dataset[n][key].numpy() for key in ("image", "label"))):
            data = np.ascontiguousarray(100 * np.moveaxis(image, 0, 2))
            found.append((Volume(data, Grid(data.shape, np.eye(4))), label[0]))
    return found


def box_on(mask, k):
    """The tight box of a mask ``[S, S]`` on slice ``k``."""
    at = np.argwhere(mask)
    return Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), k + 1.0), 1, "voxel")


def click_on(mask, k):
    """A click where a mask ``[S, S]`` is deepest, on slice ``k``."""
    deep = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return Point((*map(float, np.unravel_index(deep.argmax(), deep.shape)), float(k)), True, 1, "voxel")


def prompted(predictor, pairs, neighbours="own", prompt=box_on):
    """Dice of one prompt on each middle slice.

    Args:
        predictor: answers.
        pairs: of :func:`middle_slices`.
        neighbours: ``own``; ``none`` cuts them off; ``others`` puts those of the next pair in their place.
        prompt: function ``(mask, slice) -> prompt``.
    """
    found = []
    for n, (volume, mask) in enumerate(pairs):
        data, k = volume.data, volume.data.shape[2] // 2
        if neighbours == "none":
            data, k = data[:, :, k:k + 1], 0
        elif neighbours == "others":
            middle, data = data[:, :, k], pairs[(n + 1) % len(pairs)][0].data.copy()
            data[:, :, k] = middle
        seen = Volume(np.ascontiguousarray(data), Grid(data.shape, np.eye(4)))
        answer = predictor.decode(predictor.encode(seen), PromptSet((prompt(mask, k),))).objects[0].mask
        assert not np.delete(answer, k, 2).any()
        found.append(dice(answer[:, :, k], mask))
    return np.array(found)
