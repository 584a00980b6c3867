"""Random fields: smooth noise and textures, drawn from banks that are made once."""
from __future__ import annotations

import numpy as np
from scipy import ndimage


class FieldBank:
    """Banks of periodic noise images from which random crops are taken.

    Args:
        size: side of the fields that are handed out.
        seed: seed of the banks.
        textures, smooth: number of stored images.
    """

    def __init__(self, size: int, seed: int, textures: int = 160, smooth: int = 96) -> None:
        rng = np.random.default_rng([seed, 77])
        self.size, side = size, 2 * size
        fy, fx = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
        scale = 128 / size
        self._textures = [_texture(rng, fy * scale, fx * scale) for _ in range(textures)]
        self._smooth = []
        for _ in range(smooth):
            sigma = 10 ** rng.uniform(0.75, 1.75) / scale
            gain = np.exp(-2 * (np.pi * sigma) ** 2 * (fy ** 2 + fx ** 2))
            field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * gain).real
            self._smooth.append((field / (field.std() + 1e-9)).astype(np.float32))

    def _crop(self, image: np.ndarray, rng: np.random.Generator, zoom: bool) -> np.ndarray:
        side = self.size
        width = int(rng.uniform(0.55, 1.9) * side) if zoom and rng.random() < 0.5 else side
        y, x = rng.integers(0, image.shape[0] - width + 1, 2)
        crop = image[y:y + width, x:x + width]
        if width != side:
            at = np.linspace(0, width - 1, side)
            low = np.minimum(at.astype(int), width - 2)
            frac = (at - low).astype(np.float32)
            crop = crop[low] * (1 - frac)[:, None] + crop[low + 1] * frac[:, None]
            crop = crop[:, low] * (1 - frac) + crop[:, low + 1] * frac
        if rng.random() < 0.5:
            crop = crop[::-1]
        return crop.T if rng.random() < 0.5 else crop

    def texture(self, rng: np.random.Generator) -> np.ndarray:
        """A texture ``[size, size]`` of mean 0 and deviation about 1."""
        return self._crop(self._textures[rng.integers(len(self._textures))], rng, True)

    def smooth(self, rng: np.random.Generator) -> np.ndarray:
        """A smooth field ``[size, size]`` of deviation about 1."""
        return self._crop(self._smooth[rng.integers(len(self._smooth))], rng, True)


def _texture(rng: np.random.Generator, fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
    side, kind = fy.shape[0], rng.random()
    angle, stretch = rng.uniform(0, np.pi), float(rng.choice([1, 1, 1, rng.uniform(1, 6)]))
    u = fx * np.cos(angle) + fy * np.sin(angle)
    v = (-fx * np.sin(angle) + fy * np.cos(angle)) * stretch
    radius = np.sqrt(u * u + v * v) + 1e-4
    if kind < 0.8:
        if kind < 0.5:
            gain = radius ** (-rng.uniform(0.3, 2.2))
        else:
            centre = 10 ** rng.uniform(-2, -0.7)
            gain = np.exp(-((np.log(radius) - np.log(centre)) ** 2) / (2 * rng.uniform(0.15, 0.6) ** 2))
        gain[0, 0] = 0
        field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * gain).real
        shape = rng.random()
        if shape < 0.15:
            field = np.abs(field)
        elif shape < 0.3:
            field = np.tanh(2 * field / field.std())
    else:
        seeds = np.ones((side, side), bool)
        at = rng.integers(0, side, (int(10 ** rng.uniform(1.5, 3.2)), 2))
        seeds[at[:, 0], at[:, 1]] = False
        field = ndimage.distance_transform_edt(seeds)
        if rng.random() < 0.5:
            field = np.exp(-(field / rng.uniform(1, 4)) ** 2)
    field = (field - field.mean()) / (field.std() + 1e-6)
    return np.clip(field, -3.5, 3.5).astype(np.float32)
