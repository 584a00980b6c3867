"""Tissues of the anatomical phantoms and what they look like in CT."""
from __future__ import annotations

CT_RANGES: dict[str, tuple[float, float]] = {
    "air": (-1010, -990), "lung": (-900, -750), "gas": (-1000, -900), "fat": (-120, -85), "skin": (-10, 40),
    "muscle": (35, 75), "soft": (20, 60), "vessel": (35, 230), "liver": (45, 130), "spleen": (40, 140),
    "kidney": (25, 200), "sinus": (-60, 20), "gallbladder": (-5, 30), "pancreas": (25, 120), "stomach": (25, 95),
    "content": (-20, 60), "bowel": (20, 100), "feces": (-120, 60), "urine": (-5, 40), "prostate": (25, 70),
    "gland": (20, 90), "myocardium": (40, 130), "blood": (40, 220), "cortical": (400, 1100),
    "trabecular": (120, 280), "marrow": (-80, 60), "disc": (60, 120), "cord": (25, 60), "cartilage": (60, 180),
    "csf": (-2, 18), "gray": (32, 45), "white": (22, 34), "deep": (32, 44), "hind": (28, 40), "stem": (24, 36),
    "lens": (60, 90), "vitreous": (0, 18), "fluid": (0, 30), "meniscus": (70, 110), "tendon": (60, 110),
    "table": (-800, -400), "lesion": (10, 90)}
"""Hounsfield units from which the mean of a tissue is drawn (with and without contrast agent)."""

TISSUES = tuple(CT_RANGES)
"""Value of a tissue map; ``air`` is 0."""

NUMBER = {name: value for value, name in enumerate(TISSUES)}
