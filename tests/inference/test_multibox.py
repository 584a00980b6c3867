"""Many boxes around one: how they are drawn, and what their agreement says."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError
from promptzoo.inference.multibox import MultiBox, agreement_of

BOX = (np.array([10.0, 20.0]), np.array([30.0, 60.0]))


def test_the_given_box_is_among_them_and_the_draw_is_repeatable():
    boxes = MultiBox(boxes=12, noise=0.1).around(BOX)
    again = MultiBox(boxes=12, noise=0.1).around(BOX)
    assert len(boxes) == 12 and boxes[0] is BOX
    assert all(np.array_equal(a, b) for one, other in zip(boxes, again) for a, b in zip(one, other))
    shifts = np.array([[low - BOX[0], high - BOX[1]] for low, high in boxes[1:]])
    assert 1.0 < shifts[:, :, 0].std() < 3.5 and 2.0 < shifts[:, :, 1].std() < 7.0, "in proportion to the sides"
    assert all((high > low).all() for low, high in boxes)


def test_moves_change_one_face_each():
    moves = MultiBox(move=0.1).moves(BOX)
    changed = [np.flatnonzero(np.concatenate([low, high]) != np.concatenate(BOX)) for low, high in moves]
    assert len(moves) == 8 and all(len(faces) == 1 for faces in changed)


def test_agreement_is_the_mean_pairwise_dice():
    first, second = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    first[:2], second[1:3] = True, True
    assert agreement_of(np.stack([first, first])) == 1.0
    assert agreement_of(np.stack([first, second])) == pytest.approx(0.5)
    assert agreement_of(np.stack([first, first, second])) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert agreement_of(np.zeros((3, 4, 4), bool)) == 1.0


@pytest.mark.parametrize("wrong", [{"boxes": 1}, {"noise": -0.1}, {"refine": -1}])
def test_settings_that_cannot_be(wrong):
    with pytest.raises(BundleError, match="multi-box settings"):
        MultiBox(**wrong)
