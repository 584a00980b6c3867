"""Honest small checks of quality-sentinel (text-universal-seg) on its shipped weights."""
import numpy as np
import pytest

from promptzoo.cli.maintain.text_measures import LARGE, agreement, body, judged
from promptzoo.core.bundles import get_bundle
from promptzoo.inference import load_predictor

NAME, VARIANT = "text_universal_seg", "quality-sentinel"


@pytest.fixture(scope="module")
def predictor():
    return load_predictor(get_bundle(NAME).path, "torch", variant=VARIANT)


@pytest.fixture(scope="module")
def pairs(predictor):
    return list(judged(predictor, [body()], LARGE[:3], 3))


def test_estimates_follow_the_truth(pairs):
    """Masks of liver and lungs of a held-out phantom, damaged ones and the network's answers. Measured: 0.87,
    mean error 0.13."""
    found = agreement(pairs)
    assert found["correlation"] > 0.65 and found["mean error"] < 0.22, found


def test_another_name_lowers_the_estimate(pairs):
    """Masks with a Dice above 0.8. Measured: 0.71 and 0.03."""
    good = [one for one in pairs if one["dice"] > 0.8]
    assert len(good) > 2
    assert np.mean([one["misnamed"] for one in good]) < 0.3 * np.mean([one["estimate"] for one in good]), good
