"""A flat image as the colour picture that a person sees, and boxes on it as boxes in the world."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.data.windows import display_window
from promptzoo.prompts.types import Box

SHOWN_AS = ("L", "P", "I")
"""Where the axes of a shown picture point: columns to the patient's left or back, rows to the back or the feet. A
photograph stays as it was taken."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and where it lies.

    Args:
        rgb: ``[rows, columns, 3]`` float32 in [0, 1].
        grid: of the image, re-arranged to :data:`SHOWN_AS`.
        source: the image's own grid.
        flat: axis of ``grid`` that has one voxel.
        coloured: whether the image has colours.
    """

    rgb: np.ndarray
    grid: Grid
    source: Grid
    flat: int
    coloured: bool

    @classmethod
    def of(cls, volume: Volume) -> "Picture":
        """The picture of an image of one slice; grey values are shown in their display window.

        Raises:
            ImageError: for a volume of several slices.
        """
        if not volume.grid.is_2d:
            raise ImageError(complain("image to detect in", f"{volume.grid.shape}", "a picture or a single slice",
                                      "Save the slice meant as an image of its own"))
        move, grid = grid_with_codes(volume.grid, SHOWN_AS)
        flat = max(axis for axis in range(3) if grid.shape[axis] == 1)
        colours = volume.meta.get("rgb")
        if colours is not None and np.shape(colours)[:2] == volume.grid.shape[:2] and volume.grid.shape[2] == 1:
            stack = [np.asarray(colours, np.float32)[..., c, None] / 255 for c in range(3)]
        else:
            colours, grey = None, volume.data
            if volume.meta.get("format") == "raster" and grey.min() >= 0 and grey.max() <= 255:
                low, high = 0.0, 255.0
            else:
                low, high = display_window(volume)
            stack = [np.clip((grey - low) / (high - low), 0, 1)] * 3
        shown = [np.take(move.array(one), 0, flat).T for one in stack]
        return cls(np.ascontiguousarray(np.stack(shown, -1), np.float32), grid, volume.grid, flat, colours is not None)

    def _bounds(self, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.rgb.shape[:2]
        x0, y0, x1, y1 = np.clip(box, 0, [columns, rows, columns, rows])
        x1, y1 = max(x1, x0 + 0.5), max(y1, y0 + 0.5)
        low = np.insert([min(x0, columns - 0.5), min(y0, rows - 0.5)], self.flat, 0.0)
        high = np.insert([min(x1, columns), min(y1, rows)], self.flat, 1.0)
        return low, high

    def prompt(self, box: np.ndarray, object_id: int = 1) -> Box:
        """A box ``x0, y0, x1, y1`` on the picture (pixels, half-open) as a prompt in world space, inside the image."""
        low, high = self._bounds(np.asarray(box, float))
        return Box(tuple(low), tuple(high), object_id, "voxel").moved(self.grid, "world")

    def voxels(self, box: np.ndarray) -> tuple[list[float], list[float]]:
        """The same as half-open bounds in voxels of the image's own grid."""
        moved = self.prompt(box).moved(self.source, "voxel")
        return [round(v, 3) for v in moved.low], [round(v, 3) for v in moved.high]

    def map(self, shown: np.ndarray) -> np.ndarray:
        """A map ``[rows, columns]`` on the picture as ``[i, j, k]`` on the image's own grid."""
        move, _ = grid_with_codes(self.source, SHOWN_AS)
        return np.ascontiguousarray(move.inverse_array(np.expand_dims(shown.T, self.flat)))
