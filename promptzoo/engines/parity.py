"""Comparison of a compiled network with the torch module that it came from."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from promptzoo.core.seeding import generator
from promptzoo.engines.tolerances import Tolerance

SCORE_VALUES = 8
"""An output with so few values per item is a score: near zero its relative error says nothing, the absolute does."""


@dataclass(frozen=True)
class Parity:
    """Result of one comparison.

    Args:
        relative_l2: per output, ``|got - wanted| / |wanted|``; for scores (at most ``SCORE_VALUES`` per item) the
            denominator is at least 1 per value; infinite if shapes differ or a value is not finite.
        mask_flips_frac: per output, the fraction of elements on the other side of 0; None where the output is no mask.
        tolerance: the bounds that were asked for.
        problem: what is wrong, empty if the comparison passed.
    """

    relative_l2: tuple[float, ...]
    mask_flips_frac: tuple[float | None, ...]
    tolerance: Tolerance
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether every output lies within the tolerance."""
        return not self.problem

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an infinite error becomes None."""
        return {
            "relative_l2": [e if math.isfinite(e) else None for e in self.relative_l2],
            "mask_flips_frac": list(self.mask_flips_frac),
            "tolerance": {"relative_l2": self.tolerance.relative_l2, "mask_flips_frac": self.tolerance.mask_flips_frac},
            "passed": self.passed,
            "problem": self.problem,
        }


def parity_inputs(example: Sequence[np.ndarray], more_batch: bool) -> list[np.ndarray]:
    """Inputs for a comparison, made from the example.

    A constant array (all zeros, say) exercises nothing, and a normalisation layer turns its rounding noise into signal:
    it is replaced by seeded normal noise.

    Args:
        example: float32 arrays ``[B, ...]``.
        more_batch: append a mirrored copy of the first item, so that a batch size frozen by the exporter shows up.
            Ignored unless all inputs have the same batch size.

    Returns:
        Float32 arrays ``[B, ...]`` or ``[B + 1, ...]``.
    """
    arrays = []
    for index, array in enumerate(example):
        constant = array.size > 1 and float(np.ptp(array)) == 0.0
        noise = generator(index).standard_normal(array.shape, dtype=np.float32) if constant else array
        arrays.append(np.ascontiguousarray(noise, dtype=np.float32))
    if more_batch and len({a.shape[0] for a in arrays}) == 1:
        arrays = [np.concatenate([a, a[:1, ..., ::-1] if a.ndim > 1 else a[:1]]) for a in arrays]
    return arrays


def compare(
    wanted: Sequence[np.ndarray], got: Sequence[np.ndarray], tolerance: Tolerance, mask_outputs: Sequence[int] = (0,)
) -> Parity:
    """Compare outputs with those of torch.

    Args:
        wanted: torch's outputs, float32.
        got: the compiled network's outputs in the same order.
        tolerance: bounds.
        mask_outputs: which outputs are mask logits (threshold 0) and are also compared after thresholding.

    Returns:
        A :class:`Parity`; differing counts, shapes and non-finite values are failures, not exceptions.
    """
    if len(wanted) != len(got):
        return Parity((), (), tolerance, f"{len(got)} outputs instead of {len(wanted)}")
    errors: list[float] = []
    flips: list[float | None] = []
    problem = ""
    for index, (a, b) in enumerate(zip(wanted, got)):
        is_mask = index in mask_outputs
        if a.shape != b.shape or not np.isfinite(b).all():
            errors.append(math.inf)
            flips.append(1.0 if is_mask else None)
            problem = problem or (f"output {index} has shape {b.shape} instead of {a.shape}" if a.shape != b.shape
                                  else f"output {index} has values that are not finite")
            continue
        norm = _scale(a)
        distance = float(np.linalg.norm(a.astype(np.float64) - b))
        errors.append(distance / norm if norm > 0 else (0.0 if distance == 0 else math.inf))
        flips.append(float(np.mean((a > 0) != (b > 0))) if is_mask else None)
        if errors[-1] > tolerance.relative_l2:
            excess = f"differs by {errors[-1]:.3g} (relative L2), allowed {tolerance.relative_l2:.3g}"
            problem = problem or f"output {index} {excess}"
        if is_mask and flips[-1] > tolerance.mask_flips_frac:  # type: ignore[operator]
            problem = problem or (f"{flips[-1]:.3%} of output {index}'s thresholded elements differ, allowed "
                                  f"{tolerance.mask_flips_frac:.3%}")
    return Parity(tuple(errors), tuple(flips), tolerance, problem)


def _scale(wanted: np.ndarray) -> float:
    """What an error is measured against: the output's norm, for scores at least 1 per value."""
    norm = float(np.linalg.norm(wanted.astype(np.float64)))
    per_item = wanted.size / max(1, wanted.shape[0] if wanted.ndim else 1)
    return max(norm, float(np.sqrt(wanted.size))) if per_item <= SCORE_VALUES else norm
