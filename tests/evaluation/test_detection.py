"""Average precision of boxes on cases whose value is known."""
import numpy as np
import pytest

from promptzoo.evaluation.detection import average_precision

TWO = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40]])
NONE = (np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))


def test_perfect_missing_and_half():
    truth = [(TWO, np.array([0, 1]))]
    assert average_precision([(TWO, [0, 1], [0.9, 0.8])], truth, ["a", "b"])["AP"] == pytest.approx(1)
    assert average_precision([NONE], truth, ["a", "b"])["AP50"] == 0
    half = average_precision([(TWO[:1], [0], [0.9])], truth, ["a", "b", "never there"])
    assert half["AP50"] == pytest.approx(0.5) and half["a AP50"] == pytest.approx(1) and half["b AP50"] == 0
    assert "never there AP" not in half


def test_a_false_box_before_the_right_one_halves_precision():
    found = [(np.array([[50.0, 50, 60, 60], [0, 0, 10, 10]]), [0, 0], [0.9, 0.8])]
    assert average_precision(found, [(TWO[:1], [0])], ["a"])["AP50"] == pytest.approx(0.5, abs=0.01)


def test_a_loose_box_counts_at_a_loose_overlap_only():
    found = [(np.array([[0.0, 0, 10, 16]]), [0], [0.9])]  # IoU 0.625 with the first
    scores = average_precision(found, [(TWO[:1], [0])], ["a"])
    assert scores["AP50"] == pytest.approx(1) and scores["AP75"] == 0 and scores["AP"] == pytest.approx(0.3, abs=0.01)


def test_pictures_without_any_truth():
    assert average_precision([NONE], [(np.zeros((0, 4)), np.zeros(0, int))], ["a"])["AP"] == 0
