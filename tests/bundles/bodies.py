"""Anatomical phantoms of which no training saw the like, as CT."""
from functools import lru_cache

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.anatomy import render_ct, torso
from promptzoo.data.anatomy.tissues import TISSUES

HELD_OUT = 740_001
"""No training uses this seed, nor those that follow it."""

PLAIN = {"liver": "liver", "lung_left": "left lung", "lung_right": "right lung", "heart": "heart", "spine": "spine"}


@lru_cache(maxsize=4)
def torso_ct(seed=HELD_OUT, absent=("uterus", "spleen")):
    """A torso as an image, and its anatomy."""
    made = torso(seed, 5.0, absent=absent)
    return image(render_ct(made.tissue, generator(seed)), made), made


def image(data, made):
    """An array on the voxels of a body."""
    return Volume(np.ascontiguousarray(data), Grid(data.shape, np.diag([*made.spacing_mm, 1.0])))


def slab(seed, name, first=36, last=72):
    """Some slices of a torso as an image, and where a tissue is in them."""
    whole, made = torso_ct(seed)
    return image(whole.data[:, :, first:last], made), tissue(made, name)[:, :, first:last]


def tissue(made, name):
    """Where a tissue of a body is."""
    return made.tissue == TISSUES.index(name)
