"""Encoded images and their byte-bounded cache (contract 3)."""
from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.geometry import Grid, Reorientation
from promptzoo.core.volume import Volume
from promptzoo.data.windows import looks_like_hu

AIR_HU = -500.0
"""A CT image holds values down to here; a picture of one (0 … 255) does not and keeps its own contrast."""


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image ready for prompts: voxels in the closest RAS+ axis order, so that all 48 arrangements of a scan are
    the same array to the network.

    Args:
        source: the image's own grid.
        canonical: grid of ``data``.
        move: the exact re-arrangement between them.
        data: ``[i, j, k]`` float32 in canonical order.
        hounsfield: whether the intensities look like Hounsfield units, so that CT display windows apply.
    """

    source: Grid
    canonical: Grid
    move: Reorientation
    data: np.ndarray
    hounsfield: bool = False

    @classmethod
    def of(cls, volume: Volume) -> "EncodedImage":
        """Re-arrange a volume; intensities are not changed."""
        move = volume.grid.orientation
        return cls(volume.grid, move.grid(volume.grid), move, np.ascontiguousarray(move.array(volume.data)),
                   looks_like_hu(volume) and float(volume.data.min()) <= AIR_HU)

    def slice(self, axis: int, index: int, count: int = 1) -> np.ndarray:
        """Slice ``index`` across ``axis``, ``[*N]``; with ``count`` above 1 it and its neighbours ``[count, *N]``, the
        outermost repeated beyond the image."""
        if count == 1:
            return np.take(self.data, index, axis)
        around = np.clip(index + np.arange(count) - count // 2, 0, self.data.shape[axis] - 1)
        return np.moveaxis(np.take(self.data, around, axis), axis, 0)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return int(self.data.nbytes)


class StateCache:
    """Least-recently-used cache of encoded images, bounded in bytes; safe to use from several threads.

    Args:
        limit_bytes: most memory held. An image larger than that is encoded but not kept.
    """

    def __init__(self, limit_bytes: int = 1 << 30) -> None:
        if limit_bytes < 0:
            raise PromptZooError(complain("cache limit", limit_bytes, "a number of bytes, at least 0"))
        self.limit_bytes = limit_bytes
        self._entries: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._lock = threading.RLock()
        self._held = 0
        self.hits = self.misses = 0

    @property
    def nbytes(self) -> int:
        """Memory held now."""
        with self._lock:
            return self._held

    def get(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """The entry under ``key`` (image content hash, bundle, version …), made on a miss."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                self.hits += 1
                return self._entries[key]
            self.misses += 1
        entry = make()
        with self._lock:
            if entry.nbytes <= self.limit_bytes:
                if key in self._entries:  # made by another thread meanwhile
                    self._held -= self._entries.pop(key).nbytes
                self._entries[key] = entry
                self._held += entry.nbytes
                while self._held > self.limit_bytes:
                    self._held -= self._entries.popitem(last=False)[1].nbytes
        return entry
