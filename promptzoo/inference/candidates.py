"""The masks that a SAM-like decoder offers for one prompt, and which of them is answered.

Kirillov et al., "Segment Anything", ICCV 2023, section 3 ("resolving ambiguity"): several masks per prompt, each with a
predicted IoU; the one predicted best is the answer.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from promptzoo.core.errors import BundleError, complain
from promptzoo.inference.looks import as_chance, keep_promises
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window

SELECTIONS = ("predicted", "mean", "first")
"""Rules that need no reference: the candidate of best predicted IoU, the mean of all, the first one."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidate masks on one window.

    Args:
        window: where they lie.
        chances: probabilities ``[C, *S]`` float32.
        ious: predicted IoU ``[C]``.
        logits: ``[C, *s]`` as the decoder gave them, for their stability.
    """

    window: Window
    chances: np.ndarray
    ious: np.ndarray
    logits: np.ndarray

    @classmethod
    def of(cls, window: Window, logits: np.ndarray, ious: np.ndarray, prompts: ObjectPrompts) -> "Candidates":
        """Candidates from logits ``[C, *s]`` of any resolution, made to obey the clicks of ``prompts``."""
        chances = np.stack([keep_promises(as_chance(enlarged(one, window.shape)), prompts, window) for one in logits])
        return cls(window, chances, np.asarray(ious, dtype=np.float64), logits)

    def pick(self, rule: str) -> tuple[np.ndarray, float]:
        """Probability ``[*S]`` and predicted IoU of the answer under a rule of :data:`SELECTIONS`.

        Raises:
            BundleError: for another rule.
        """
        check_selection(rule)
        if rule == "mean":
            return self.chances.mean(0, dtype=np.float32), float(self.ious.mean())
        best = int(self.ious.argmax()) if rule == "predicted" else 0
        return self.chances[best], float(self.ious[best])


def check_selection(rule: str) -> str:
    """``rule`` if it is one of :data:`SELECTIONS`.

    Raises:
        BundleError: otherwise.
    """
    if rule not in SELECTIONS:
        raise BundleError(complain("selection of candidates", rule, ", ".join(SELECTIONS)))
    return rule


def enlarged(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``[*s]`` values on a window of more pixels ``shape``, linear, with pixel centres where they belong."""
    steps = [n / m for n, m in zip(shape, values.shape)]
    return Window(tuple((step - 1) / 2 for step in steps), tuple(steps), values.shape).restore(values, shape)[1]
