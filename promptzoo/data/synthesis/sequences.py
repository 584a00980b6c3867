"""Procedural slices seen in several sequences at once: a brain tumour in four MR sequences, a neck in CT and PET.

Arrays are ``[sequence, x, y]`` in canonical order: the first axis grows to the patient's right, the second to the
front.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.clinical import Canvas, soft

BRAIN = ("T1", "T1c", "T2", "FLAIR")
"""Sequences of :func:`brain_sequences`."""
NECK = ("CT", "PET")
"""Images of :func:`neck_pet_ct`."""

_LEVELS: Mapping[str, tuple[float, float, float, float]] = {
    "white": (0.62, 0.62, 0.36, 0.42), "gray": (0.5, 0.5, 0.5, 0.54), "fluid": (0.22, 0.22, 0.95, 0.16),
    "oedema": (0.44, 0.44, 0.74, 0.84), "solid": (0.42, 0.48, 0.66, 0.7), "rim": (0.44, 0.9, 0.62, 0.66),
    "middle": (0.3, 0.3, 0.84, 0.4), "fat": (0.8, 0.8, 0.6, 0.5), "bone": (0.12, 0.12, 0.1, 0.1)}
"""Brightness of tissues in the sequences of :data:`BRAIN`."""


@dataclass(frozen=True)
class Centre:
    """How the scanners of a centre show a neck.

    Args:
        name: of the centre.
        uptake: exponent of the PET's scale (1 is linear).
        blur: of the PET, as a fraction of the image's side.
        noise: of the CT and of the PET.
        soft_tissue: contrast of the CT between soft tissues.
        inverted: whether PET is stored dark on bright.
    """

    name: str
    uptake: float = 1.0
    blur: float = 0.015
    noise: tuple[float, float] = (0.02, 0.03)
    soft_tissue: float = 1.0
    inverted: bool = False


CENTRES = (Centre("A"), Centre("B", 0.45, 0.03, (0.07, 0.08), 0.5), Centre("C", 1.0, 0.02, (0.03, 0.04), 1.0, True))
"""Centre A is what the frozen network was trained on."""


def brain_sequences(rng: np.random.Generator, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A slice with a tumour in four sequences ``[4, size, size]`` float32, and the whole tumour with its oedema
    ``[size, size]`` bool.

    No sequence shows all of it: oedema is like fluid in T2, hardly seen in T1, and the rim stands out in T1c alone.
    """
    c = Canvas(rng, size)
    head = c.ellipse((0, 0), (0.78, 0.9))
    fold = np.tanh(2.5 * c.noise(0.12))
    share: dict[str, np.ndarray] = {"fat": soft(head, 0.02), "bone": soft(head / 0.94, 0.02)}
    share["fluid"] = soft(head / 0.89, 0.02)
    share["gray"] = soft(head / 0.87 + 0.03 * fold, 0.03)
    share["white"] = soft(head / 0.74 + 0.1 * fold, 0.05)
    ventricles = [c.ellipse((side * rng.uniform(0.08, 0.13), rng.uniform(-0.05, 0.1)),
                            (rng.uniform(0.05, 0.1), rng.uniform(0.22, 0.34)), side * 0.2) for side in (-1, 1)]
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.5)
    centre = (away * 0.8 * np.cos(angle), away * np.sin(angle))
    radius, turn = float(np.exp(rng.uniform(np.log(0.1), np.log(0.24)))), rng.uniform(0, np.pi)
    stretch, wide = np.exp(rng.uniform(0, 0.4)), rng.uniform(1.3, 2.0)
    solid = c.ragged(c.ellipse(centre, (radius * stretch, radius / stretch), turn), 0.08, radius)
    halo = np.minimum(c.ragged(c.ellipse(centre, (radius * wide * stretch, radius * wide / stretch), turn), 0.15,
                               radius), solid / 1.1)
    inside = head < 0.86
    share["oedema"] = soft(halo, 0.1) * soft(head / 0.86, 0.02)
    share["fluid2"] = np.maximum(*(soft(one, 0.12) for one in ventricles)) * (1 - soft(halo, 0.1))
    inner = solid / (1 - rng.uniform(0.25, 0.45))
    share["solid"], share["rim"] = soft(solid, 0.06), soft(solid, 0.05) * (1 - soft(inner, 0.1))
    share["middle"] = soft(inner, 0.1) * float(rng.random() < 0.7)
    values = {name: np.asarray(level) + rng.normal(0, 0.03, 4) for name, level in _LEVELS.items()}
    values["oedema"] = values["gray"] + (values["oedema"] - values["gray"]) * rng.uniform(0.6, 1.1)
    images = np.full((4, size, size), 0.03)
    for name in ("fat", "bone", "fluid", "gray", "white", "fluid2", "oedema", "solid", "middle", "rim"):
        level = values[name.rstrip("2")]
        images = images + share[name] * (level[:, None, None] - images)
    texture = 1 + 0.05 * c.noise(0.08)
    bias = [1 + rng.uniform(0, 0.12) * c.noise(1.0) for _ in range(4)]
    images = np.stack([ndimage.gaussian_filter(one * texture * field, rng.uniform(0.3, 0.8))
                       for one, field in zip(images, bias)])
    return _noisy(images, rng, (0.02,) * 4), (halo < 1) & inside


