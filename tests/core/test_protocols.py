"""Predictions: where an object's region lies, and who owns a voxel claimed twice."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import Engine, ObjectPrediction, Prediction, Predictor

GRID = Grid((4, 3, 1), np.eye(4))


def _object(object_id, offset, rows, **more):
    return ObjectPrediction(object_id, GRID, offset, np.array(rows, np.float32)[..., None], **more)


def _two():
    """Object 3 on rows 0-2, object 7 on rows 1-3; both claim rows 1 and 2 of the middle column."""
    return Prediction(GRID, (_object(3, (0, 0, 0), [[0.9, 0.9], [0.2, 0.7], [0.1, 0.9]]),
                             _object(7, (1, 1, 0), [[0.8, 0.6], [0.6, 0.1], [0.5, 0.4]])))


def test_region_and_mask_lie_at_the_offset():
    entry = _object(1, (1, 1, 0), [[0.5, 0.49], [0.0, 1.0]])
    assert entry.region == (slice(1, 3), slice(1, 3), slice(0, 1))
    assert entry.mask[..., 0].tolist() == [[False] * 3, [False, True, False], [False, False, True], [False] * 3]
    assert entry.full_probability()[..., 0].tolist() == [
        [0, 0, 0], [0, 0.5, pytest.approx(0.49)], [0, 0, 1], [0, 0, 0]]
    assert entry.full_probability().dtype == np.float32


def test_threshold_is_the_objects_own():
    entry = _object(1, (0, 0, 0), [[0.2, 0.4]], threshold=0.3)
    assert entry.mask[0, :, 0].tolist() == [False, True, False]


def test_uncertainty_is_binary_entropy():
    values = _object(1, (0, 0, 0), [[0.5, 0.25, 1.0]]).uncertainty()
    assert values.shape == GRID.shape and values.dtype == np.float32
    assert values[0, 0, 0] == pytest.approx(1.0)
    assert values[0, 1, 0] == pytest.approx(0.25 * 2 + 0.75 * np.log2(4 / 3), abs=1e-6)
    assert values[0, 2, 0] < 1e-4 and values[3, 2, 0] < 1e-4


@pytest.mark.parametrize("rule, expected", [
    ("last", [[3, 3, 0], [0, 7, 7], [0, 7, 0], [0, 7, 0]]),
    ("first", [[3, 3, 0], [0, 3, 7], [0, 3, 0], [0, 7, 0]]),
    ("probability", [[3, 3, 0], [0, 7, 7], [0, 3, 0], [0, 7, 0]]),
])
def test_overlap_rules(rule, expected):
    labels = _two().labelmap(rule)
    assert labels.dtype == np.uint16 and labels[..., 0].tolist() == expected


def test_equal_probability_stays_with_the_first():
    both = Prediction(GRID, (_object(1, (0, 0, 0), [[0.7]]), _object(2, (0, 0, 0), [[0.7]])))
    assert both.labelmap("probability")[0, 0, 0] == 1 and both.labelmap()[0, 0, 0] == 2


def test_unknown_overlap_rule():
    with pytest.raises(PromptZooError, match="overlap rule: got both; allowed: last, first, probability"):
        _two().labelmap("both")


def test_labelmap_leaves_the_predictions_alone():
    two = _two()
    before = [entry.probability.copy() for entry in two.objects]
    two.labelmap("probability")
    for entry, old in zip(two.objects, before):
        np.testing.assert_array_equal(entry.probability, old)


def test_objects_are_found_by_id():
    assert _two()[7].object_id == 7
    with pytest.raises(PromptZooError, match=r"object id: got 4; allowed: \[3, 7\]"):
        _two()[4]


def test_protocols_are_checkable():
    class Net:
        name, precision = "plain", "fp32"

        def __call__(self, *inputs):
            return inputs

    assert isinstance(Net(), Engine) and not isinstance(Net(), Predictor) and not isinstance(object(), Engine)
