"""Images of the server: read once, known by their content afterwards."""
from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

from promptzoo.core.errors import NotFoundError, complain
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.io import read_image

KNOWN_IMAGES = 4096
"""Images whose grid and content hash are remembered; some hundred bytes each."""


@dataclass(eq=False)
class OpenImage:
    """An image that was read.

    Args:
        path: file or DICOM folder.
        grid: its voxel grid.
        content_hash: key of its content, see :attr:`promptzoo.core.volume.Volume.content_hash`.
    """

    path: Path
    grid: Grid
    content_hash: str
    _volume: Volume | None = field(default=None, repr=False)

    def take_volume(self) -> Volume:
        """The voxels: those kept from opening the image (kept no longer then), else read anew."""
        volume, self._volume = self._volume, None
        return volume if volume is not None else read_image(self.path)


class ImageIndex:
    """Opens images and remembers grid and content hash by path, size and time of change; safe to use from threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int, int], OpenImage] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: str | Path) -> OpenImage:
        """Open an image.

        Raises:
            NotFoundError: if there is no such file.
            ImageError: if it cannot be read.
        """
        place = Path(path)
        try:
            state = place.stat()
        except (OSError, ValueError) as error:
            raise NotFoundError(complain("image file", str(path), "an existing file", "Reload the studies")) from error
        key = (str(place.resolve()), state.st_size, state.st_mtime_ns)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        volume = read_image(place)
        image = OpenImage(place, volume.grid, volume.content_hash, volume)
        with self._lock:
            for other in self._known.values():
                other._volume = None  # at most one image waits for its encoding
            self._known[key] = image
            while len(self._known) > KNOWN_IMAGES:
                self._known.popitem(last=False)
        return image
