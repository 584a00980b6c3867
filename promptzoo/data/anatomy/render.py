"""Intensities for maps of tissues (Billot et al., SynthSeg, 2023, section 3: a Gaussian per label, blur, bias)."""
from __future__ import annotations

from typing import Mapping

import numpy as np
from scipy import ndimage

from promptzoo.data.anatomy.tissues import CT_RANGES, PET_RANGES, TISSUES
from promptzoo.data.phantom_shapes import smooth_noise

DARK_IN_MR = ("air", "lung", "gas", "cortical", "table")


def render_ct(tissue: np.ndarray, rng: np.random.Generator, darker: Mapping[str, str] | None = None) -> np.ndarray:
    """A CT of a tissue map, ``[*N]`` uint8 to float32 Hounsfield units, contrast phase and noise drawn.

    Args:
        tissue: numbers of :data:`~promptzoo.data.anatomy.tissues.TISSUES`.
        rng: source of all draws.
        darker: tissues that are 20 to 60 HU darker than another one, by name.
    """
    means = np.array([rng.uniform(*CT_RANGES[name]) for name in TISSUES], np.float32)
    if rng.random() < 0.35:  # before contrast agent: blood, muscle and organs are alike
        for name in ("vessel", "kidney", "blood", "pancreas", "spleen", "myocardium", "bowel", "stomach", "gland"):
            means[TISSUES.index(name)] = rng.uniform(28, 58)
    for name, other in (darker or {}).items():
        means[TISSUES.index(name)] = means[TISSUES.index(other)] - rng.uniform(20, 60)
    value = means[tissue] + rng.uniform(0, 12) * smooth_noise(tissue.shape, (9.0,) * tissue.ndim, rng)
    value = ndimage.gaussian_filter(value, rng.uniform(0.2, 0.7))
    grain = ndimage.gaussian_filter(rng.standard_normal(tissue.shape).astype(np.float32), rng.uniform(0.0, 0.8))
    return (value + rng.uniform(3, 22) / max(float(grain.std()), 1e-3) * grain).astype(np.float32)


def render_pet(tissue: np.ndarray, rng: np.random.Generator, step_mm: float) -> np.ndarray:
    """A PET of a tissue map: uptake of FDG, the scanner's blur of 5 to 7 mm, and noise that grows with the uptake.

    Args:
        tissue: ``[*N]`` uint8, numbers of :data:`~promptzoo.data.anatomy.tissues.TISSUES`.
        rng: source of all draws.
        step_mm: voxel size.

    Returns:
        Standardised uptake values, ``[*N]`` float32, not negative.
    """
    means = np.array([rng.uniform(*PET_RANGES.get(name, (0.4, 0.9))) for name in TISSUES], np.float32)
    uptake = means[tissue] * np.exp(rng.uniform(0, 0.2) * smooth_noise(tissue.shape, (9.0,) * tissue.ndim, rng))
    value = ndimage.gaussian_filter(uptake, rng.uniform(5, 7) / 2.355 / step_mm)
    grain = ndimage.gaussian_filter(rng.standard_normal(tissue.shape).astype(np.float32), 0.6)
    noise = rng.uniform(0.05, 0.2) * np.sqrt(np.maximum(value, 0.05)) * grain / max(float(grain.std()), 1e-3)
    return np.maximum(value + noise, 0).astype(np.float32)


def render_random(labels: np.ndarray, rng: np.random.Generator, tissues: bool = True) -> np.ndarray:
    """An image of random contrast, as MR sequences differ.

    Args:
        labels: ``[*N]`` uint8.
        rng: source of all draws.
        tissues: whether the labels are :data:`~promptzoo.data.anatomy.tissues.TISSUES`, so that air and compact bone
            stay dark; otherwise only 0 does.

    Returns:
        ``[*N]`` float32, not negative, about 0 to 1.
    """
    count = max(len(TISSUES), int(labels.max()) + 1)
    means = rng.uniform(0.1, 1.0, count).astype(np.float32)
    spread = rng.uniform(0.0, 0.06, count).astype(np.float32)
    dark = [TISSUES.index(name) for name in DARK_IN_MR] if tissues else [0]
    means[dark] = rng.uniform(0, 0.08, len(dark))
    spread[dark] *= 0.3
    value = means[labels] + spread[labels] * rng.standard_normal(labels.shape).astype(np.float32)
    value = value + rng.uniform(0, 0.05) * smooth_noise(labels.shape, (9.0,) * labels.ndim, rng)
    value = ndimage.gaussian_filter(value, rng.uniform(0.2, 0.9))
    field = smooth_noise(labels.shape, tuple(0.5 * n for n in labels.shape), rng)
    value = value * np.exp(rng.uniform(0, 0.3) * field)
    noise = rng.uniform(0.005, 0.06)
    real = value + noise * rng.standard_normal(labels.shape)
    return np.hypot(real, noise * rng.standard_normal(labels.shape)).astype(np.float32)
