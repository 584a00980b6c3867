"""0-dimensional persistent homology of an image: which peaks stand out, and by how much.

Edelsbrunner and Harer, "Computational topology", 2010, chapter VII: as the level falls, every maximum gives birth to a
component of the superlevel set; where two meet, the one of the lower maximum dies (elder rule).
"""
from __future__ import annotations

import numpy as np


def persistent_peaks(image: np.ndarray, least: float) -> list[tuple[tuple[int, int], float]]:
    """Maxima of an image by their persistence (height of birth minus height of death).

    Args:
        image: ``[h, w]``.
        least: smallest persistence that counts; the highest peak lives down to the image's minimum.

    Returns:
        ``((row, column), persistence)`` of each, most persistent first; neighbours are the eight around a pixel.
    """
    height, width = image.shape
    padded = np.full((height + 2, width + 2), -1, dtype=np.int64)
    flat = image.ravel()
    order = np.argsort(-flat, kind="stable")
    parent: dict[int, int] = {}
    died: dict[int, float] = {}
    stride = width + 2
    around = [-stride - 1, -stride, -stride + 1, -1, 1, stride - 1, stride, stride + 1]
    seen = padded.ravel()

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in order.tolist():
        place = (node // width + 1) * stride + node % width + 1
        seen[place] = node
        parent[node] = node
        for step in around:
            other = int(seen[place + step])
            if other < 0:
                continue
            first, second = root(node), root(other)
            if first == second:
                continue
            elder, younger = (first, second) if (flat[first], -first) > (flat[second], -second) else (second, first)
            parent[younger] = elder
            died[younger] = float(flat[node])
    lowest = float(flat[order[-1]])
    found = [((node // width, node % width), float(flat[node]) - died.get(node, lowest)) for node in parent
             if node not in died or flat[node] - died[node] >= max(least, 1e-12)]
    return sorted((entry for entry in found if entry[1] >= least), key=lambda entry: -entry[1])
