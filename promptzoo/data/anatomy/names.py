"""Structures that the anatomical phantoms paint, under the names that the lexicon gives them."""
from __future__ import annotations


def _paired(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}_{side}" for name in names for side in ("left", "right"))


STRUCTURES: dict[str, tuple[str, ...]] = {
    "torso": ("liver", "spleen", "stomach", "gallbladder", "pancreas", "duodenum", "small_bowel", "colon",
              "urinary_bladder", "prostate", "uterus", "aorta", "inferior_vena_cava", "superior_vena_cava",
              "portal_vein_and_splenic_vein", "heart", "trachea", "esophagus", "spine", "sacrum", "rib",
              "costal_cartilage", "sternum", "spinal_cord",
              *_paired("kidney", "lung", "adrenal_gland", "common_iliac_artery", "common_iliac_vein", "hip_bone",
                       "femur", "clavicle", "scapula", "iliopsoas_muscle", "erector_spinae_muscle",
                       "gluteus_maximus_muscle", "gluteus_medius_muscle")),
    "head": ("skull", "mandible", "brainstem", "third_ventricle", "fourth_ventricle", "spinal_cord",
             *_paired("cerebral_cortex", "cerebral_white_matter", "cerebellum", "lateral_ventricle", "thalamus",
                      "caudate_nucleus", "putamen", "globus_pallidus", "hippocampus", "amygdala", "eye")),
    "knee": ("femur", "tibia", "fibula", "patella", "meniscus", "knee_cartilage")}
"""By body part; "left" is the patient's left."""

ALL_STRUCTURES = tuple(dict.fromkeys(name for names in STRUCTURES.values() for name in names))

UNSURE: dict[str, tuple[str, ...]] = {"torso": ("femur", "tibia", "knee_cartilage"), "head": ("spine",),
                                      "knee": ("femur_left", "femur_right")}
"""Structures of other body parts of which an image of this one cannot say that they are not there."""


def absent_elsewhere(region: str) -> frozenset[str]:
    """Structures that an image of a body part is sure not to show."""
    return frozenset(ALL_STRUCTURES) - set(STRUCTURES[region]) - set(UNSURE[region])
