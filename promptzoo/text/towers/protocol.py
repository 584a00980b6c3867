"""The interface of text towers, a cache around any, and one name for each kind."""
from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Protocol, Sequence, runtime_checkable

import numpy as np

from promptzoo.core.errors import PromptZooError, complain


@runtime_checkable
class TextTower(Protocol):
    """Turns texts into vectors.

    Attributes:
        name: tells towers with different vectors apart.
        dim: length of a vector.
    """

    name: str
    dim: int

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[N, dim]`` float32 of length 1, in the order of the texts."""


class CachedTower:
    """A tower that remembers texts; those used longest ago are forgotten first.

    Args:
        tower: what answers new texts, all new ones of a call at once.
        size: how many texts are kept.

    Raises:
        PromptZooError: if ``size`` is less than 1.
    """

    def __init__(self, tower: TextTower, size: int = 4096) -> None:
        if size < 1:
            raise PromptZooError(complain("size of the text cache", size, "1 or more"))
        self.tower, self.size = tower, size
        self.name, self.dim = tower.name, tower.dim
        self.hits = self.misses = 0
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors ``[N, dim]`` float32 of length 1, in the order of the texts."""
        with self._lock:
            found = {text: self._kept[text] for text in texts if text in self._kept}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            found.update(zip(new, np.asarray(self.tower(new), np.float32)))
        with self._lock:
            self.hits, self.misses = self.hits + len(texts) - len(new), self.misses + len(new)
            for text in dict.fromkeys(texts):
                self._kept[text] = found[text]
                self._kept.move_to_end(text)
            while len(self._kept) > self.size:
                self._kept.popitem(last=False)
        return np.stack([found[text] for text in texts]) if len(texts) else np.zeros((0, self.dim), np.float32)

    def __len__(self) -> int:
        return len(self._kept)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows ``[N, D]`` as float32 of length 1; rows of zeros stay."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def load_tower(spec: str = "promptzoo", cache: int = 4096) -> CachedTower:
    """A tower by one word, with a cache.

    Args:
        spec: ``promptzoo`` (ours, offline); ``transformers:FOLDER`` or ``transformers:HUB/NAME``; or
            ``open_clip:MODEL`` with ``open_clip:MODEL@PRETRAINED`` for weights.
        cache: how many texts are remembered.

    Raises:
        PromptZooError: for an unknown kind.
        MissingDependencyError: if the kind needs a package that is not installed.
        NotFoundError: if there are no such files, here or in the cache of the hub.
    """
    kind, _, rest = spec.partition(":")
    if kind == "promptzoo" and not rest:
        from promptzoo.text.towers.ngrams import shipped_tower

        return CachedTower(shipped_tower(), cache)
    if kind == "transformers" and rest:
        from promptzoo.text.towers.transformers_tower import TransformersTower

        return CachedTower(TransformersTower.load(rest), cache)
    if kind == "open_clip" and rest:
        from promptzoo.text.towers.open_clip_tower import OpenClipTower

        model, _, pretrained = rest.partition("@")
        return CachedTower(OpenClipTower.load(model, pretrained or None), cache)
    raise PromptZooError(complain("text tower", spec, "promptzoo, transformers:FOLDER or open_clip:MODEL@PRETRAINED"))
