"""Windows on which int8 engines see how far activations reach."""
from __future__ import annotations

import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis import Procedural2D

SEED = 515
"""Of the windows; no training and no test uses it."""


def calibration_windows(size: int, count: int = 32) -> list[tuple[np.ndarray]]:
    """``count`` procedural windows ``[1, 1, size, size]`` float32 in [-1, 1], each the only input of an encoder."""
    source = Procedural2D(size, SEED)
    return [(source.sample(generator(SEED, n), 1)[0][0][None, None].astype(np.float32),) for n in range(count)]