def neck_pet_ct(rng: np.random.Generator, size: int = 96, centre: Centre = CENTRES[0]
                ) -> tuple[np.ndarray, np.ndarray]:
    """A slice of a neck in CT and PET ``[2, size, size]`` float32 as a centre shows it, and its tumour
    ``[size, size]`` bool.

    Tonsils and salivary glands take the tracer up, too, in pairs; the tumour is on one side and bulges.
    """
    c = Canvas(rng, size)
    body = c.ellipse((0, 0), (0.75, 0.72))
    muscle = 0.5 + 0.05 * c.noise(0.1)
    ct = 0.3 * soft(body, 0.02) + soft(body / 0.9, 0.06) * (muscle - 0.3)
    spine = c.ellipse((0, -0.35), (0.17, 0.15))
    jaw = np.abs(c.ellipse((0, 0.2), (0.52, 0.42)) - 1)
    airway = c.ellipse((0, 0.12 + rng.uniform(-0.05, 0.05)), (rng.uniform(0.08, 0.14), rng.uniform(0.06, 0.1)))
    bone = np.maximum(soft(spine, 0.1), soft(jaw / 0.1, 0.4) * (c.y > 0.15))
    pet = 0.1 * soft(body, 0.03) + 0.03 * soft(body, 0.03) * c.noise(0.1)
    for pair in range(2):
        place, radius = ((0.2, 0.1), 0.09) if pair == 0 else ((0.45, -0.02), 0.13)
        hot = rng.uniform(0.25, 0.65) if pair == 0 else rng.uniform(0.15, 0.45)
        for side in (-1, 1):
            gland = c.ellipse((side * place[0] + rng.normal(0, 0.02), place[1] + rng.normal(0, 0.02)),
                              (radius * rng.uniform(0.8, 1.2), radius * rng.uniform(0.8, 1.3)))
            pet = pet + hot * rng.uniform(0.8, 1.2) * soft(gland, 0.2)
            ct = ct + (0.04 if pair == 0 else -0.08) * soft(gland, 0.1)
    left, radius = float(rng.choice((-1, 1))), float(np.exp(rng.uniform(np.log(0.1), np.log(0.22))))
    at = (left * rng.uniform(0.15, 0.45), rng.uniform(-0.25, 0.35))
    mass = c.ragged(c.ellipse(at, (radius * rng.uniform(0.8, 1.25), radius * rng.uniform(0.8, 1.25)),
                              rng.uniform(0, np.pi)), 0.12, radius)
    pet = pet + rng.uniform(0.45, 0.95) * soft(mass, 0.12) * (1 + 0.1 * c.noise(0.06))
    ct = ct + 0.1 * centre.soft_tissue * soft(mass, 0.08)
    ct = (0.45 + (ct - 0.45) * np.where(np.abs(ct - 0.45) < 0.2, centre.soft_tissue, 1.0)) * soft(body, 0.02)
    ct = np.maximum(ct, bone) * (1 - soft(airway, 0.1))
    pet = ndimage.gaussian_filter(np.clip(pet, 0, None), centre.blur * size) ** centre.uptake
    pet = pet.max() - pet if centre.inverted else pet
    return _noisy(np.stack([ct, pet]), rng, centre.noise), (mass < 1) & (body < 0.95) & (airway > 1)


def _noisy(images: np.ndarray, rng: np.random.Generator, noise: Sequence[float]) -> np.ndarray:
    """With noise of some deviation per image, and another brightness curve each."""
    found = [np.clip(one + deviation * rng.standard_normal(one.shape), 0, None) ** np.exp(rng.normal(0, 0.08))
             for one, deviation in zip(images, noise)]
    return np.stack(found).astype(np.float32)
