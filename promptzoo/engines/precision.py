"""The fastest precision that costs no Dice: what goes into a bundle's ``promptzoo.precision``."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from promptzoo.core.errors import EngineError, PromptZooError, complain

MAX_DICE_LOSS = 0.005
REFERENCE = "fp32"


@dataclass(frozen=True)
class PrecisionChoice:
    """A measured choice.

    Args:
        precision: the one to use.
        dice: mean Dice of each precision that was scored.
        latency_ms: latency of each candidate.
        refused: why each faster candidate was not taken.
    """

    precision: str
    dice: Mapping[str, float]
    latency_ms: Mapping[str, float]
    refused: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``docs/results.json``; the metadata gets ``precision`` alone."""
        return {"precision": self.precision, "dice": dict(self.dice), "latency_ms": dict(self.latency_ms),
                "refused": dict(self.refused)}


def choose_precision(
    score: Callable[[str], float], latency_ms: Mapping[str, float], max_loss: float = MAX_DICE_LOSS
) -> PrecisionChoice:
    """Pick the fastest precision whose mean Dice is less than ``max_loss`` below that of fp32.

    Candidates are scored from the fastest on until the first good one, because scoring is a bench run.
    A candidate slower than fp32 is never scored.

    Args:
        score: mean Dice in [0, 1] of the bundle run in a precision; may raise a ``PromptZooError`` if it cannot run.
        latency_ms: p50 latency of each candidate, ``fp32`` among them.
        max_loss: Dice that may be lost, exclusive.

    Raises:
        EngineError: if ``fp32`` is missing, its score is not a number in [0, 1], or a latency is not positive.
    """
    if REFERENCE not in latency_ms:
        raise EngineError(complain("latencies", sorted(latency_ms), f"{REFERENCE} and at least one other precision"))
    if not all(math.isfinite(v) and v > 0 for v in latency_ms.values()):
        raise EngineError(complain("latencies in ms", dict(latency_ms), "positive numbers"))
    best = score(REFERENCE)
    if not 0 <= best <= 1:
        raise EngineError(complain(f"mean Dice in {REFERENCE}", best, "a number from 0 to 1"))
    dice: dict[str, float] = {REFERENCE: best}
    refused: dict[str, str] = {}
    for precision in sorted(latency_ms, key=lambda p: (latency_ms[p], p != REFERENCE)):
        if precision == REFERENCE:
            return PrecisionChoice(REFERENCE, dice, latency_ms, refused)
        try:
            dice[precision] = score(precision)
        except PromptZooError as error:
            refused[precision] = str(error)
            continue
        loss = best - dice[precision]
        if loss < max_loss:  # False for NaN
            return PrecisionChoice(precision, dice, latency_ms, refused)
        refused[precision] = f"loses {loss:.4f} Dice, allowed less than {max_loss}"
    raise AssertionError("fp32 is among the candidates")  # pragma: no cover
