"""What the comparison with torch sees."""
import json

import numpy as np
import pytest

from promptzoo.core.errors import EngineError
from promptzoo.engines import TOLERANCES, Tolerance
from promptzoo.engines.parity import compare, parity_inputs
from promptzoo.engines.tolerances import tolerance_for

LOOSE = Tolerance(0.1, 0.01)
RNG = np.random.default_rng(0)


def test_equal_passes():
    a = RNG.normal(size=(1, 1, 8, 8)).astype(np.float32)
    parity = compare([a], [a.copy()], LOOSE)
    assert parity.passed and parity.relative_l2 == (0.0,) and parity.mask_flips_frac == (0.0,)


@pytest.mark.parametrize("spoil, problem", [
    (lambda a: a * 1.2, "differs by 0.2"),
    (lambda a: a[:, :, :4], "has shape"),
    (lambda a: np.where(a == a.max(), np.nan, a), "not finite"),
    (lambda a: np.where(a == a.max(), np.inf, a), "not finite"),
    (lambda a: -a, "differs by 2"),
])
def test_differences_are_named(spoil, problem):
    a = RNG.normal(size=(1, 1, 8, 8)).astype(np.float32)
    parity = compare([a], [spoil(a)], LOOSE)
    assert not parity.passed and problem in parity.problem
    json.dumps(parity.to_dict(), allow_nan=False)


def test_number_of_outputs():
    assert "1 outputs instead of 2" in compare([np.ones(3)] * 2, [np.ones(3)], LOOSE).problem


def test_masks_are_compared_after_thresholding():
    a = np.full((1, 1, 10, 10), 1e-3, np.float32)
    a[..., :5] = -5
    flipped = a - 2e-3
    assert "50.000%" in compare([a], [flipped], LOOSE).problem
    assert compare([a], [flipped], LOOSE, mask_outputs=()).passed


def test_scores_near_zero_are_measured_absolutely():
    assert compare([np.array([[0.001]])], [np.array([[0.003]])], LOOSE, ()).passed
    assert not compare([np.array([[0.8]])], [np.array([[0.5]])], LOOSE, ()).passed
    small = np.full((1, 64), 1e-3)
    assert not compare([small], [small * 3], LOOSE, ()).passed, "an embedding is no score"


def test_zero_output_must_stay_zero():
    zero = np.zeros((1, 1, 8, 8))
    assert compare([zero], [zero], LOOSE).passed
    assert not compare([zero], [zero + 1e-9], LOOSE).passed


def test_constant_examples_become_noise_and_the_batch_grows():
    image = RNG.normal(size=(1, 2, 4)).astype(np.float32)
    zeros, flat = np.zeros((1, 3), np.float32), np.ones(1, np.float32)
    first, second, third = parity_inputs([image, zeros, flat], more_batch=True)
    assert first.shape == (2, 2, 4) and second.shape == (2, 3) and third.shape == (2,)
    np.testing.assert_array_equal(first[:1], image)
    assert np.ptp(second) > 0 and not np.array_equal(first[0], first[1])
    again = parity_inputs([image, zeros, flat], more_batch=True)
    np.testing.assert_array_equal(second, again[1])


def test_unequal_batches_are_left_alone():
    arrays = parity_inputs([np.eye(2, dtype=np.float32), np.ones((1, 3), np.float32)], more_batch=True)
    assert [a.shape for a in arrays] == [(2, 2), (1, 3)]


def test_tolerances_grow_as_precision_falls():
    order = [TOLERANCES[p] for p in ("fp32", "fp16", "bf16", "int8")]
    for a, b in zip(order, order[1:]):
        assert a.relative_l2 < b.relative_l2 and a.mask_flips_frac < b.mask_flips_frac
    assert tolerance_for("bf16") is TOLERANCES["bf16"]


def test_tolerance_errors():
    with pytest.raises(EngineError, match="got fp8; allowed: fp32, fp16, bf16, int8"):
        tolerance_for("fp8")
    with pytest.raises(EngineError, match="parity tolerance"):
        Tolerance(float("nan"), 0.0)
