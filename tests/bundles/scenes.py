"""Held-out procedural images for the honest small checks of the 2D families."""
import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.phantoms import torso_ct
from promptzoo.data.synthesis import Procedural2D
from promptzoo.evaluation.metrics import dice
from promptzoo.prompts import Box, PromptSet

SEED = 740_003
"""No training uses this seed."""


def scenes(count, size=128):
    """``count`` pairs of a flat image and a mask ``[size, size, 1]`` of one object in it."""
    source, found = Procedural2D(size, SEED), []
    for n in range(count):
        image, mask = source.sample(generator(SEED, n), 1)[0]
        volume = Volume(100 * image[..., None].astype(np.float32), Grid((size, size, 1), np.eye(4)))
        found.append((volume, mask[..., None]))
    return found


def box_of(mask, shift=0.0, grow=0.0, object_id=1, rng=None):
    """The box of a mask, each face shifted by up to ``shift`` and pushed out by ``grow`` of its side."""
    at = np.argwhere(mask)
    low, high = at.min(0).astype(float), at.max(0) + 1.0
    side = np.array([*(high - low)[:2], 0.0])
    if shift:
        low, high = low + rng.uniform(-shift, shift, 3) * side, high + rng.uniform(-shift, shift, 3) * side
        high = np.maximum(high, low + 1)
    low, high = np.maximum(low - grow * side, 0), np.minimum(high + grow * side, mask.shape)
    return PromptSet((Box(tuple(low), tuple(high), object_id, "voxel"),))


def ellipse_in(mask):
    """The ellipse inscribed in a mask's box: what a box says without the image."""
    at = np.argwhere(mask)
    low, high = at.min(0) - 0.5, at.max(0) + 0.5
    grid = np.stack(np.indices(mask.shape), -1)[..., :2]
    return ((2 * (grid - (low + high)[:2] / 2) / (high - low)[:2]) ** 2).sum(-1) <= 1


def dice_of_kidneys(predictor):
    """Boxes on both kidneys of a phantom's slice: per kidney its name, Dice with it, and Dice with the other one."""
    volume, labels, names = torso_ct(1, (128, 96, 40), (3.0, 3.0, 6.0))
    values = {name: value for value, name in names.items()}
    masks = {name: labels == values[name] for name in ("kidney left", "kidney right")}
    k = int(np.argmax(np.minimum(*(mask.sum((0, 1)) for mask in masks.values()))))
    state, answers = predictor.encode(volume), []
    for name, mask in masks.items():
        at = np.argwhere(mask[:, :, k])
        box = Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), float(k + 1)), 1, "voxel")
        found = predictor.decode(state, PromptSet((box,))).objects[0].mask[:, :, k]
        other = next(m for n, m in masks.items() if n != name)[:, :, k]
        answers.append((name, dice(found, mask[:, :, k]), dice(found, other)))
    return answers
