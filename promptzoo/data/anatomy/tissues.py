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

PET_RANGES: dict[str, tuple[float, float]] = {
    "air": (0.0, 0.02), "lung": (0.3, 0.6), "gas": (0.0, 0.1), "fat": (0.2, 0.4), "liver": (1.8, 3.0),
    "spleen": (1.4, 2.4), "kidney": (1.8, 3.5), "sinus": (3.0, 12.0), "gallbladder": (0.5, 1.2), "pancreas": (1.1, 1.9),
    "stomach": (1.2, 3.0), "bowel": (1.0, 3.5), "urine": (6.0, 25.0), "prostate": (1.2, 2.2),
    "myocardium": (1.5, 9.0), "blood": (1.1, 1.9), "vessel": (1.1, 1.9), "cortical": (0.3, 0.6),
    "trabecular": (0.9, 1.8), "marrow": (0.6, 1.4), "disc": (0.5, 1.0), "cord": (1.2, 2.2), "gray": (6.0, 12.0),
    "white": (2.0, 4.0), "deep": (6.0, 11.0), "hind": (5.0, 9.0), "table": (0.0, 0.02), "lesion": (4.0, 14.0)}
"""Standardised uptake of FDG an hour after injection from which the mean of a tissue is drawn; 0.4 to 0.9 for others.
"""

TISSUES = tuple(CT_RANGES)
"""Value of a tissue map; ``air`` is 0."""

NUMBER = {name: value for value, name in enumerate(TISSUES)}
