"""Dice against the noise of prompts, on a predictor whose answer is known."""
import numpy as np
import pytest

from promptzoo.core.seeding import generator
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.noise import SHIFTS, box_iou, noise_curves, shifted_box


def test_box_iou_by_hand():
    first, second = ((0, 0, 0), (4, 4, 1)), ((2, 0, 0), (6, 4, 1))
    assert box_iou(first, first) == 1 and box_iou(first, second) == pytest.approx(1 / 3)
    assert box_iou(first, ((9, 9, 0), (10, 10, 1))) == 0


def test_boxes_move_by_the_level_in_the_plane_only(make_case):
    case, rng = make_case(), generator(0, 0)
    low, high = shifted_box(case, 0.0, rng)
    a, b = shifted_box(case, 0.2, rng)
    assert np.array_equal(np.abs(a - low)[:2], np.rint(0.2 * (high - low))[:2]) and a[2] == low[2] and b[2] == high[2]


def test_curves_of_an_oracle_fall_with_the_shift(folder, oracle):
    listed = Datalist.read(folder / "list.csv", match="square", max_components=3)
    for row in listed.rows:  # the oracle reads the truth from the image
        listed._images(row.image).data[:] = listed._mask(row)[0]
    found = noise_curves(listed, {"one": oracle(reach=4), "other": oracle(reach=8)}, seed=1)
    curve = found["dice"]["one"]["all"]
    assert found["n"] == 1 and len(curve) == len(SHIFTS) and curve[0] > curve[2] > curve[4] > 0
    assert found["dice"]["other"]["all"] == curve, "both are given the same boxes"
    assert found["click"]["other"]["all"] > found["click"]["one"]["all"]
    assert list(found["box_iou"]) == ["given"] and found["box_iou"]["given"][0] == 1
    assert found == noise_curves(listed, {"one": oracle(reach=4), "other": oracle(reach=8)}, seed=1)
