"""Simulated priors of Khor CTV: a target inside the object, a structure to avoid beside it."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.training.context import SimulatedContext, inner_part, region_beside


def ball(dims=3, side=32, centre=14, radius=7):
    return ((np.indices((side,) * dims) - centre) ** 2).sum(0) < radius ** 2


@pytest.mark.parametrize("dims", [2, 3])
def test_target_is_a_part(dims):
    truth = ball(dims)
    for seed in range(8):
        part = inner_part(truth, generator(seed))
        assert part.any() and not (part & ~truth).any() and part.sum() < truth.sum()


@pytest.mark.parametrize("dims", [2, 3])
def test_avoid_is_beside(dims):
    truth, near = ball(dims), ball(dims, radius=17)
    for seed in range(8):
        region = region_beside(truth, generator(seed))
        assert not (region & truth).any() and (region & near).any()


def test_odd_objects():
    """Nothing, one voxel at the border, and everything."""
    for truth in (np.zeros((8, 8), bool), np.eye(1, 64, dtype=bool).reshape(8, 8), np.ones((8, 8), bool)):
        part, region = inner_part(truth, generator(0)), region_beside(truth, generator(0))
        assert part.any() == truth.any() and not (part & ~truth).any() and not (region & truth).any()


def test_channels_and_dropout():
    truth, draws = ball(), generator(3)
    both = np.array([[c.any() for c in SimulatedContext(dropout=0.5)(truth, draws)] for _ in range(60)])
    assert 0.3 < both[:, 0].mean() < 0.7 and 0.3 < both[:, 1].mean() < 0.7
    assert abs(np.corrcoef(both.T)[0, 1]) < 0.4  # each is left out by itself
    assert not SimulatedContext(dropout=1.0)(truth, draws).any()
    kept = SimulatedContext(("target",), dropout=0.0)(truth, draws)
    assert kept.shape == (1, 32, 32, 32) and kept.dtype == np.float32 and kept.any()


def test_same_generator_same_context():
    one, other = (SimulatedContext(dropout=0.0)(ball(), generator(5)) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("arguments", [(("liver",), 0.5), (("target",), 1.5)])
def test_unusable(arguments):
    with pytest.raises(PromptZooError, match="simulated priors"):
        SimulatedContext(*arguments)
