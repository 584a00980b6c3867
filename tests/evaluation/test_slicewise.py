"""The slice-wise adapter of 2D predictors."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation.protocols import run_case
from promptzoo.evaluation.slicewise import SliceWise, _routes
from promptzoo.prompts.types import Point, PromptSet


class Threshold:
    """A 2D predictor: bright pixels inside the box, or the bright part around a click; one slice only."""

    name = "threshold"
    prompt_kinds = frozenset({"point", "box"})

    def __init__(self):
        self.calls = []

    def encode(self, volume):
        if volume.grid.shape[2] != 1:
            raise RuntimeError("one slice, please")
        return volume

    def decode(self, state, prompts, previous=None):
        from scipy.ndimage import label

        from promptzoo.core.protocols import ObjectPrediction, Prediction
        self.calls.append((prompts, previous))
        bright, mask = state.data > 0.5, np.zeros(state.grid.shape, bool)
        if previous is not None:
            mask |= previous.objects[0].mask
        local = prompts.to_voxel(state.grid)
        for box in local.of("box"):
            sides = zip(np.round(box.low[:2]).astype(int), np.round(box.high[:2]).astype(int))
            region = tuple(slice(max(0, a - 2), b + 2) for a, b in sides)
            mask[region] |= bright[region]
        labels = label(bright)[0]
        for point in local.of("point"):
            place = tuple(int(round(v)) for v in point.position)
            part = labels == labels[place] if bright[place] else np.zeros_like(mask)
            mask = mask | part if point.positive else mask & False
        return Prediction(state.grid, (ObjectPrediction(1, state.grid, (0, 0, 0), mask.astype(np.float32), 0.5),))


CASES = [((24, 22, 18), (11, 10, 9), (8, 7, 6), (1, 1, 2)), ((24, 18, 22), (11, 9, 10), (8, 6, 7), (1, 3, 1))]


@pytest.mark.parametrize("shape, center, radii, spacing", CASES)
@pytest.mark.parametrize("protocol", ["clicks", "box+clicks"])
def test_one_prompt_fills_the_volume(shape, center, radii, spacing, protocol, make_case):
    trial, = run_case(make_case(shape, center, radii, spacing), SliceWise(Threshold()), protocol, 1)
    assert trial.dice[0] > 0.95
    assert trial.estimated_dice[0] == 0.5


def test_carrying_stops_at_the_range_of_the_box(make_case):
    case = make_case((24, 22, 18), (11, 10, 9), (8, 7, 60), (1, 1, 2))  # a rod through all slices
    case.mask[..., :4] = case.mask[..., 14:] = False
    trial, = run_case(case, SliceWise(Threshold()), "box")
    assert trial.mask.any((0, 1)).tolist() == case.mask.any((0, 1)).tolist()


def test_carrying_stops_where_the_object_ends(make_case):
    case = make_case((24, 22, 18), (11, 10, 9), (8, 7, 5), (1, 1, 2))
    trial, = run_case(case, SliceWise(Threshold()), "clicks", 1)
    assert trial.mask.any((0, 1)).sum() <= case.mask.any((0, 1)).sum()


def test_second_click_warm_starts_its_slice_only(make_case):
    case, inner = make_case((24, 22, 18), (11, 10, 9), (8, 7, 6), (1, 1, 2)), Threshold()
    tool = SliceWise(inner)
    state = tool.encode(case.volume)
    one = PromptSet((Point((11, 10, 9), True, 1, "voxel"),)).to_world(case.grid)
    first = tool.decode(state, one)
    inner.calls.clear()
    negative = Point(tuple(case.grid.to_world((11, 10, 12))), False)
    second = tool.decode(state, one.adding(negative), first)
    own = [(p, warm) for p, warm in inner.calls if p.of("point")]
    assert len(own) == 1 and own[0][1] is not None  # slice 9 is left alone
    assert not second[1].mask[..., 12].any() and second[1].mask[..., 9].any()
    replay = SliceWise(Threshold())
    again = replay.decode(replay.encode(case.volume), one.adding(negative), first)
    assert np.array_equal(again[1].mask, second[1].mask)


def test_routes_meet_halfway():
    assert _routes([4, 8], (0, 10)) == [(4, -1, -1), (4, 1, 7), (8, -1, 6), (8, 1, 10)]
    assert _routes([3], (2, 6)) == [(3, -1, 1), (3, 1, 6)]


def test_needs_boxes(oracle):
    with pytest.raises(PromptZooError, match="takes boxes"):
        SliceWise(oracle(kinds=frozenset({"point"})))
