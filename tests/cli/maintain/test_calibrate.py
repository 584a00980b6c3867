"""The calibration of estimated Dice."""
import numpy as np
import pytest

from promptzoo.cli.maintain.calibrate import fit
from promptzoo.core.errors import BundleError


def test_fit_recovers_an_increasing_map():
    rng = np.random.default_rng(0)
    estimated = rng.uniform(0, 1, 2000)
    true = np.clip(estimated ** 2 + rng.normal(0, 0.05, 2000), 0, 1)
    found = fit(estimated, true)
    assert found["estimated"] == sorted(found["estimated"]) and found["dice"] == sorted(found["dice"])
    for at in (0.2, 0.5, 0.8):  # knots average over ninths of the data: 0.03 covers the curvature within one
        assert np.interp(at, found["estimated"], found["dice"]) == pytest.approx(at ** 2, abs=0.03)


def test_fit_of_estimates_that_say_nothing_is_flat():
    rng = np.random.default_rng(1)
    found = fit(rng.uniform(0, 1, 500), np.full(500, 0.7))
    assert np.ptp(found["dice"]) < 1e-6 and found["dice"][0] == pytest.approx(0.7)


def test_fit_needs_enough_pairs():
    with pytest.raises(BundleError, match="pairs to calibrate on: got 3; allowed: at least 50"):
        fit([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
