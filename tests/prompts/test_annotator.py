"""The simulated annotator: simulators as prompts on an image's grid."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.prompts import PromptSet
from promptzoo.prompts.simulators import clicks
from promptzoo.prompts.simulators.annotator import BOX_KINDS, AnnotatorStyle, SimulatedAnnotator

GRID = Grid((24, 30, 16), np.diag([1.0, 1.0, 3.0, 1.0]))
FLAT = Grid((24, 30, 1), GRID.affine)


def _rng(seed=0):
    return np.random.default_rng(seed)


def _ball(grid=GRID):
    centre = (11, 14, 8 if grid is GRID else 0)
    return sum(((g - c) * s) ** 2 for g, c, s in zip(np.indices(grid.shape), centre, grid.spacing_mm)) <= 64


def _corner(grid=GRID):
    mask = np.zeros(grid.shape, bool)
    mask[-4:, :5, -3:] = True
    return mask


def _voxel(grid=GRID):
    mask = np.zeros(grid.shape, bool)
    mask[23, 0, -1] = True
    return mask


ASK = {
    "first_click": lambda a, t, rng: a.first_click(t, rng),
    "next_click": lambda a, t, rng: a.next_click(t, np.zeros_like(t), rng),
    "tight": lambda a, t, rng: a.box(t, "tight", rng),
    "jittered": lambda a, t, rng: a.box(t, "jittered", rng),
    "enlarged": lambda a, t, rng: a.box(t, "enlarged", rng),
    "mid-slice": lambda a, t, rng: a.box(t, "mid-slice", rng),
    "scribbles": lambda a, t, rng: a.scribbles(t, rng),
    "lasso": lambda a, t, rng: a.lasso(t, rng),
    "mask": lambda a, t, rng: a.mask(t, rng),
}
RANDOM = ("first_click", "next_click", "jittered", "scribbles", "lasso", "mask")


@pytest.mark.parametrize("grid", [GRID, FLAT], ids=["volume", "slice"])
@pytest.mark.parametrize("truth", [_ball, _corner, _voxel])
@pytest.mark.parametrize("name", ASK)
def test_prompts_are_usable_on_the_image(name, truth, grid):
    annotator = SimulatedAnnotator(grid, object_id=3)
    for rng in [_rng(seed) for seed in range(4)] + ([] if name == "jittered" else [None]):
        answer = ASK[name](annotator, truth(grid), rng)
        prompts = PromptSet(answer if isinstance(answer, tuple) else (answer,))
        assert len(prompts) and all(p.object_id == 3 for p in prompts.prompts)
        assert all(p.kind == "mask" or p.space == "voxel" for p in prompts.prompts)
        assert all(p.positive for p in prompts.prompts[:1] if p.kind != "box" and p.kind != "mask")
        prompts.check_on(grid)
        prompts.to_world(grid).check_on(grid)


@pytest.mark.parametrize("name", ASK)
def test_seeds(name):
    annotator, truth = SimulatedAnnotator(GRID), _ball()
    np.random.seed(1)
    first = ASK[name](annotator, truth, _rng(5))
    state = np.random.get_state()[1].copy()
    np.random.seed(2)
    assert ASK[name](annotator, truth, _rng(5)) == first
    np.random.seed(1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    others = [ASK[name](annotator, truth, _rng(seed)) != first for seed in range(6, 12)]
    assert any(others) == (name in RANDOM)


def test_clicks_without_a_generator_are_exact_in_millimetres():
    """A block of 9 x 9 x 5 voxels of 1 x 1 x 3 mm: depth is bounded by 5 mm in-plane, which slices 1 … 3 reach."""
    truth = np.zeros(GRID.shape, bool)
    truth[4:13, 6:15, 5:10] = True
    annotator = SimulatedAnnotator(GRID)
    click = annotator.first_click(truth)
    assert click.position[:2] == (8, 10) and click.position[2] in (6, 7, 8) and click.positive
    wrong = truth.copy()
    wrong[15:24, 15:30] = True
    click = annotator.next_click(truth, wrong)
    assert not click.positive and wrong[tuple(int(p) for p in click.position)]
    assert annotator.next_click(truth, truth) is None and annotator.next_click(truth, truth, _rng()) is None


def test_the_faces_of_the_only_slice_are_no_border():
    truth = np.zeros(FLAT.shape, bool)
    truth[4:13, 6:15] = True
    assert SimulatedAnnotator(FLAT).first_click(truth).position == (8, 10, 0)


def test_noisy_clicks_stay_in_the_error_and_as_deep_as_asked():
    truth = _ball()
    depth = clicks.depth(truth, GRID.spacing_mm)
    deep = SimulatedAnnotator(GRID, AnnotatorStyle(click_depth_frac=0.8))
    slipping = SimulatedAnnotator(GRID, AnnotatorStyle(click_depth_frac=1.0, click_slip_mm=4.0))
    seen = set()
    for seed in range(30):
        at = tuple(int(p) for p in deep.first_click(truth, _rng(seed)).position)
        assert depth[at] >= 0.8 * depth.max()
        at = tuple(int(p) for p in slipping.first_click(truth, _rng(seed)).position)
        assert truth[at]
        seen.add(at)
    assert len(seen) > 15


def test_boxes_by_hand():
    truth = np.zeros(GRID.shape, bool)
    truth[4:14, 6:16, 3:8] = True
    truth[4:20, 6:16, 3] = True
    annotator = SimulatedAnnotator(GRID, AnnotatorStyle(box_grow_frac=0.5))
    tight = annotator.box(truth)
    assert (tight.low, tight.high) == ((4, 6, 3), (20, 16, 8))
    middle = annotator.box(truth, "mid-slice")
    assert (middle.low, middle.high) == ((4, 6, 3), (14, 16, 8))
    large = annotator.box(truth, "enlarged")
    assert (large.low, large.high) == ((0, 1, 0), (24, 21, 10))  # cut at the image, halves rounded to even


def test_drawings_without_a_generator_lie_on_the_fullest_slice():
    for axis, index in ((2, 8), (0, 11)):
        annotator = SimulatedAnnotator(GRID, AnnotatorStyle(slice_axis=axis))
        (scribble,), lasso = annotator.scribbles(_ball()), annotator.lasso(_ball())
        assert (scribble.points[:, axis] == index).all() and (lasso.points[:, axis] == index).all()
        assert _ball()[tuple(scribble.points.astype(int).T)].all()
    assert annotator.mask(_ball()).mask.sum() == _ball().sum()


@pytest.mark.parametrize("name", ASK)
def test_empty_objects_and_foreign_masks(name):
    annotator = SimulatedAnnotator(GRID)
    if name == "next_click":
        assert annotator.next_click(np.zeros(GRID.shape), np.zeros(GRID.shape)) is None
    else:
        with pytest.raises(PromptError, match="prompt for an empty object: got no voxel; allowed: at least one voxel"):
            ASK[name](annotator, np.zeros(GRID.shape, bool), _rng())
    with pytest.raises(PromptError, match=r"mask does not fit the grid: got \[2, 3\]; allowed: \(24, 30, 16\)"):
        ASK[name](annotator, np.zeros((2, 3), bool), _rng())


def test_unusable_boxes_and_styles():
    with pytest.raises(PromptError, match="simulated box: got round; allowed: tight, jittered, enlarged, mid-slice"):
        SimulatedAnnotator(GRID).box(_ball(), "round", _rng())
    with pytest.raises(PromptError, match="simulated box: got jittered; .*Give a generator"):
        SimulatedAnnotator(GRID).box(_ball(), "jittered")
    for wrong in ({"click_depth_frac": 1.5}, {"click_slip_mm": -1}, {"box_sigma_frac": -0.1}):
        with pytest.raises(PromptError, match="annotator style: got .*a depth in 0 … 1 and deviations from 0 on"):
            AnnotatorStyle(**wrong)
    with pytest.raises(PromptError, match="annotator slice axis: got 3; allowed: 0, 1 or 2"):
        AnnotatorStyle(slice_axis=3)
    assert BOX_KINDS == ("tight", "jittered", "enlarged", "mid-slice")
