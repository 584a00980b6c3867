"""Tokens and dense maps of SAM-like networks."""
import numpy as np
import pytest

from promptzoo.prompts.encoders import WindowPrompts
from promptzoo.prompts.encoders.tokens import (
    CORNER_HIGH,
    CORNER_LOW,
    DENSE_CHANNELS,
    NEGATIVE,
    PADDING,
    POSITIVE,
    TOKENS,
    sam_prompt,
)

IMAGE = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)


def channel(told, name):
    """A dense map by name."""
    return told.dense[DENSE_CHANNELS.index(name)]


def test_a_box_is_two_corners_column_first():
    told = sam_prompt(WindowPrompts(2, box=(np.array([9.5, 19.5]), np.array([29.5, 59.5]))), IMAGE)
    assert told.points[:2].tolist() == [[19.5, 9.5], [59.5, 29.5]]
    assert told.labels[:3].tolist() == [CORNER_LOW, CORNER_HIGH, PADDING] and not told.ambiguous
    assert told.dense.shape == (12, 32, 32)
    assert channel(told, "box")[5:15, 10:30].min() == 1.0 and channel(told, "box").sum() == 200


def test_one_click_is_ambiguous():
    told = sam_prompt(WindowPrompts(2, positive=np.array([[3.0, 7.0]])), IMAGE)
    assert told.ambiguous and told.points[0].tolist() == [7.0, 3.0] and told.labels[0] == POSITIVE
    assert np.unravel_index(channel(told, "point+").argmax(), (32, 32)) == (1, 3)
    two = sam_prompt(WindowPrompts(2, positive=np.array([[3.0, 7.0]]), negative=np.array([[9.0, 9.0]])), IMAGE)
    assert not two.ambiguous and two.labels[:2].tolist() == [POSITIVE, NEGATIVE]


def test_previous_masks_strokes_and_lassos_are_dense():
    previous = np.zeros((64, 64), np.float32)
    previous[8:16] = 1.0
    lasso = np.zeros((64, 64), np.float32)
    lasso[32:40, :8], lasso[48:56, :8] = 1.0, -1.0
    told = sam_prompt(WindowPrompts(2, scribble_positive=np.array([[20.0, 20.0], [24.0, 20.0]]),
                                    scribble_negative=np.array([[60.0, 60.0]]), lasso=lasso, previous=previous), IMAGE)
    assert channel(told, "previous")[4:8].min() == 1.0 and channel(told, "previous").sum() == 4 * 32
    assert channel(told, "lasso")[16, 0] == 1.0 and channel(told, "lasso")[24, 0] == -1.0
    assert channel(told, "scribble+")[10, 10] == channel(told, "scribble-")[30, 30] == 1.0
    assert not told.ambiguous


@pytest.mark.parametrize("count", [TOKENS, TOKENS + 1, 60])
def test_of_many_clicks_the_first_and_the_last_stay(count):
    clicks = np.stack([np.arange(count), np.arange(count)], 1).astype(np.float32)
    told = sam_prompt(WindowPrompts(2, positive=clicks), IMAGE)
    assert (told.labels == POSITIVE).all()
    assert told.points[0, 0] == 0 and told.points[-1, 0] == count - 1


def test_a_box_outside_the_window_ends_at_its_border():
    told = sam_prompt(WindowPrompts(2, box=(np.array([-40.0, 10.0]), np.array([30.0, 900.0]))), IMAGE)
    assert told.points[:2].tolist() == [[10.0, -0.5], [63.5, 30.0]]


def test_tokens_of_a_volume_are_in_the_order_of_its_axes():
    """Axis order (i, j, k), corners of the 3D box, and dense maps of half the resolution."""
    image = np.zeros((32, 32, 32), np.float32)
    box = (np.array([3.5, 9.5, 1.5]), np.array([11.5, 29.5, 7.5]))
    told = sam_prompt(WindowPrompts(3, positive=np.array([[4.0, 20.0, 6.0]]), box=box), image)
    assert told.points.shape == (16, 3) and told.dense.shape == (12, 16, 16, 16)
    assert told.points[:3].tolist() == [[3.5, 9.5, 1.5], [11.5, 29.5, 7.5], [4.0, 20.0, 6.0]]
    assert told.labels[:4].tolist() == [2, 3, 1, -1]
    peak = np.unravel_index(told.dense[DENSE_CHANNELS.index("point+")].argmax(), (16, 16, 16))
    assert peak == (2, 10, 3)
    coverage = told.dense[DENSE_CHANNELS.index("box")]
    assert coverage[3, 8, 2] == 1 and coverage[2, 3, 8] == 0
