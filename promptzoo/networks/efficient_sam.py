"""A :class:`promptzoo.networks.sam.PromptableSam` with a light image encoder, distilled from the heavier one.

Prompt encoder, mask decoder and what they are fed stay those of the base, so every prompt means the same.
"""
from __future__ import annotations

from typing import Any, Mapping

from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.students import LightPyramid


class EfficientSam(PromptableSam):
    """SAM-like promptable network for 2D windows with a light encoder.

    Args:
        student: arguments of :class:`promptzoo.networks.students.LightPyramid`.
        base: arguments of :class:`promptzoo.networks.sam.PromptableSam`; its encoder's widths are of no use here.

    Raises:
        BundleError: for sizes that do not fit.
        MissingDependencyError: without ``transformers``.
    """

    def __init__(self, student: Mapping[str, Any] | None = None, hidden: int = 128, fine: int = 12,
                 **base: Any) -> None:
        super().__init__(hidden=hidden, fine=fine, **base)
        self.image_encoder = LightPyramid(**{"hidden": hidden, "fine": fine, **(student or {})})
