"""Where named structures come from: anatomical phantoms, procedural scans, and openly licensed images with labels."""
from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Sequence

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy import Anatomy, head, knee, torso
from promptzoo.data.anatomy.lesions import FINDINGS, with_findings
from promptzoo.data.anatomy.names import ALL_STRUCTURES, STRUCTURES, absent_elsewhere
from promptzoo.data.anatomy.tissues import TISSUES
from promptzoo.data.phantoms import head_mr, torso_ct
from promptzoo.evaluation.datalist import Datalist
from promptzoo.inference.state import EncodedImage
from promptzoo.inference.universal_view import body_box
from promptzoo.training.real import usable_rows

TISSUE_BINS_HU = (-500.0, -150.0, -20.0, 100.0)
RENAMED = {
    "vertebrae": "spine", "heart": "heart", "ribs": "rib", "brain stem": "brainstem", "3rd ventricle":
    "third_ventricle", "4th ventricle": "fourth_ventricle", "costal cartilages": "costal_cartilage"}
SIDED = {
    "lung": "lung", "autochthon": "erector_spinae_muscle", "iliopsoas": "iliopsoas_muscle",
    "gluteus maximus": "gluteus_maximus_muscle", "gluteus medius": "gluteus_medius_muscle", "hip": "hip_bone",
    "iliac artery": "common_iliac_artery", "iliac vena": "common_iliac_vein", "caudate": "caudate_nucleus",
    "pallidum": "globus_pallidus", "cerebellum cortex": "cerebellum", "cerebellum white matter": "cerebellum"}


def structure_of(label: str) -> str:
    """The lexicon's id of a label of the datalists: ``kidney left`` or ``left kidney`` to ``kidney_left``."""
    text = label.lower().replace("_", " ").strip()
    if text in RENAMED:
        return RENAMED[text]
    if re.match(r"vertebrae [ctl]\d+$", text):
        return "spine"
    if re.match(r"rib (left|right) \d+$", text):
        return "rib"
    words = text.split()
    sides = [w for w in words if w in ("left", "right")]
    words = [w for w in words if w not in ("left", "right", "upper", "middle", "lower", "lobe")]
    base = SIDED.get(" ".join(words), "_".join(words))
    return f"{base}_{sides[0]}" if sides else base


@dataclass(eq=False)
class Source:
    """A body with named structures, in RAS order.

    Args:
        image: ``[x, y, z]`` float32, or None if it is always rendered.
        tissue: ``[x, y, z]`` uint8 to render from.
        structure: ``[x, y, z]`` uint8, numbers of ``names``.
        names: by value; the first is empty.
        known: structures of which it is known where they are not.
        spacing_mm: voxel size.
        hounsfield: whether ``image`` is in Hounsfield units.
        phantom: whether ``tissue`` holds tissues, not labels.
        imaging: ``ct`` or ``pet`` for a phantom that is always rendered so.
    """

    image: np.ndarray | None
    tissue: np.ndarray
    structure: np.ndarray
    names: tuple[str, ...]
    known: frozenset[str]
    spacing_mm: np.ndarray
    hounsfield: bool
    phantom: bool
    imaging: str = ""

    def within(self, low: np.ndarray, high: np.ndarray) -> "Source":
        """The part between voxel bounds."""
        cut = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
        image = None if self.image is None else np.ascontiguousarray(self.image[cut])
        return Source(image, np.ascontiguousarray(self.tissue[cut]), np.ascontiguousarray(self.structure[cut]),
                      self.names, self.known, self.spacing_mm, self.hounsfield, self.phantom, self.imaging)

    def named(self) -> "Source":
        """What is known of the body, without its voxels."""
        return replace(self, image=None, tissue=np.empty(0, np.uint8), structure=np.empty(0, np.uint8))


@lru_cache(maxsize=12)
def phantom(region: str, seed: int) -> Source:
    """An anatomical phantom cut to the body; every structure that it does not paint is known to be absent."""
    return _of_phantom({"torso": torso, "head": head, "knee": knee}[region](seed))


TAKEN_OUT = ("spleen", "stomach", "gallbladder", "kidney_left", "kidney_right", "urinary_bladder", "pancreas", "liver",
             "prostate", "uterus", "heart", "colon", "adrenal_gland_left", "adrenal_gland_right", "duodenum")


@lru_cache(maxsize=12)
def imaged(imaging: str, seed: int) -> Source:
    """A torso that is always rendered in one way: ``pet``, or as ``ct`` with findings in its organs; or, for
    ``lacking``, one of which each of :data:`TAKEN_OUT` is taken out in four of ten."""
    if imaging == "lacking":
        rng = generator(seed, 0x1AC)
        return _of_phantom(torso(seed, absent=[name for name in TAKEN_OUT if rng.random() < 0.4]))
    body = torso(seed)
    return _of_phantom(with_findings(body, seed) if imaging == "ct" else body, imaging)


