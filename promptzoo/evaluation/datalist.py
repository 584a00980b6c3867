"""Lists of cases to measure on: a CSV with one row per object to segment.

Needed columns: ``id, task, image, mask, label_value, modality``; paths are relative to the CSV. A row whose task is not
segmentation (``seg2d``, ``seg3d``, ``seg``) is counted and ignored. ``mask == label_value`` is the object; with an
empty label value every non-zero voxel is.
"""
from __future__ import annotations

import csv
from collections import Counter, OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.ndimage import generate_binary_structure, label

from promptzoo.core.errors import ImageError, NotFoundError, PromptZooError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import onto_grid
from promptzoo.data.io import read_image, read_mask
from promptzoo.evaluation.metrics import bounding_box

COLUMNS = ("id", "task", "image", "mask", "label_value", "modality")
TASKS = ("seg2d", "seg3d", "seg")
MIN_VOXELS = 30
"""Objects with fewer voxels are reported apart."""
COMPONENT_SHARE = 0.01
"""A connected part counts as a component from this share of the mask on."""


@dataclass(frozen=True)
class Row:
    """One line of a datalist: where image and mask lie and which label is meant. ``extra`` holds further columns."""

    id: str
    task: str
    image: Path
    mask: Path
    label_value: int | None
    modality: str
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Case:
    """A loaded row.

    Args:
        row: the line it came from.
        volume: the image; for a reduced 3D row the one slice, as ``[a, b, 1]`` with its place in the world.
        mask: ``[i, j, k]`` bool, the object on ``volume.grid``.
        components: connected parts (8-/26-connected) of at least 1 % of the mask.
        slice_of: ``(axis, index)`` in the full volume when the row was reduced to a slice, else None.
    """

    row: Row
    volume: Volume
    mask: np.ndarray
    components: int
    slice_of: tuple[int, int] | None = None

    @property
    def grid(self) -> Grid:
        """The image's own grid."""
        return self.volume.grid


def count_components(mask: np.ndarray) -> int:
    """Connected parts (8-connected on a slice, 26-connected in a volume) that hold at least 1 % of the mask."""
    box = bounding_box(mask)
    if box is None:
        return 0
    labels, count = label(mask[box], generate_binary_structure(mask.ndim, mask.ndim))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int(np.count_nonzero(sizes >= COMPONENT_SHARE * sizes.sum()))


def acquisition_axis(grid: Grid) -> int:
    """The axis along which slices were acquired: a singleton axis, else that of the largest spacing, else the last."""
    if grid.is_2d:
        return max(axis for axis in range(3) if grid.shape[axis] == 1)
    spacing = np.asarray(grid.spacing_mm)
    largest = int(spacing.argmax())
    return largest if spacing[largest] > 1.01 * np.delete(spacing, largest).max() else 2


def take_slice(volume: Volume, mask: np.ndarray, axis: int, index: int) -> tuple[Volume, np.ndarray]:
    """One slice as a volume ``[a, b, 1]`` (the other two axes in their order) that keeps its place in the world."""
    order = [a for a in range(3) if a != axis] + [axis]
    affine = np.eye(4)
    affine[:3, :3] = volume.grid.affine[:3, :3][:, order]
    affine[:3, 3] = volume.grid.to_world(np.eye(3)[axis] * index)
    data, flat = (np.transpose(a.take([index], axis), order) for a in (volume.data, mask))
    meta = {k: v for k, v in volume.meta.items() if k != "rgb"}
    return Volume(data, Grid(data.shape, affine), meta), np.ascontiguousarray(flat)


class _Files:
    """The few files read last, because neighbouring rows share them."""

    def __init__(self, reader: Callable[[Path], Any], count: int = 2) -> None:
        self._reader, self._count = reader, count
        self._kept: OrderedDict[Path, Any] = OrderedDict()

    def __call__(self, path: Path) -> Any:
        if path not in self._kept:
            if not path.is_file() and not path.is_dir():
                raise NotFoundError(complain("file of the datalist", str(path), "an existing image or mask",
                                             "Paths are relative to the CSV"))
            self.keep(path, self._reader(path))
        self._kept.move_to_end(path)
        return self._kept[path]

    def keep(self, path: Path, content: Any) -> None:
        """Remember ``content`` as what ``path`` holds."""
        self._kept[path] = content
        while len(self._kept) > self._count:
            self._kept.popitem(last=False)

    def __reduce__(self) -> tuple:
        return type(self), (self._reader, self._count)


