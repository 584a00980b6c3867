"""SAM-Med3D on volumes: a cube around the first click, encoded once; later clicks cost a decode.

Prepared as in ``utils/infer_utils.py`` of github.com/uni-medical/SAM-Med3D, with one difference: there the cube is
centred on the true object, here on the first click, which is all that a reader has.
"""
from __future__ import annotations

from typing import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from promptzoo.core.errors import PromptError, complain
from promptzoo.inference.looks import Look, as_chance
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.public_sam import EVIDENCE, EncodedPicture, PublicParts, content_key
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import dice_of_iou
from promptzoo.inference.state import StateCache
from promptzoo.networks.public.catalog import PublicWeights
from promptzoo.networks.public.preprocess import z_normalised


class CubeSegmenter:
    """Segments one object in a volume.

    Args:
        parts: the network.
        weights: its description.
        limit_bytes: most memory for encoded cubes.
    """

    def __init__(self, parts: PublicParts, weights: PublicWeights, limit_bytes: int) -> None:
        self.parts, self.weights, self.encodings = parts, weights, StateCache(limit_bytes)

    def __call__(self, image: np.ndarray, spacing: Sequence[float], prompts: ObjectPrompts,
                 hounsfield: bool = False) -> Look:
        """Segment.

        Args:
            image: ``[i, j, k]`` intensities in RAS order.
            spacing: voxel size in mm per axis.
            prompts: clicks of one object, and its last mask.
            hounsfield: not used.

        Returns:
            A look at the cube.

        Raises:
            PromptError: without a positive click.
        """
        if not len(prompts.positive):
            raise PromptError(complain(f"prompts for {self.weights.name}", "no positive click", "one or more clicks"))
        how = self.weights.preprocessing
        size, step = how["size"], how["spacing_mm"] / np.asarray(spacing, dtype=float)
        window = Window(tuple(prompts.positive[0] - step * (size // 2)), tuple(step), (size,) * 3)
        cube = sampled(image, window)
        encoded = self.encodings.get((content_key(cube),), lambda: EncodedPicture(
            tuple(np.asarray(p) for p in self.parts.encode(z_normalised(cube)[None, None]))))
        clicks = window.to_window(np.concatenate([prompts.positive, prompts.negative]))
        labels = np.array([1.0] * len(prompts.positive) + [0.0] * len(prompts.negative))
        inside = ((clicks >= 0) & (clicks < size)).all(1)
        logits, iou = self.parts.decode(encoded, clicks[inside], labels[inside], self._start(prompts, window), False)
        fine = F.interpolate(torch.from_numpy(logits)[None, None], (size,) * 3, mode="trilinear")[0, 0].numpy()
        return Look(window, as_chance(fine), dice_of_iou(iou), (self.weights.name,))

    def _start(self, prompts: ObjectPrompts, window: Window) -> np.ndarray:
        """Low-resolution logits to start from; zeros for the first click, as the authors do."""
        side = self.parts.network.mask_side
        if prompts.prior is None:
            return np.zeros((side,) * 3, dtype=np.float32)
        chance = torch.from_numpy(sampled(prompts.prior, window))[None, None]
        return EVIDENCE * (2 * F.adaptive_avg_pool3d(chance, side)[0, 0].numpy() - 1)


def sampled(image: np.ndarray, window: Window) -> np.ndarray:
    """A volume on a window's voxels, linearly interpolated, zero beyond the volume; float32."""
    return ndimage.affine_transform(np.asarray(image, dtype=np.float32), np.asarray(window.step), window.origin,
                                    window.shape, order=1, mode="constant", cval=0.0, prefilter=False)
