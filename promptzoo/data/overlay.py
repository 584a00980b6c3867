"""A picture of an image with its prompts and masks, for people: the command line's ``--png`` and the documentation."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.optional import require
from promptzoo.core.volume import Volume
from promptzoo.data.colors import object_color
from promptzoo.data.planes import Plane, planes_of
from promptzoo.data.windows import Window, display_window, named_window
from promptzoo.prompts.types import PromptSet

POSITIVE, NEGATIVE = "#22c55e", "#ef4444"
"""Colours of clicks and strokes that add and that remove."""

GROUND = "#0b0d10"
FILL_ALPHA, FAR_ALPHA = 0.28, 0.45
NEAR_VOX = 0.75
"""A prompt within this many slices of the plane is drawn on it; clicks farther away are drawn small and hollow."""

_LONG_SIDE_IN, _THREE_WIDTH_IN, _LEGEND_ENTRY_IN, _DPI = 7.0, 13.0, 1.7, 130


def prompt_center(volume: Volume, labelmap: np.ndarray | None, prompts: PromptSet | None) -> np.ndarray:
    """Voxel indices ``[3]`` that the planes go through: the last positive click, else the middle of the last box or
    stroke, else the middle of the mask's fullest slices, else the middle of the volume."""
    voxel: tuple[Any, ...] = prompts.to_voxel(volume.grid).prompts if prompts is not None else ()
    clicks = [p for p in voxel if p.kind == "point"]
    for click in reversed([p for p in clicks if p.positive] or clicks):
        return np.asarray(click.position)
    for prompt in reversed(voxel):
        if prompt.kind == "box":
            return (np.asarray(prompt.low) + np.asarray(prompt.high) - 1) / 2
        if prompt.kind in ("scribble", "lasso"):
            return np.asarray(prompt.points[len(prompt.points) // 2])
    masks = [p.mask for p in voxel if p.kind == "mask" and p.mask.shape == volume.grid.shape]
    found = labelmap if labelmap is not None and labelmap.any() else masks[-1] if masks else None
    if found is None:
        return (np.asarray(volume.grid.shape) - 1) / 2
    others = ((1, 2), (0, 2), (0, 1))
    return np.array([float(np.argmax((found != 0).sum(axis=o))) for o in others])


def overlay_png(path: str | Path, volume: Volume, labelmap: np.ndarray | None = None,
                prompts: PromptSet | None = None, *, window: str | Window | None = None,
                slice_axis: int | str | None = None, index: int | None = None, title: str = "") -> Path:
    """Draw an image with masks and prompts as a PNG, in radiological convention and true proportions.

    Args:
        path: file to write; folders are made.
        volume: the image; a colour slice is shown in colour.
        labelmap: ``[i, j, k]`` on the image's grid: object ids, or boolean for object 1; None for none.
        prompts: in world or voxel space.
        window: intensities shown as black and white, or a name of :data:`promptzoo.data.windows.WINDOWS`; default
            chosen from image and mask.
        slice_axis: one plane only: an axis of the array (0, 1, 2) or ``axial``, ``coronal``, ``sagittal``; default the
            slice of a 2D image, else three planes through :func:`prompt_center`.
        index: which slice along ``slice_axis``.
        title: text above the picture.

    Returns:
        The path written.

    Raises:
        ImageError: if the label map does not fit the image, or window, axis or index are unknown.
        MissingDependencyError: if matplotlib is not installed.
    """
    labels = None if labelmap is None else np.asarray(labelmap)
    if labels is not None and labels.shape != volume.grid.shape:
        raise ImageError(complain("label map does not fit the image", list(labels.shape), str(volume.grid.shape)))
    labels = labels.astype(np.uint8) if labels is not None and labels.dtype == bool else labels
    focus = None if labels is None else labels != 0
    levels = display_window(volume, focus) if window is None else named_window(window)
    planes = planes_of(volume.grid, prompt_center(volume, labels, prompts), slice_axis, index)
    place = Path(path).expanduser()
    place.parent.mkdir(parents=True, exist_ok=True)
    _Picture(volume, labels, prompts, levels, planes, title).save(place)
    return place


class _Picture:
    """The figure under construction; matplotlib without pyplot, so that servers can draw from any thread."""

    def __init__(self, volume: Volume, labels: np.ndarray | None, prompts: PromptSet | None, levels: Window,
                 planes: list[Plane], title: str) -> None:
        self.volume, self.labels, self.levels, self.planes = volume, labels, levels, planes
        self.voxel: tuple[Any, ...] = () if prompts is None else prompts.to_voxel(volume.grid).prompts
        infos = {o.object_id: o for o in prompts.objects} if prompts is not None else {}
        self.ids = sorted(set(infos) | ({int(v) for v in np.unique(labels) if v} if labels is not None else set()))
        self.colors = {i: np.asarray(infos[i].color if i in infos and infos[i].color else object_color(i)) / 255
                       for i in self.ids}
        self.names = {i: (infos[i].name if i in infos else "") or f"object {i}" for i in self.ids}
        widths, heights = zip(*(p.size_mm for p in planes))
        gap = 0.02 * sum(widths) if len(planes) > 1 else 0.0
        total, tall = sum(widths) + gap * (len(planes) - 1), max(heights)
        scale = min((_THREE_WIDTH_IN if len(planes) > 1 else _LONG_SIDE_IN) / total, _LONG_SIDE_IN / tall)
        top, foot = (0.36 if title else 0.06), (0.34 if self.ids else 0.06)
        size = max(total * scale, 2.4), max(tall * scale, 1.2) + top + foot
        self.figure: Any = require("matplotlib.figure", "drawing a picture").Figure(size, dpi=_DPI, facecolor=GROUND)
        left = (size[0] - total * scale) / 2
        for plane, width, height in zip(planes, widths, heights):
            low = foot + (size[1] - top - foot - height * scale) / 2
            box = (left / size[0], low / size[1], width * scale / size[0], height * scale / size[1])
            self._draw(self.figure.add_axes(box), plane)
            left += (width + gap) * scale
        if title:
            self.figure.text(0.5, 1 - 0.19 / size[1], title, color="white", ha="center", va="center", fontsize=11)
        self._legend(0.16 / size[1])

    def save(self, path: Path) -> None:
        require("matplotlib.backends.backend_agg", "drawing a picture").FigureCanvasAgg(self.figure)
        self.figure.savefig(path, format="png", facecolor=GROUND)

    def _draw(self, axes: Any, plane: Plane) -> None:
        width, height = plane.size_mm
        extent = (0.0, width, height, 0.0)
        axes.set_axis_off()
        rgb = self.volume.meta.get("rgb")
        if rgb is not None and np.shape(rgb)[:2] == self.volume.grid.shape[:2] and plane.source_axis == 2:
            axes.imshow(plane.cut(np.asarray(rgb)[:, :, None]), extent=extent, interpolation="bilinear")
        else:
            axes.imshow(plane.cut(self.volume.data), cmap="gray", vmin=self.levels[0], vmax=self.levels[1],
                        extent=extent, interpolation="bilinear")
        if self.labels is not None:
            self._masks(axes, plane, plane.cut(self.labels))
        self._prompts(axes, plane)
        self._marks(axes, plane)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)

    def _masks(self, axes: Any, plane: Plane, picture: np.ndarray) -> None:
        """All objects of a slice ``[row, column]``: one layer of translucent fill, then the outlines."""
        width, height = plane.size_mm
        paint = np.zeros((*picture.shape, 4))
        for object_id in self.ids:
            inside = picture == object_id
            if inside.any():
                paint[inside] = (*self.colors[object_id], FILL_ALPHA)
                self._outline(axes, plane, inside, object_id, "solid")
        axes.imshow(paint, extent=(0, width, height, 0), interpolation="nearest")

    def _outline(self, axes: Any, plane: Plane, mask: np.ndarray, object_id: int, style: str) -> None:
        """The border of a mask ``[row, column]`` that is not empty; its bounding box is all that matplotlib sees."""
        (width, height), (rows, columns) = plane.size_mm, mask.shape
        used = [np.flatnonzero(mask.any(axis=a)) for a in (1, 0)]
        (top, bottom), (left, right) = ((u[0], u[-1] + 1) for u in used)
        across = (np.arange(left - 1, right + 1) + 0.5) * width / columns
        down = (np.arange(top - 1, bottom + 1) + 0.5) * height / rows
        axes.contour(across, down, np.pad(mask[top:bottom, left:right], 1).astype(float), levels=[0.5],
                     colors=[tuple(self.colors[object_id])], linewidths=1.6, linestyles=style, zorder=3)

    def _prompts(self, axes: Any, plane: Plane) -> None:
        for prompt in self.voxel:
            if prompt.kind == "point":
                self._point(axes, plane, prompt)
            elif prompt.kind == "box":
                self._box(axes, plane, prompt)
            elif prompt.kind in ("scribble", "lasso"):
                near = np.abs(plane.distance_vox(prompt.points)) <= NEAR_VOX
                spots, color = plane.place(prompt.points), POSITIVE if prompt.positive else NEGATIVE
                if prompt.kind == "lasso" and near.all():
                    closed = np.concatenate([spots, spots[:1]])
                    axes.plot(closed[:, 0], closed[:, 1], color=color, linewidth=1.8, linestyle=(0, (4, 2)))
                elif prompt.kind == "scribble" and near.any():
                    axes.plot(spots[near, 0], spots[near, 1], linestyle="none", marker="o", markersize=3.4, color=color,
                              markeredgewidth=0, alpha=0.9)
            elif prompt.kind == "mask" and prompt.grid == self.volume.grid:
                guess = plane.cut(prompt.mask)
                if guess.any():
                    self._outline(axes, plane, guess, prompt.object_id, "dotted")

    @staticmethod
    def _point(axes: Any, plane: Plane, prompt: Any) -> None:
        position = np.asarray(prompt.position)
        (x, y), color = plane.place(position), POSITIVE if prompt.positive else NEGATIVE
        if abs(plane.distance_vox(position)) > NEAR_VOX:
            axes.plot(x, y, marker="o", markersize=5, markerfacecolor="none", markeredgecolor=color, alpha=FAR_ALPHA)
            return
        axes.plot(x, y, marker="o", markersize=11, color=color, markeredgecolor="white", markeredgewidth=1.3, zorder=9)
        axes.plot(x, y, marker="+" if prompt.positive else "_", markersize=6.5, color="white", markeredgewidth=1.7,
                  zorder=10)

    def _box(self, axes: Any, plane: Plane, prompt: Any) -> None:
        low, high = np.asarray(prompt.low) - 0.5, np.asarray(prompt.high) - 0.5
        if not low[plane.source_axis] - 1e-6 <= plane.index <= high[plane.source_axis] + 1e-6:
            return
        (x0, y0), (x1, y1) = plane.place(low), plane.place(high)
        patch = require("matplotlib.patches", "drawing a picture").Rectangle
        for width, color in ((3.2, "black"), (1.8, tuple(self.colors[prompt.object_id]))):
            axes.add_patch(patch((min(x0, x1), min(y0, y1)), abs(x1 - x0), abs(y1 - y0), fill=False, edgecolor=color,
                                 linewidth=width, alpha=1.0 if width < 3 else 0.5))

    def _marks(self, axes: Any, plane: Plane) -> None:
        """Where the other planes cut, and which way is which."""
        middle = np.array([(n - 1) / 2 for n in plane.grid.shape])
        for other in self.planes:
            if other is not plane:
                middle[other.source_axis] = other.index
        if len(self.planes) > 1:
            x, y = plane.place(middle)
            axes.axvline(x, color="white", linewidth=0.5, alpha=0.25)
            axes.axhline(y, color="white", linewidth=0.5, alpha=0.25)
        if self.volume.meta.get("format") == "raster":  # a picture without a patient
            return
        style = {"color": "#d7dee8", "fontsize": 8, "alpha": 0.85, "transform": axes.transAxes}
        spots = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"), (0.5, 0.985, "center", "top"),
                 (0.5, 0.015, "center", "bottom"))
        for letter, (x, y, ha, va) in zip(plane.edge_letters, spots):
            axes.text(x, y, letter, ha=ha, va=va, **style)
        where = "" if plane.grid.is_2d else f"{plane.name} {'ijk'[plane.source_axis]}={plane.index}"
        axes.text(0.015, 0.985, where, ha="left", va="top", **style)

    def _legend(self, height: float) -> None:
        if not self.ids:
            return
        room = max(1, int(self.figure.get_figwidth() / _LEGEND_ENTRY_IN))
        shown = self.ids if len(self.ids) <= room else self.ids[: max(1, room - 1)]
        entries, voxel_ml = [], abs(float(np.linalg.det(self.volume.grid.affine[:3, :3]))) / 1000
        for object_id in shown:
            text = "\u25a0 " + self.names[object_id]
            if self.labels is not None and not self.volume.grid.is_2d:
                text += f"  {np.count_nonzero(self.labels == object_id) * voxel_ml:.3g} ml"
            entries.append((text, tuple(self.colors[object_id])))
        if len(shown) < len(self.ids):
            entries.append((f"and {len(self.ids) - len(shown)} more", (0.85, 0.87, 0.9)))
        for n, (text, color) in enumerate(entries):
            self.figure.text((n + 0.5) / len(entries), height, text, color=color, ha="center", va="center", fontsize=9)
