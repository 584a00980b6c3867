"""Findings in the organs of a phantom."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping

import numpy as np
from scipy import ndimage

from promptzoo.core.seeding import generator
from promptzoo.data.anatomy.body import Anatomy
from promptzoo.data.anatomy.tissues import NUMBER
from promptzoo.data.phantom_shapes import smooth_noise


@dataclass(frozen=True)
class Finding:
    """What a finding is like.

    Args:
        hosts: structures that it is found in.
        tissue: what it is made of.
        radius_mm: smallest and largest.
    """

    hosts: tuple[str, ...]
    tissue: str
    radius_mm: tuple[float, float]


FINDINGS: Mapping[str, Finding] = {
    "liver_tumor": Finding(("liver",), "lesion", (12.0, 28.0)),
    "lung_nodule": Finding(("lung_left", "lung_right"), "soft", (8.0, 18.0)),
    "kidney_cyst": Finding(("kidney_left", "kidney_right"), "fluid", (10.0, 20.0))}
"""By the lexicon's id."""

DARKER = {"lesion": "liver"}
"""What :func:`promptzoo.data.anatomy.render_ct` needs to be told so that a tumour of the liver can be seen."""


def with_findings(body: Anatomy, seed: int, share: float = 0.6) -> Anatomy:
    """A torso with findings, each there or not; a finding's voxels are no longer those of its host.

    Args:
        body: without findings.
        seed: what is where follows from it.
        share: how often each finding is there.
    """
    rng, tissue, structure, names = generator(seed, 0x1E510), body.tissue.copy(), body.structure.copy(), [*body.names]
    grids = np.ogrid[tuple(slice(n) for n in tissue.shape)]
    for name, finding in FINDINGS.items():
        names.append(name)
        hosts = [host for host in finding.hosts if body.mask(host).any()]
        if not hosts or rng.random() >= share:
            continue
        host = body.mask(str(rng.choice(hosts)))
        deep = ndimage.binary_erosion(host, iterations=2)
        at = np.argwhere(deep if deep.any() else host)
        centre, radius = at[int(rng.integers(len(at)))], rng.uniform(*finding.radius_mm)
        stretched = np.exp(rng.normal(0, 0.12, 3))
        distance = np.sqrt(sum(((g - c) * mm / s) ** 2 for g, c, mm, s in
                               zip(grids, centre, body.spacing_mm, stretched)))
        rough = 0.12 * smooth_noise(tissue.shape, (4.0,) * 3, rng)
        inside = host & (distance < radius * (1 + rough))
        tissue[inside], structure[inside] = NUMBER[finding.tissue], len(names) - 1
    return Anatomy(tissue, structure, tuple(names), body.spacing_mm, body.region)
