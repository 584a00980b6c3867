"""The generators that training uses."""
from __future__ import annotations

from typing import Callable

import numpy as np

from promptzoo.data.synthesis.fields import FieldBank
from promptzoo.data.synthesis.render import render
from promptzoo.data.synthesis.scenes2d import LabelMap, scene
from promptzoo.data.synthesis.scenes3d import Painter3D, scene3d
from promptzoo.data.synthesis.targets import choose, visible

Sample = tuple[np.ndarray, np.ndarray]


class Procedural2D:
    """Random 2D windows with target masks.

    Args:
        size: side of the window in pixels, at least 32.
        seed: seed of the field banks; what :meth:`sample` draws depends on it and on the generator given there.

    Raises:
        ValueError: for a smaller window.
    """

    def __init__(self, size: int = 128, seed: int = 0) -> None:
        _check_size(size)
        self.size, self.bank = size, FieldBank(size, seed)

    def sample(self, rng: np.random.Generator, n_targets: int = 4, difficulty: float = 1.0) -> list[Sample]:
        """One scene and up to ``n_targets`` different targets in it; for ``difficulty`` see :func:`render`.

        Returns:
            Pairs of image ``[H, W]`` float32 in [-1, 1] and mask ``[H, W]`` bool; at least one.

        Raises:
            ValueError: for fewer than one target.
        """
        return _sample(lambda: scene(self.bank, rng), self.bank.texture, self.bank.smooth, rng, n_targets, difficulty)


class Procedural3D:
    """Random 3D windows with target masks; the arguments are those of :class:`Procedural2D`."""

    def __init__(self, size: int = 64, seed: int = 0) -> None:
        _check_size(size)
        self.size, self.seed, self.painter = size, seed, Painter3D(size)

    def sample(self, rng: np.random.Generator, n_targets: int = 4, difficulty: float = 1.0) -> list[Sample]:
        """Like :meth:`Procedural2D.sample`, with arrays ``[D, H, W]``."""
        fields = self.painter.fields
        return _sample(lambda: scene3d(self.painter, rng), fields.texture, fields.smooth, rng, n_targets, difficulty)


def _check_size(size: int) -> None:
    if size < 32:
        raise ValueError(f"window size: got {size}; allowed: at least 32 pixels.")


def _sample(make: Callable[[], LabelMap], texture: Callable, smooth: Callable, rng: np.random.Generator,
            n_targets: int, difficulty: float) -> list[Sample]:
    if n_targets < 1:
        raise ValueError(f"number of targets: got {n_targets}; allowed: at least 1.")
    found: list[Sample] = []
    while not found:
        world, image = make(), None
        for _ in range(2 * n_targets):
            mask = choose(world, rng)
            if mask is None or any(np.array_equal(mask, other) for _, other in found):
                continue
            if image is None or rng.random() < 0.2:
                image = render(world, texture, smooth, rng, difficulty)
            if visible(image, mask, rng):
                found.append((image, mask))
            if len(found) == n_targets:
                break
    return [_turned(image, mask, rng) for image, mask in found]


def _turned(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Sample:
    order = rng.permutation(image.ndim)
    image, mask = image.transpose(order), mask.transpose(order)
    flips = tuple(int(a) for a in np.flatnonzero(rng.random(image.ndim) < 0.5))
    return np.ascontiguousarray(np.flip(image, flips)), np.ascontiguousarray(np.flip(mask, flips))
