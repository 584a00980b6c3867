"""Scenes of torsos that are all imaged in one way."""
from __future__ import annotations

from typing import Any

import numpy as np

from promptzoo.core.errors import PromptZooError, complain
from promptzoo.training.anatomy_scenes import POOL, SCENES_PER_BODY, AnatomyScenes
from promptzoo.training.anatomy_sources import Source, imaged

IMAGINGS = ("ct", "pet", "lacking")
USUAL_SHARE = 0.35
"""Of the scenes, where organs are lacking, that are as those of :class:`AnatomyScenes`."""


class ImagedScenes(AnatomyScenes):
    """Scenes as those of :class:`AnatomyScenes`, of torsos in PET, in CT with findings in their organs, or of which
    many lack organs.

    Args:
        imaging: ``pet``, ``ct`` or ``lacking``.
        given: arguments of :class:`AnatomyScenes`; phantoms alone.

    Raises:
        PromptZooError: for another kind of image.
    """

    def __init__(self, imaging: str, **given: Any) -> None:
        if imaging not in IMAGINGS:
            raise PromptZooError(complain("imaging", imaging, ", ".join(IMAGINGS)))
        super().__init__(**given)
        self.imaging = imaging

    def source(self, index: int, rng: np.random.Generator) -> Source:
        """The body of a scene."""
        if self.imaging == "lacking" and rng.random() < USUAL_SHARE:
            return super().source(index, rng)
        number = index // SCENES_PER_BODY + POOL - int(rng.integers(POOL))
        return imaged(self.imaging, (1_000_003 * self.seed + number) % 2 ** 31)
