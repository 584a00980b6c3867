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
