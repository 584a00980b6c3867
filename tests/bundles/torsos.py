"""Procedural torsos as images and as finished cases."""
import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts import ReferencePrompt
from promptzoo.training.organs import ORGANS


def volume(data, spacing):
    """An array as an image."""
    return Volume(np.ascontiguousarray(data), Grid(data.shape, np.diag([*spacing, 1.0])))


def references(names, organ):
    """Reference prompts of an organ."""
    return tuple(ReferencePrompt(*pair, ORGANS.index(organ) + 1) for pair in names)
