"""Public weights of SAM-like networks: what is published, where it is, and the networks that it fits.

``catalog`` and ``store`` need no torch, so that listings are quick; ``loading`` brings networks and keys together.
"""
