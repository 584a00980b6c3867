"""The display window that fits the prompted tissue of a CT image."""
from __future__ import annotations

import numpy as np

from promptzoo.inference.object_prompts import ObjectPrompts

CT_WINDOWS = ((-300.0, (-1200.0, 200.0)), (180.0, (-160.0, 240.0)), (np.inf, (-200.0, 1000.0)))
"""Upper bound of the prompted tissue and the window for it, in Hounsfield units: lung, soft tissue, bone."""


def ct_window(image: np.ndarray, prompts: ObjectPrompts) -> np.ndarray:
    """A CT image cut to the display window of the prompted tissue, as a reader would set it.

    Args:
        image: ``[*N]`` Hounsfield units.
        prompts: prompts of one object.

    Returns:
        ``[*N]`` float32; the image itself if nothing tells the tissue.
    """
    points = np.concatenate([prompts.positive, prompts.scribble_positive])
    if not len(points) and prompts.box is not None:
        middle, half = (prompts.box[0] + prompts.box[1]) / 2, (prompts.box[1] - prompts.box[0]) / 4
        points = np.stack(np.meshgrid(*[np.linspace(m - h, m + h, 7) for m, h in zip(middle, half)]), -1)
        points = points.reshape(-1, image.ndim)
    if len(points):
        index = np.clip(np.rint(points).astype(int), 0, np.asarray(image.shape) - 1)
        tissue = float(np.median(image[tuple(index.T)]))
    elif prompts.prior is not None and (prompts.prior >= 0.5).any():
        tissue = float(np.median(image[prompts.prior >= 0.5]))
    else:
        return image
    return np.clip(image, *ct_limits(tissue))


def ct_limits(tissue: float) -> tuple[float, float]:
    """Black and white of the display window for a tissue, all in Hounsfield units; see :data:`CT_WINDOWS`."""
    return next(limits for most, limits in CT_WINDOWS if tissue < most)
