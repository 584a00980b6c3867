"""Matching of instances by hand."""
import numpy as np
import pytest

from promptzoo.evaluation.instances import f1, match


def test_counts_by_hand():
    wanted = np.zeros((8, 12), int)
    wanted[1:4, 1:4], wanted[1:4, 6:9], wanted[5:8, 1:4] = 1, 2, 3
    found = np.zeros_like(wanted)
    found[1:4, 1:4], found[1:4, 7:10], found[5:7, 6:8] = 5, 7, 9  # exact; 6 of 12 pixels, half and no more; nowhere
    assert match(found, wanted) == (1, 2, 2)
    assert f1([(1, 2, 2)]) == pytest.approx(2 / 6)
    assert match(np.zeros_like(wanted), np.zeros_like(wanted)) == (0, 0, 0) and f1([(0, 0, 0)]) == 1.0


def test_two_halves_are_not_one_object():
    wanted, found = np.ones((4, 4), int), np.ones((4, 4), int)
    found[2:] = 2
    assert match(found, wanted) == (0, 2, 1)


def test_bad_input():
    with pytest.raises(ValueError, match="one shape"):
        match(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="0.5"):
        match(np.zeros((2, 2), int), np.zeros((2, 2), int), 0.3)
