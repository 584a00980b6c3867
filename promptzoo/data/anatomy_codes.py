"""SNOMED CT codes of common object names, for DICOM SEG (PS3.16 CID 7150 ff.).

Names are matched word by word, whatever their order; left and right become a modifier. A name without an entry gets the
general code ``Tissue``: a general code is right where a guessed one may be wrong, and the name itself is always kept as
the segment label.
"""
from __future__ import annotations

import re

Code = tuple[str, str]
"""SNOMED CT code value and meaning."""

ANATOMICAL: Code = ("123037004", "Anatomical Structure")
ABNORMAL: Code = ("49755003", "Morphologically Abnormal Structure")
TISSUE: Code = ("85756007", "Tissue")
SIDES: dict[str, Code] = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}

_ABNORMAL: dict[str, Code] = {
    "neoplasm": ("108369006", "Neoplasm"), "tumor": ("108369006", "Neoplasm"), "tumour": ("108369006", "Neoplasm"),
    "sarcoma": ("108369006", "Neoplasm"), "metastasis": ("14799000", "Neoplasm, Secondary"),
    "lesion": ("52988006", "Lesion"), "mass": ("4147007", "Mass"), "nodule": ("27925004", "Nodule"),
    "cyst": ("367643001", "Cyst"), "edema": ("79654002", "Edema"), "necrosis": ("6574001", "Necrosis"),
    "hemorrhage": ("50960005", "Hemorrhage")}

_ANATOMY: dict[str, Code] = {
    "liver": ("10200004", "Liver"), "spleen": ("78961009", "Spleen"), "kidney": ("64033007", "Kidney"),
    "pancreas": ("15776009", "Pancreas"),
    "gallbladder": ("28231008", "Gallbladder"), "stomach": ("69695003", "Stomach"),
    "esophagus": ("32849002", "Esophagus"), "duodenum": ("38848004", "Duodenum"),
    "small bowel": ("30315005", "Small Intestine"), "colon": ("71854001", "Colon"),
    "adrenal gland": ("23451007", "Adrenal gland"), "urinary bladder": ("89837001", "Urinary bladder"),
    "bladder": ("89837001", "Urinary bladder"), "prostate": ("41216001", "Prostate"),
    "uterus": ("35039007", "Uterus"), "lung": ("39607008", "Lung"), "trachea": ("44567001", "Trachea"),
    "heart": ("80891009", "Heart"), "aorta": ("15825003", "Aorta"),
    "inferior vena cava": ("64131007", "Inferior vena cava"), "portal vein": ("32764006", "Portal vein"),
    "vertebra": ("51282000", "Vertebra"), "spine": ("421060004", "Vertebral column"), "rib": ("113197003", "Rib"),
    "ribs": ("113197003", "Rib"), "sternum": ("56873002", "Sternum"), "femur": ("71341001", "Femur"),
    "bone": ("272673000", "Bone"), "muscle": ("71616004", "Skeletal muscle"), "skin": ("39937001", "Skin"),
    "fat": ("55603005", "Fat"), "spinal cord": ("2748008", "Spinal cord"),
    "brain": ("12738006", "Brain"), "brainstem": ("119238007", "Brain Stem"), "cerebellum": ("113305005", "Cerebellum"),
    "white matter": ("68523003", "Cerebral white matter"), "gray matter": ("389081007", "Gray Matter"),
    "ventricle brain": ("35764002", "Brain ventricle"), "ventricles": ("35764002", "Brain ventricle"),
    "skull": ("89546000", "Skull"), "eye": ("81745001", "Eye"), "nucleus": ("84640000", "Nucleus")}

_SAME = {"kidneys": "kidney", "lungs": "lung", "grey": "gray", "oesophagus": "esophagus", "l": "left", "r": "right",
         "tumors": "tumor", "vertebrae": "vertebra", "oedema": "edema", "nuclei": "nucleus", "eyes": "eye"}


def codes_of(name: str) -> tuple[Code, Code, Code | None]:
    """Category, type and side of an object name.

    Args:
        name: free text such as ``kidney left`` or ``Left kidney``.

    Returns:
        SNOMED CT codes of the category and of the type (``Tissue`` if the name is unknown), and of the side or None.
    """
    words = {_SAME.get(w, w) for w in re.findall(r"[a-z]+", name.lower())}
    sides = words & set(SIDES)
    side = SIDES[sides.pop()] if len(sides) == 1 else None
    words -= set(SIDES)
    for table, category in ((_ABNORMAL, ABNORMAL), (_ANATOMY, ANATOMICAL)):
        fitting = [key for key in table if set(key.split()) <= words]
        if fitting:
            return category, table[max(fitting, key=lambda k: (len(k.split()), len(k)))], side
    return TISSUE, TISSUE, side