def _of_phantom(made: Anatomy, imaging: str = "") -> Source:
    inside = made.tissue > 0
    inside &= made.tissue != TISSUES.index("table")
    low = np.array([np.flatnonzero(inside.any(tuple({0, 1, 2} - {a})))[0] for a in range(3)])
    high = np.array([np.flatnonzero(inside.any(tuple({0, 1, 2} - {a})))[-1] + 1 for a in range(3)])
    known = absent_elsewhere(made.region) | set(STRUCTURES[made.region]) | (set(FINDINGS) if imaging == "ct" else set())
    return Source(None, made.tissue, made.structure, made.names, known, np.asarray(made.spacing_mm), False, True,
                  imaging).within(np.maximum(low - 2, 0), high + 2)


def _of_scan(data: np.ndarray, labels: np.ndarray, names: Sequence[str], known: frozenset[str], spacing: np.ndarray,
             hounsfield: bool) -> Source:
    """An image with labels; what has none is divided by intensity, so that other contrasts can be drawn."""
    bins = TISSUE_BINS_HU if hounsfield else tuple(np.percentile(data[data > data.min()], (25, 50, 75, 90)))
    rest = np.digitize(data, bins).astype(np.uint8)
    tissue = np.where(labels > 0, labels + len(bins), rest).astype(np.uint8)
    whole = Source(data, tissue, labels, tuple(names), known, spacing, hounsfield, False)
    return whole.within(*body_box(data, spacing, hounsfield))


PROCEDURAL = {"spine": "spine", "kidney right": "kidney_right", "kidney left": "kidney_left", "ribs": "rib",
              "lung right": "lung_right", "lung left": "lung_left", "inferior vena cava": "inferior_vena_cava"}


@lru_cache(maxsize=4)
def procedural(region: str, seed: int) -> Source:
    """One of the sample studies' generators with its own texture; only what it labels is known."""
    if region == "torso":
        volume, labels, names = torso_ct(seed, (124, 80, 100), (3.0, 3.0, 3.2))
        wanted = {v: PROCEDURAL.get(n, n) for v, n in names.items() if n not in ("colon",)}
    else:
        volume, labels, names = head_mr(seed, (92, 114, 84), (2.0, 2.0, 2.15))
        wanted = {v: {"eye right": "eye_right", "eye left": "eye_left"}.get(n, n) for v, n in names.items()
                  if n in ("brainstem", "eye right", "eye left")}
    known = frozenset(wanted.values()) | absent_elsewhere(region)
    return _encoded(volume, [(labels == v, n) for v, n in wanted.items()], known)


def _encoded(volume: object, masks: Sequence[tuple[np.ndarray, str]], known: frozenset[str]) -> Source:
    state = EncodedImage.of(volume)  # type: ignore[arg-type]
    names, own = [""], np.zeros(state.source.shape, np.uint8)
    for mask, name in masks:
        if name not in names:
            names.append(name)
        own[mask] = names.index(name)
    return _of_scan(state.data, np.ascontiguousarray(state.move.array(own)), names, known,
                    np.asarray(state.canonical.spacing_mm), state.hounsfield)


LEAST_STRUCTURES = 8


def open_bodies(datalist: str, without: Sequence[str] = ()) -> list[Source]:
    """Volumes of licence class ``open`` with several structures labelled; what they do not label is
    unknown, but for structures of other body parts.

    Args:
        datalist: CSV as :class:`promptzoo.evaluation.datalist.Datalist` reads it.
        without: cases to leave out.

    Raises:
        PromptZooError: if there is none.
    """
    source = Datalist.read(datalist)
    found: dict[str, list] = {}
    for row in usable_rows(source):
        name, case = structure_of(row.extra.get("label_name", "")), row.extra.get("case", row.id)
        if name in ALL_STRUCTURES and case not in without:
            found.setdefault(case, []).append((row, name))
    bodies = []
    for rows in found.values():
        loaded = [(source.load(row), name) for row, name in rows]
        names = {name for _, name in loaded}
        if len(names) >= LEAST_STRUCTURES and min(loaded[0][0].grid.shape) >= 24:
            region = max(STRUCTURES, key=lambda part: len(names & set(STRUCTURES[part])))
            bodies.append(_encoded(loaded[0][0].volume, [(case.mask, name) for case, name in loaded],
                                   frozenset(names) | absent_elsewhere(region)))
    if not bodies:
        raise PromptZooError(complain(f"bodies in {datalist}", 0, "volumes of licence class open with many structures",
                                      "Leave the datalist out to train on phantoms alone"))
    return bodies
