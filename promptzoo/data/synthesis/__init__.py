"""Procedural images with target masks: what the shipped weights of interactive bundles are trained on."""
from promptzoo.data.synthesis.procedural import Procedural2D, Procedural3D

__all__ = ["Procedural2D", "Procedural3D"]
