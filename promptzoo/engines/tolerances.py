"""How far a compiled network may differ from torch before it is refused.

The relative L2 bounds are a few times what was measured on convolutional networks and on a SAM image encoder (fp32
1e-4, bf16 1–2 %, int8 2–13 % of the output's norm): far enough to pass on every machine, near enough to catch a wrong
graph, whose error is of order 1. Whether a precision is *good* enough is a question of Dice on data, answered by
:mod:`promptzoo.engines.precision`.
"""
from __future__ import annotations

from dataclasses import dataclass

from promptzoo.core.errors import EngineError, complain


@dataclass(frozen=True)
class Tolerance:
    """Bounds of one parity check.

    Args:
        relative_l2: largest ``|got - wanted| / |wanted|`` (Euclidean norms over one output).
        mask_flips_frac: largest fraction of a mask output's elements that change sides of the threshold (logit 0).

    Raises:
        EngineError: if a bound is negative or not a number.
    """

    relative_l2: float
    mask_flips_frac: float

    def __post_init__(self) -> None:
        if not (self.relative_l2 >= 0 and self.mask_flips_frac >= 0):
            raise EngineError(complain("parity tolerance", (self.relative_l2, self.mask_flips_frac), "numbers >= 0"))


TOLERANCES: dict[str, Tolerance] = {
    "fp32": Tolerance(relative_l2=1e-3, mask_flips_frac=1e-3),  # only the order of summation differs
    "fp16": Tolerance(relative_l2=2e-2, mask_flips_frac=1e-2),  # 11-bit mantissa
    "bf16": Tolerance(relative_l2=6e-2, mask_flips_frac=2e-2),  # 8-bit mantissa
    "int8": Tolerance(relative_l2=2.5e-1, mask_flips_frac=5e-2),  # quantised weights and activations
}


def tolerance_for(precision: str) -> Tolerance:
    """The bounds of ``precision``.

    Raises:
        EngineError: for a precision without bounds.
    """
    try:
        return TOLERANCES[precision]
    except KeyError:
        raise EngineError(complain("unknown precision", precision, ", ".join(TOLERANCES))) from None
