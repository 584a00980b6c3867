"""Which range of intensities to show as black to white."""
from __future__ import annotations

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.volume import Volume

Window = tuple[float, float]
"""Intensity shown black, intensity shown white."""

WINDOWS: dict[str, Window] = {
    "soft": (-160.0, 240.0), "lung": (-1350.0, 150.0), "bone": (-450.0, 1050.0), "brain": (0.0, 80.0),
    "liver": (-20.0, 180.0)}
"""Customary CT windows by name, in Hounsfield units."""

AIR_HU, TISSUE_HU = (-1100.0, -700.0), (-200.0, 200.0)
LEAST_SHARE = 0.03
"""An image of unknown modality is taken for CT when this share of its voxels is air or lung, and as much is tissue."""

LEAST_HU, MOST_ZEROS = -3100.0, 0.2
"""Padding outside the scanner's field goes down to -3024; more exact zeros than this mean a masked-out background."""

SAMPLES = 200_000
"""At most about this many voxels are looked at: enough for percentiles, quick on large volumes."""


def _sampled(data: np.ndarray) -> np.ndarray:
    flat = data.ravel()
    return flat[:: max(1, flat.size // SAMPLES)]


def looks_like_hu(volume: Volume) -> bool:
    """Whether an image is in Hounsfield units: by its modality where known, else by the presence of air and tissue."""
    modality = str(volume.meta.get("modality", "")).upper()
    if modality:
        return modality == "CT"
    if volume.meta.get("format") == "raster" or "rgb" in volume.meta:
        return False
    values = _sampled(volume.data)
    shares = [float(((values >= low) & (values <= high)).mean()) for low, high in (AIR_HU, TISSUE_HU)]
    return bool(values.min() >= LEAST_HU and min(shares) >= LEAST_SHARE and (values == 0).mean() < MOST_ZEROS)


def display_window(volume: Volume, focus: np.ndarray | None = None) -> Window:
    """A window that shows an image well.

    Args:
        volume: the image.
        focus: mask ``[i, j, k]`` of what matters: in CT, lung or bone there switch to their windows.

    Returns:
        For CT a customary window; else the 1st percentile to the 99.5th of what is not background.
    """
    if looks_like_hu(volume):
        level = float(np.median(volume.data[focus])) if focus is not None and focus.any() else 0.0
        return WINDOWS["lung" if level < -350 else "bone" if level > 250 else "soft"]
    values = _sampled(volume.data)
    background = values.min()
    inside = values[values > background + 0.02 * (values.max() - background)]
    low, high = float(np.percentile(values, 1)), float(np.percentile(inside if inside.size else values, 99.5))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def named_window(window: str | Window) -> Window:
    """A window given by name (see :data:`WINDOWS`) or as two numbers.

    Raises:
        ImageError: for an unknown name, or if black is not below white.
    """
    if isinstance(window, str):
        if window not in WINDOWS:
            raise ImageError(complain("display window", window, ", ".join(WINDOWS) + ", or two numbers"))
        return WINDOWS[window]
    low, high = (float(v) for v in window)
    if not (np.isfinite([low, high]).all() and low < high):
        raise ImageError(complain("display window", [low, high], "two finite numbers, black below white"))
    return low, high
