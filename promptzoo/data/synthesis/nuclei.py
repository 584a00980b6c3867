"""Procedural images of cell nuclei with a label per nucleus.

Two looks: fluorescence (bright on dark) and stained sections or smears in grey (dark on bright). Nuclei touch, are dim
or out of focus; debris, fibres, haze and, beside nuclei, pale round cells without one are in the images but not in the
labels, and some images hold no nucleus at all.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.fields import FieldBank

LEAST_PIXELS = 20
"""Nuclei of which less is visible are not labelled."""


class ProceduralNuclei:
    """Random images of nuclei.

    Args:
        size: side of the image in pixels, at least 32.
        seed: seed of the field banks; what :meth:`sample` draws depends on it and on the generator given there.
        empty_share: share of images without nuclei.

    Raises:
        ValueError: for a smaller image.
    """

    def __init__(self, size: int = 256, seed: int = 0, empty_share: float = 0.12) -> None:
        if size < 32:
            raise ValueError(f"image size: got {size}; allowed: at least 32 pixels.")
        self.size, self.empty_share = size, empty_share
        self.bank = FieldBank(size, seed, textures=32, smooth=16)

    def sample(self, rng: np.random.Generator, empty: bool | None = None,
               bright: bool | None = None) -> tuple[np.ndarray, np.ndarray]:
        """One image.

        Args:
            rng: of all draws.
            empty: whether there are no nuclei; None draws it.
            bright: whether nuclei are brighter than their surroundings (fluorescence); None draws it.

        Returns:
            Image ``[H, W]`` float32 in [0, 1] and labels ``[H, W]`` int32: 0 for background, then 1, 2, … per nucleus.
        """
        empty = rng.random() < self.empty_share if empty is None else empty
        bright = rng.random() < 0.55 if bright is None else bright
        radius = float(np.exp(rng.uniform(np.log(4.0), np.log(22.0))))
        density, clumped = rng.uniform(0.06, 0.5), rng.uniform(0.0, 0.6)
        labels = np.zeros((self.size, self.size), np.int32) if empty else self._nuclei(rng, radius, density, clumped)
        image = self._fluorescence(rng, labels, radius) if bright else self._stained(rng, labels, radius)
        return image, _tidied(labels)

    def _nuclei(self, rng: np.random.Generator, radius: float, density: float, clumped: float) -> np.ndarray:
        """Labels of nuclei of about one size that cover a share ``density`` of the image."""
        labels = np.zeros((self.size, self.size), np.int32)
        spread, stretch = rng.uniform(0.05, 0.35), rng.uniform(1.0, 1.7)
        centres: list[np.ndarray] = []
        wanted, tries = density * labels.size, 0
        covered = 0
        while covered < wanted and tries < 400:
            tries += 1
            own = radius * float(np.exp(rng.normal(0, spread)))
            if centres and rng.random() < clumped:
                angle = rng.uniform(0, 2 * np.pi)
                centre = centres[rng.integers(len(centres))] + 2 * own * np.array([np.sin(angle), np.cos(angle)])
            else:
                centre = rng.uniform(0, self.size, 2)
            place, blob = _blob(rng, centre, own, float(np.exp(rng.normal(0, 0.12))) * stretch, labels.shape)
            if not blob.any():
                continue
            under = labels[place]
            if (under[blob] > 0).mean() > 0.15:
                continue
            fresh = blob & (under == 0)
            under[fresh] = len(centres) + 1
            covered += int(fresh.sum())
            centres.append(centre)
        return labels

    def _fluorescence(self, rng: np.random.Generator, labels: np.ndarray, radius: float) -> np.ndarray:
        count = int(labels.max())
        level = np.concatenate([[0.0], np.exp(rng.normal(0, rng.uniform(0.05, 0.6), count))])
        texture = 1 + rng.uniform(0, 0.35) * self.bank.texture(rng)
        sharp = level[labels].astype(np.float32) * np.clip(texture, 0.2, 2)
        blurred = ndimage.gaussian_filter(sharp, rng.uniform(0.4, 1.3))
        image = blurred
        if count and rng.random() < 0.5:  # some lie out of focus
            far = np.concatenate([[False], rng.random(count) < 0.25])[labels]
            image = ndimage.gaussian_filter(np.where(far, 0, sharp), 0.7) + ndimage.gaussian_filter(
                np.where(far, sharp, 0), rng.uniform(1.0, 0.25 * radius + 1.0))
        image = image + rng.uniform(0, 0.25) * ndimage.gaussian_filter(sharp, radius)
        image = image + rng.uniform(0.02, 0.3) + rng.uniform(0, 0.08) * self.bank.smooth(rng)
        image = image + self._debris(rng, 1.0, radius)
        if rng.random() < 0.3:  # cytoplasm
            image = image + rng.uniform(0.05, 0.25) * ndimage.gaussian_filter((labels > 0).astype(np.float32), radius)
        if not count and rng.random() < 0.5:
            image = image + rng.uniform(0.1, 0.6) * self.bank.texture(rng)
        return _exposed(rng, image, rng.uniform(0.005, 0.06))

    def _stained(self, rng: np.random.Generator, labels: np.ndarray, radius: float) -> np.ndarray:
        count, inside = int(labels.max()), labels > 0
        ground = rng.uniform(0.6, 0.9) + rng.uniform(0.01, 0.07) * self.bank.texture(rng)
        ground = ground + rng.uniform(0, 0.08) * self.bank.smooth(rng)
        if rng.random() < 0.5:  # empty space beside the tissue
            ground = np.where(self.bank.smooth(rng) > rng.uniform(0.3, 1.5), 0.95, ground)
        if count and rng.random() < 0.4:  # pale round cells without nucleus; alone they could be nuclei
            pale = self._nuclei(rng, radius * rng.uniform(0.8, 1.8), rng.uniform(0.05, 0.3), 0.3) > 0
            ground = ground - rng.uniform(0.04, 0.13) * ndimage.gaussian_filter(pale.astype(np.float32), 0.8)
        if count and rng.random() < 0.4:  # cytoplasm
            body = ndimage.gaussian_filter(inside.astype(np.float32), 0.4 * radius) > rng.uniform(0.1, 0.4)
            ground = ground - rng.uniform(0.04, 0.15) * body
        depth = np.concatenate([[0.0], rng.uniform(0.18, 0.5) * np.exp(rng.normal(0, rng.uniform(0.05, 0.3), count))])
        chromatin = np.clip(1 + rng.uniform(0, 0.4) * self.bank.texture(rng), 0.3, 1.8)
        image = ground - depth[labels] * chromatin
        if rng.random() < 0.5:
            rim = inside & ~ndimage.binary_erosion(inside, iterations=1)
            image = image - rng.uniform(0, 0.12) * rim
        image = ndimage.gaussian_filter(image.astype(np.float32), rng.uniform(0.3, 1.2))
        image = image - 0.4 * self._debris(rng, 0.5, radius)
        return _exposed(rng, image, rng.uniform(0.004, 0.04))

    def _debris(self, rng: np.random.Generator, strength: float, radius: float) -> np.ndarray:
        """Specks much smaller than a nucleus, and sometimes fibres."""
        image = np.zeros((self.size, self.size), np.float32)
        if rng.random() < 0.4:
            at = rng.integers(0, self.size, (int(rng.integers(1, 25)), 2))
            image[at[:, 0], at[:, 1]] = rng.uniform(0.3, 1.0, len(at)) * strength
            image = ndimage.gaussian_filter(image, rng.uniform(0.5, min(1.3, 0.2 * radius + 0.3))) * 6
        if rng.random() < 0.25:
            for _ in range(int(rng.integers(1, 8))):
                start, angle = rng.uniform(0, self.size, 2), rng.uniform(0, np.pi)
                steps = np.arange(0, rng.uniform(0.2, 1.0) * self.size, 0.5)[:, None]
                turn = angle + 0.01 * rng.normal() * steps
                line = np.rint(start + steps * np.concatenate([np.sin(turn), np.cos(turn)], 1)).astype(int)
                line = line[((line >= 0) & (line < self.size)).all(1)]
                image[line[:, 0], line[:, 1]] += rng.uniform(0.1, 0.5) * strength
            image = ndimage.gaussian_filter(image, 0.6)
        return image


def _blob(rng: np.random.Generator, centre: np.ndarray, radius: float, stretch: float, shape: tuple[int, ...]
          ) -> tuple[tuple[slice, slice], np.ndarray]:
    """A wobbly ellipse: its place in the image and its mask there."""
    reach = int(np.ceil(radius * max(stretch, 1 / stretch) * 1.3)) + 1
    middle = np.round(centre).astype(int)
    place = tuple(slice(max(0, m - reach), min(n, m + reach + 1)) for m, n in zip(middle, shape))
    rows, columns = np.ogrid[place]
    angle = rng.uniform(0, np.pi)
    down, right = rows - centre[0], columns - centre[1]
    along, across = down * np.sin(angle) + right * np.cos(angle), down * np.cos(angle) - right * np.sin(angle)
    half = np.sqrt(stretch)
    theta = np.arctan2(across * half, along / half)
    edge = np.ones_like(theta)
    for wave in (2, 3, 4):
        edge = edge + rng.normal(0, 0.05) * np.cos(wave * theta + rng.uniform(0, 2 * np.pi))
    return place, np.hypot(along / half, across * half) <= radius * edge  # type: ignore[return-value]


def _tidied(labels: np.ndarray) -> np.ndarray:
    """Labels 1, 2, … of the nuclei of which enough is visible."""
    sizes = np.bincount(labels.ravel())
    keep = np.flatnonzero(sizes >= LEAST_PIXELS)
    keep = keep[keep > 0]
    table = np.zeros(len(sizes), np.int32)
    table[keep] = np.arange(1, len(keep) + 1)
    return table[labels]


def _exposed(rng: np.random.Generator, image: np.ndarray, noise: float) -> np.ndarray:
    """With noise and a random tone curve, in [0, 1]."""
    span = max(float(np.percentile(image, 99.8) - np.percentile(image, 0.2)), 0.3)
    image = image + rng.normal(0, noise, image.shape) * span
    low, high = np.percentile(image, (0.2, 99.8))
    image = np.clip((image - low) / max(high - low, 1e-3), 0, 1)
    return (image ** np.exp(rng.uniform(-0.5, 0.5))).astype(np.float32)
