"""The protocol ``anchors``: one prompt on one slice of a volume."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.geometry import Grid, Reorientation
from promptzoo.evaluation.anchors import STEPS, anchor_prompts, reading_axis
from promptzoo.evaluation.protocols import run_case

from .conftest import Oracle, disk_case

SHAPE = (24, 20, 18)


@pytest.fixture(scope="module")
def case():
    """An ellipsoid, largest on slice 9."""
    return disk_case(SHAPE, (12, 10, 9), (7, 5, 6))


def test_prompts_lie_on_the_largest_slice_and_on_five(case):
    given = anchor_prompts(case.mask, case.grid)
    assert tuple(given) == STEPS
    (click,), (box,), many = given.values()
    assert case.mask[tuple(int(v) for v in click.position)] and click.position[2] == 9
    at = np.argwhere(case.mask[..., 9])
    assert box.low == (*at.min(0), 9) and box.high == (*(at.max(0) + 1), 10)
    occupied = np.flatnonzero(case.mask.any((0, 1)))
    levels = [int(b.low[2]) for b in many]
    assert len(levels) == 5 and (levels[0], levels[-1]) == (occupied[0], occupied[-1])


def test_the_reading_axis_is_axial_or_the_coarse_one():
    grid = Grid(SHAPE, np.eye(4))
    assert reading_axis(grid) == 2 and reading_axis(Grid(SHAPE, np.diag([1, 3, 1, 1]))) == 1
    assert reading_axis(Reorientation((2, 0, 1), (True, False, True)).grid(grid)) == 0


def test_every_step_starts_anew_and_asks_for_the_volume(case):
    class Asked(Oracle):
        """Remembers what it was asked."""

        sets: list = []

        def decode(self, state, prompts, previous=None):
            self.sets.append((prompts, previous))
            return super().decode(state, prompts, previous)

    predictor = Asked()
    trial, = run_case(case, predictor, "anchors")
    assert trial.steps == list(STEPS) and [len(prompts) for prompts, _ in predictor.sets] == [1, 1, 5]
    assert all(prompts.through_slices and previous is None for prompts, previous in predictor.sets)


def test_pictures_have_no_slices_to_carry_through():
    flat = disk_case()
    with pytest.raises(PromptZooError, match="an object in a volume"):
        anchor_prompts(flat.mask, flat.grid)
