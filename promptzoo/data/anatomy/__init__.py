"""Anatomical phantoms with named structures, for training networks that are told in words what to find.

A phantom is a map of tissues and a map of structures; intensities are drawn anew each time it is rendered, as CT or
with a random contrast (Billot et al., "SynthSeg: segmentation of brain MRI scans of any contrast and resolution
without retraining", Medical Image Analysis 2023, section 3). Arrays are in RAS order: the liver is on the side of high
first index, and "left" is the patient's left.
"""
from promptzoo.data.anatomy.body import Anatomy, head, knee, torso
from promptzoo.data.anatomy.render import render_ct, render_pet, render_random

__all__ = ["Anatomy", "head", "knee", "render_ct", "render_pet", "render_random", "torso"]
