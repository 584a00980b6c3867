"""Affine registration of a finished volume to a new one, coarse and quick, and how alike the two then are."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from promptzoo.core.geometry import Grid
from promptzoo.core.optional import require
from promptzoo.inference.resample import Window, normalise
from promptzoo.inference.state import EncodedImage

LEAST_MM, MOST_CELLS, FEWEST_CELLS = 5.0, 40, 8
"""Cells of the coarse grid are at least this wide, and at most and at least this many per axis, if the volume has as
many voxels."""


@dataclass(frozen=True, eq=False)
class Coarse:
    """A volume on coarse cells: ``data`` ``[*C]`` in [-1, 1], its ``window`` on the canonical grid."""

    data: np.ndarray
    window: Window
    grid: Grid

    @classmethod
    def of(cls, state: EncodedImage) -> "Coarse":
        """An encoded image, intensities stretched; CT cut to soft tissue and bone."""
        spacing = np.asarray(state.canonical.spacing_mm)
        extent = spacing * state.data.shape
        side = max(LEAST_MM, float(extent.max()) / MOST_CELLS)
        shape = np.maximum(np.ceil(extent / side), np.minimum(state.data.shape, FEWEST_CELLS)).astype(int)
        window = Window.around((np.asarray(state.data.shape) - 1) / 2, state.data.shape, shape.tolist())
        data = np.clip(state.data, -200, 400) if state.hounsfield else state.data
        affine = state.canonical.affine.copy()
        affine[:3, :3] = affine[:3, :3] * np.asarray(window.step)
        affine[:3, 3] = state.canonical.to_world(np.asarray(window.origin))
        return cls(normalise(window.sample(data)), window, Grid(tuple(int(n) for n in shape), affine))

    def image(self, data: np.ndarray | None = None) -> Any:
        """As a SimpleITK image in RAS+ millimetres; ``data`` in the place of the intensities."""
        sitk = require("SimpleITK", "registration")
        image = sitk.GetImageFromArray(np.ascontiguousarray((self.data if data is None else data).T))
        image.SetSpacing([float(s) for s in self.grid.spacing_mm])
        image.SetOrigin([float(v) for v in self.grid.affine[:3, 3]])
        image.SetDirection(self.grid.directions.ravel().tolist())
        return image


@dataclass(frozen=True, eq=False)
class Aligned:
    """A reference laid over a target.

    Args:
        mask: share ``[*C]`` of the reference's structure in the target's coarse cells.
        similarity: correlation of the two images where both are, in [-1, 1].
    """

    mask: np.ndarray
    similarity: float


def align(reference: Coarse, mask: np.ndarray, target: Coarse) -> Aligned:
    """Register by mutual information, from the centres of the images and from those of their masses; the better counts.

    Args:
        reference, target: see :class:`Coarse`.
        mask: share of the structure in the reference's cells.

    Raises:
        MissingDependencyError: without SimpleITK.
    """
    sitk = require("SimpleITK", "registration")
    fixed, moving = target.image(), reference.image()
    kinds = sitk.CenteredTransformInitializerFilter
    best: Aligned | None = None
    for kind in (kinds.GEOMETRY, kinds.MOMENTS):
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 60)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInterpolator(sitk.sitkLinear)
        method.SetShrinkFactorsPerLevel([2, 1])
        method.SetSmoothingSigmasPerLevel([1, 0])
        start = sitk.CenteredTransformInitializer(fixed + 2, moving + 2, sitk.AffineTransform(3), kind)
        method.SetInitialTransform(start, inPlace=False)
        try:
            found = method.Execute(fixed, moving)
        except RuntimeError:  # the images do not overlap any more
            continue
        warped, there, share = (sitk.GetArrayFromImage(sitk.Resample(image, fixed, found, sitk.sitkLinear, 0.0)).T
                                for image in (moving, reference.image(np.ones_like(reference.data)),
                                              reference.image(mask.astype(np.float32))))
        both = there > 0.5
        similar = 0.0
        if both.mean() > 0.2 and min(warped[both].std(), target.data[both].std()) > 1e-3:
            similar = float(np.corrcoef(warped[both], target.data[both])[0, 1])
        if best is None or similar > best.similarity:
            best = Aligned(share, similar)
    return best or Aligned(np.zeros(target.data.shape, np.float32), 0.0)
