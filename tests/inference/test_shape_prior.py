"""What a box alone says of the shape."""
import numpy as np
import pytest

from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.shape_prior import box_logits

NONE = np.zeros((0, 2))
WINDOW = Window((0.0, 10.0), (1.0, 1.0), (40, 40))


def given(**fields):
    """Prompts with a box of 20 x 10 pixels around the middle of the window."""
    box = (np.array([9.5, 24.5]), np.array([29.5, 34.5]))
    return ObjectPrompts(**{"positive": NONE, "negative": NONE, "box": box, "scribble_positive": NONE,
                            "scribble_negative": NONE, **fields})


def test_the_shape_fills_the_box():
    logits = box_logits(given(), WINDOW, 3.0)
    assert logits.shape == (40, 40) and logits.max() <= 3.0 and logits.min() == -3.0
    at = np.argwhere(logits > 0) + [0, 10]
    assert at.min(0).tolist() == [10, 25] and at.max(0).tolist() == [29, 34]
    assert 0.785 <= len(at) / 200 <= 0.95  # more of the box than the ellipse, less than all of it


@pytest.mark.parametrize("more", [{"box": None}, {"lassos": ((np.zeros((3, 2)), True),)},
                                  {"scribble_positive": np.ones((2, 2))}, {"scribble_negative": np.ones((2, 2))}])
def test_other_prompts_tell_the_shape_better(more):
    assert box_logits(given(**more), WINDOW, 3.0) == 0.0


def test_clicks_take_over():
    tops = [float(box_logits(given(positive=np.full((n, 2), 20.0)), WINDOW, 4.0).max()) for n in range(4)]
    assert tops[0] == tops[1] and np.allclose(tops[1:], [tops[1], tops[1] / 2, tops[1] / 4])


def test_no_strength_no_prior():
    assert box_logits(given(), WINDOW, 0.0) == 0.0
