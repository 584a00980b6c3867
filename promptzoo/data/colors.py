"""Colours of objects, the same in overlays, palette PNGs, Slicer segmentations and DICOM SEG."""
from __future__ import annotations

OBJECT_COLORS: tuple[tuple[int, int, int], ...] = (
    (255, 176, 0), (0, 190, 255), (255, 92, 138), (124, 217, 74), (178, 132, 255), (255, 122, 41), (45, 219, 190),
    (240, 228, 66), (214, 96, 232), (120, 160, 255), (230, 80, 70), (160, 200, 140))
"""RGB by object id: object 1 is the first, the list repeats. Bright on grey images, told apart by hue and lightness;
the green and the red of clicks are left out at the start."""


def object_color(object_id: int) -> tuple[int, int, int]:
    """RGB, 0 to 255, of an object id (from 1)."""
    return OBJECT_COLORS[(int(object_id) - 1) % len(OBJECT_COLORS)]