@dataclass(frozen=True, eq=False)
class Datalist:
    """Rows to measure on, with the rules that choose among them. Loading is lazy; pickles without loaded files.

    Args:
        rows: the segmentation rows, in file order.
        ignored: rows left out because of their task, by task.
        slices: ``"largest"`` reduces each 3D row to its largest slice along :func:`acquisition_axis`; None keeps it.
        max_components, min_voxels: rows beyond these go to the excluded ones; ``max_components`` None allows any.
    """

    rows: tuple[Row, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    slices: str | None = None
    max_components: int | None = None
    min_voxels: int = MIN_VOXELS
    path: str = ""
    _masks: _Files = field(default_factory=lambda: _Files(read_mask), repr=False)
    _images: _Files = field(default_factory=lambda: _Files(read_image), repr=False)

    def __post_init__(self) -> None:
        if self.slices not in (None, "largest"):
            raise PromptZooError(complain("slices option", self.slices, "'largest' or nothing"))

    @classmethod
    def read(cls, path: str | Path, *, modalities: Sequence[str] | None = None, tasks: Sequence[str] | None = None,
             match: str | None = None, **rules: Any) -> "Datalist":
        """Read a CSV.

        Args:
            path: the CSV file.
            modalities: keep only these (case does not matter); None keeps all.
            tasks: keep only these of ``seg2d, seg3d, seg``; None keeps all three.
            match: keep only rows whose id or image path contains this text.
            rules: ``slices``, ``max_components``, ``min_voxels``.

        Raises:
            NotFoundError: if the file does not exist.
            ImageError: if a column is missing, an id occurs twice, a label value is no integer, or no segmentation row
                is left.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFoundError(complain("datalist", str(path), "an existing CSV file"))
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            missing = [c for c in COLUMNS if c not in (table.fieldnames or [])]
            if missing:
                raise ImageError(complain(f"datalist {path.name} lacks columns {', '.join(missing)}",
                                          table.fieldnames, ", ".join(COLUMNS)))
            entries = list(table)
        ignored = Counter(e["task"] for e in entries if e["task"] not in TASKS)
        rows = [_row(e, path) for e in entries if e["task"] in (tasks or TASKS) and e["task"] in TASKS]
        twice = [name for name, n in Counter(r.id for r in rows).items() if n > 1]
        if twice:
            raise ImageError(complain("datalist ids given twice", twice[:5], "each id once"))
        wanted = {m.lower() for m in modalities} if modalities else None
        rows = [r for r in rows if (wanted is None or r.modality.lower() in wanted)
                and (match is None or match in r.id or match in str(r.image))]
        if not rows:
            raise ImageError(complain(f"datalist {path.name} without a segmentation row to measure on",
                                      dict(Counter(e["modality"] for e in entries)), f"tasks {', '.join(TASKS)}",
                                      "Check the filters"))
        return cls(tuple(rows), dict(ignored), path=str(path), **rules)

    def load(self, row: Row, part: tuple[int, int] | None = None) -> Case:
        """Read image and mask of a row.

        Args:
            row: one of :attr:`rows`.
            part: ``(axis, index)`` of the slice to take instead of the one that ``slices`` would choose.

        Raises:
            NotFoundError: if a file does not exist.
            ImageError: if image and mask do not share their voxels or a file cannot be read.
        """
        mask, grid = self._mask(row)
        volume = self._images(row.image)
        if volume.meta.get("modality") != row.modality:
            volume = replace(volume, meta={**volume.meta, "modality": row.modality})
            self._images.keep(row.image, volume)
        if not grid.same_space(volume.grid):
            mask = onto_grid(mask, grid, volume.grid, f"mask of {row.id}")
        if part is None and self.slices and not volume.grid.is_2d:
            axis = acquisition_axis(volume.grid)
            box = bounding_box(mask)
            part = (axis, 0 if box is None else box[axis].start + _largest(mask[box], axis))
        if part is not None:
            volume, mask = take_slice(volume, mask, *part)
        return Case(row, volume, mask, count_components(mask), part)

    def _mask(self, row: Row) -> tuple[np.ndarray, Grid]:
        labels, grid = self._masks(row.mask)
        return (labels != 0 if row.label_value is None else labels == row.label_value), grid

    def why_excluded(self, row: Row) -> str | None:
        """Why a row is reported apart (``"29 voxels"``, ``"5 components"``), or None; reads the mask only."""
        mask, grid = self._mask(row)
        box = bounding_box(mask)
        if box is None:
            return "0 voxels"
        mask = mask[box]
        if self.slices and not grid.is_2d:
            axis = acquisition_axis(grid)
            mask = mask.take([_largest(mask, axis)], axis)
        voxels = int(np.count_nonzero(mask))
        if voxels < self.min_voxels:
            return f"{voxels} voxels"
        parts = count_components(mask) if self.max_components is not None else 0
        return f"{parts} components" if self.max_components is not None and parts > self.max_components else None

    def drawing(self, seed: int) -> np.ndarray:
        """Numbers of the rows in the order in which :meth:`select` draws them."""
        return generator(seed, 20250).permutation(len(self.rows))

    def select(self, limit: int | None = None, seed: int = 0) -> tuple[list[Row], list[tuple[Row, str]]]:
        """Choose the rows to measure on.

        Args:
            limit: at most this many; they are drawn with ``seed`` so that a small run sees all kinds of rows, and a
                larger limit contains the smaller one. None takes all.
            seed: of the draw.

        Returns:
            The rows in file order, and the excluded ones (those met before the limit was reached) with the reason.
        """
        order: Iterator[int] | range = range(len(self.rows))
        if limit is not None and limit < len(self.rows):
            order = iter(self.drawing(seed))
        chosen, excluded = [], []
        for number in order:
            if limit is not None and len(chosen) >= limit:
                break
            try:
                reason = self.why_excluded(self.rows[number])
            except PromptZooError:
                reason = None  # a row that cannot be read is reported as an error where it is run
            (chosen.append(number) if reason is None else excluded.append((number, reason)))
        return [self.rows[n] for n in sorted(chosen)], [(self.rows[n], why) for n, why in sorted(excluded)]


def _largest(mask: np.ndarray, axis: int) -> int:
    return int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())


def _row(entry: Mapping[str, str], path: Path) -> Row:
    value = (entry["label_value"] or "").strip()
    try:
        number = int(float(value)) if value else None
    except ValueError:
        raise ImageError(complain(f"label_value of {entry['id']}", value, "an integer or nothing")) from None
    extra = {k: v for k, v in entry.items() if k not in COLUMNS and k is not None}
    return Row(entry["id"], entry["task"], path.parent / entry["image"], path.parent / entry["mask"], number,
               entry["modality"], extra)
