"""An image in the world: the only image type inside promptzoo."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping

import numpy as np

from promptzoo.core.errors import ImageError, complain
from promptzoo.core.geometry import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid. 2D images are volumes of one slice.

    Args:
        data: ``[i, j, k]`` intensities in the file's own units (HU for CT), float32; not modified.
        grid: where the voxels lie in the world.
        meta: free information that travels along, such as ``source`` (path), ``modality`` (CT, MR, …) and, for colour
            images, ``rgb`` (uint8 ``[i, j, 3]``) for display.

    Raises:
        ImageError: if the array does not fit the grid or holds no finite value.
    """

    data: np.ndarray
    grid: Grid
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = np.asarray(self.data)
        if data.shape != self.grid.shape:
            raise ImageError(complain("image array does not fit its grid", list(data.shape), str(self.grid.shape)))
        data = np.ascontiguousarray(data, dtype=np.float32)
        if not np.isfinite(data).all():
            if not np.isfinite(data).any():
                raise ImageError(complain("image without a finite value", "all NaN or infinite", "finite intensities"))
            data = np.nan_to_num(data, nan=float(np.nanmin(data[np.isfinite(data)])))
        object.__setattr__(self, "data", data)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over intensities and geometry: the key under which an encoded state is cached."""
        digest = hashlib.sha256(np.ascontiguousarray(self.data).tobytes())
        digest.update(np.round(self.grid.affine, 6).tobytes() + repr(self.grid.shape).encode())
        return digest.hexdigest()
