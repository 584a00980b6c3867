"""Simulated annotators: where prompts go, and that every draw comes from the generator given."""
import random

import numpy as np
import pytest

from promptzoo.core.errors import PromptError
from promptzoo.prompts.simulators import boxes, clicks, lassos, masks, scribbles, strokes

INSIDE_FRAC, THIN_INSIDE_FRAC = 0.95, 0.85
"""Share of a positive stroke's pixels inside the object; pens of up to three pixels go over the border of thin ones."""


def ball(shape, centre, radius):
    """``[*shape]`` bool."""
    return sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre)) <= radius ** 2


def ring():
    """A flat object that is hard to draw in: a ring of 8 pixels with a gap."""
    mask = ball((48, 48), (22, 25), 18) & ~ball((48, 48), (22, 25), 10)
    mask[:, 24:27] &= np.arange(48)[:, None] > 22
    return mask


SHAPES = {
    "disk": ball((40, 44), (17, 20), 11),
    "ring": ring(),
    "line": np.pad(np.ones((1, 20), bool), 6),
    "corner": ball((30, 30), (0, 0), 9),
    "one pixel": ball((9, 9), (4, 3), 0),
    "whole": np.ones((12, 10), bool),
    "ball": ball((20, 22, 24), (9, 10, 12), 7),
    "rod": np.pad(np.ones((1, 1, 12), bool), 3),
    "one voxel": ball((7, 8, 9), (5, 1, 4), 0),
    "border voxel": ball((7, 8, 9), (6, 0, 4), 0),
}


@pytest.fixture(params=SHAPES)
def mask(request):
    """Every shape."""
    return SHAPES[request.param]


DRAWS = {
    "next_click": lambda m, rng: clicks.next_click(m, np.zeros_like(m), rng),
    "jittered": lambda m, rng: boxes.jittered(*boxes.tight(m), m.shape, 0.3, rng),
    "human_like": scribbles.human_like,
    "corrective": lambda m, rng: scribbles.corrective(m, np.zeros_like(m), rng),
    "loose_region": lassos.loose_region,
    "disturbed": masks.disturbed,
}
FLAT_DRAWS = {
    "around": lambda m, rng: lassos.around(m, 2.0, 1.5, rng),
    "along_level": lambda m, rng: strokes.along_level(clicks.depth(m), 3.0, 12.0, rng),
    "along_skeleton": lambda m, rng: strokes.along_skeleton(m, 12.0, rng),
    "across": lambda m, rng: strokes.across(m, 12.0, rng),
    "wobble": lambda m, rng: strokes.wobble(np.argwhere(m).astype(float), 1.0, rng),
    "inside_stroke": lambda m, rng: strokes.inside_stroke(m, 12.0, rng),
}


def same(first, second):
    """Whether two answers hold the same bits."""
    if isinstance(first, tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second))
    return np.array_equal(first, second)


def check_seeds(draw, mask):
    """Same seed, same result, whatever the global generators hold; other seeds differ; globals are not used up."""
    before_mask = mask.copy()
    np.random.seed(1)
    random.seed(1)
    first = draw(mask, np.random.default_rng(5))
    state = np.random.get_state()[1].copy(), random.getstate()
    np.random.seed(2)
    random.seed(2)
    assert same(draw(mask, np.random.default_rng(5)), first)
    np.random.seed(1)
    random.seed(1)
    np.testing.assert_array_equal(np.random.get_state()[1], state[0])
    assert random.getstate() == state[1]
    assert any(not same(draw(mask, np.random.default_rng(seed)), first) for seed in range(6, 12))
    np.testing.assert_array_equal(mask, before_mask)


@pytest.mark.parametrize("shape", ["ring", "ball"])
@pytest.mark.parametrize("name", DRAWS)
def test_seeds(name, shape):
    check_seeds(DRAWS[name], SHAPES[shape])


@pytest.mark.parametrize("name", FLAT_DRAWS)
def test_seeds_of_single_strokes(name):
    check_seeds(FLAT_DRAWS[name], SHAPES["ring"])


# Clicks

def test_depth_counts_the_array_border_as_outside():
    assert clicks.depth(np.ones((3, 5), bool)).tolist() == [[1] * 5, [1, 2, 2, 2, 1], [1] * 5]
    assert clicks.depth(np.ones((3, 5), bool), (10.0, 1.0))[1].tolist() == [1, 2, 3, 2, 1]


def test_centre_with_isotropic_spacing_lies_in_the_thick_part():
    """A T: a bar of 5 rows, and a stem of 3 columns; stretched along the columns the stem is deeper."""
    part = np.zeros((40, 40), bool)
    part[2:7, 2:38] = True
    part[7:38, 18:21] = True
    none = np.zeros_like(part)
    at, positive = clicks.centre_of_largest_error(part, none, (1.0, 1.0))
    assert at[0] in (4, 5) and positive
    at, _ = clicks.centre_of_largest_error(part, none, (0.6, 5.0))
    assert at[1] == 19 and at[0] > 7


def test_centre_of_a_block_in_millimetres():
    """3 x 9 x 9 voxels of 4 x 1 x 1 mm, not at a border: the deepest voxels are 5 mm from the sides along j and k."""
    missed = np.zeros((9, 15, 15), bool)
    missed[3:6, 2:11, 4:13] = True
    at, positive = clicks.centre_of_largest_error(missed, np.zeros_like(missed), (4.0, 1.0, 1.0))
    assert at.tolist() == [4, 6, 8] and positive
    assert clicks.depth(missed, (4.0, 1.0, 1.0)).max() == 5.0
    assert clicks.depth(missed, (1.0, 1.0, 1.0)).max() == 2.0


def test_sign_is_that_of_the_clicked_voxel():
    missed, wrong = np.zeros((2, 20, 20), bool)
    missed[2:5, 2:5] = True
    wrong[8:15, 8:15] = True
    at, positive = clicks.centre_of_largest_error(missed, wrong)
    assert at.tolist() == [11, 11] and not positive
    at, positive = clicks.centre_of_largest_error(wrong, missed)
    assert at.tolist() == [11, 11] and positive


def test_most_voxels_win_not_the_deepest_part():
    missed = np.zeros((30, 60), bool)
    missed[2, 2:55] = True  # 53 voxels, 1 deep
    missed[10:17, 10:17] = True  # 49 voxels, 4 deep
    assert clicks.centre_of_largest_error(missed, np.zeros_like(missed))[0][0] == 2


def test_components_are_joined_over_corners():
    mask = np.zeros((20, 20, 6), bool)
    mask[1:4, 1:4, 1] = mask[4:7, 4:7, 2] = True  # 9 + 9, touching at a corner
    mask[12:16, 12:16, 4] = True  # 16
    found = clicks.largest_component(mask)
    assert found.sum() == 18 and found[1, 1, 1] and found[6, 6, 2] and not found[13, 13, 4]
    flat = np.eye(5, dtype=bool)
    np.testing.assert_array_equal(clicks.largest_component(flat), flat)


def test_largest_component_of_nothing_is_nothing():
    assert not clicks.largest_component(np.zeros((4, 4), bool)).any()


def test_no_error_no_click(mask):
    none, rng = np.zeros_like(mask), np.random.default_rng(0)
    assert clicks.centre_of_largest_error(none, none) is None
    assert clicks.next_click(none, none, rng) is None
    assert scribbles.corrective(mask, mask, rng) is None


def test_clicks_hit_the_error(mask):
    none = np.zeros_like(mask)
    for missed, wrong, sign in ((mask, none, True), (none, mask, False)):
        at, positive = clicks.centre_of_largest_error(missed, wrong)
        assert mask[tuple(at)] and positive is sign
        for seed in range(8):
            at, positive = clicks.next_click(missed, wrong, np.random.default_rng(seed))
            assert mask[tuple(at)] and positive is sign


def test_noisy_click_is_as_deep_as_asked():
    mask = SHAPES["disk"]
    depth = clicks.depth(mask)
    for seed in range(20):
        at, _ = clicks.next_click(mask, np.zeros_like(mask), np.random.default_rng(seed), 1, 0.8)
        assert depth[tuple(at)] >= 0.8 * depth.max()


def test_error_thinner_than_the_stride_is_found():
    missed = np.zeros((20, 20), bool)
    missed[4, 4:16] = True  # stride 2 looks at odd rows only
    at, positive = clicks.next_click(missed, np.zeros_like(missed), np.random.default_rng(0), stride=2)
    assert missed[tuple(at)] and positive


# Boxes

def test_boxes_are_half_open_and_tight(mask):
    low, high = boxes.tight(mask)
    inside = tuple(slice(a, b) for a, b in zip(low, high))
    assert mask[inside].sum() == mask.sum()
    for axis in range(mask.ndim):
        assert np.take(mask[inside], [0], axis).any() and np.take(mask[inside], [-1], axis).any()


def test_one_voxel_box_is_one_voxel():
    low, high = boxes.tight(SHAPES["one voxel"])
    assert low.tolist() == [5, 1, 4] and high.tolist() == [6, 2, 5]


def test_mid_slice_box_by_hand():
    mask = np.zeros((20, 20, 12), bool)
    mask[2:18, 3:16, 2] = True
    mask[8:11, 9:12, 3:8] = True  # occupied slices 2 … 7, the middle one of six is 5
    low, high = boxes.mid_slice(mask)
    assert (low.tolist(), high.tolist()) == ([8, 9, 2], [11, 12, 8])
    low, high = boxes.mid_slice(mask, axis=0)  # rows 2 … 17, the middle one is 10
    assert (low.tolist(), high.tolist()) == ([2, 3, 2], [18, 16, 8])


def test_mid_slice_skips_empty_slices():
    mask = np.zeros((9, 9, 9), bool)
    mask[4, 4, 0] = mask[2:5, 3:6, 8] = True
    low, high = boxes.mid_slice(mask)
    assert (low.tolist(), high.tolist()) == ([2, 3, 0], [5, 6, 9])


def test_moved_boxes_by_hand():
    low, high = np.array([5, 5]), np.array([10, 12])
    found = boxes.moved(low, high, (20, 20), np.array([[-2.4, 1.6], [3.0, -1.0]]))
    assert [v.tolist() for v in found] == [[3, 7], [13, 11]]
    found = boxes.moved(low, high, (20, 20), np.array([[-99.0, 9.0], [99.0, -9.0]]))
    assert [v.tolist() for v in found] == [[0, 8], [20, 9]]  # crossed sides become one voxel between them


@pytest.mark.parametrize("sigma", [0.05, 0.3, 3.0])
def test_jittered_boxes_stay_valid_and_inside(mask, sigma):
    for seed in range(20):
        low, high = boxes.jittered(*boxes.tight(mask), mask.shape, sigma, np.random.default_rng(seed))
        assert (low >= 0).all() and (low < high).all() and (high <= mask.shape).all()


def test_jitter_is_a_fraction_of_the_size():
    low, high = np.array([400, 400]), np.array([500, 600])
    shifts = np.array([boxes.jittered(low, high, (1000, 1000), 0.05, np.random.default_rng(s))[0] - low
                       for s in range(400)])
    np.testing.assert_allclose(shifts.std(0), (5, 10), rtol=0.15)


def test_enlarged_boxes_by_hand():
    low, high = np.array([10, 4]), np.array([20, 8])
    assert [v.tolist() for v in boxes.enlarged(low, high, (40, 10), 0.5)] == [[5, 2], [25, 10]]
    assert [v.tolist() for v in boxes.enlarged(low, high, (40, 10), -0.25)] == [[12, 5], [18, 7]]
    shrunk = boxes.enlarged(low, high, (40, 10), -3.0)
    assert (shrunk[0] < shrunk[1]).all()


# Scribbles

def _valid(points, mask):
    assert points.ndim == 2 and points.shape[1] == mask.ndim
    assert (points == np.rint(points)).all() and (points >= 0).all() and (points < mask.shape).all()
    return tuple(points.astype(int).T)


def test_scribbles_lie_on_the_right_side(mask):
    thick = any(mask is SHAPES[name] for name in ("disk", "whole"))
    inside = total = 0
    for seed in range(12):
        positive, negative = scribbles.human_like(mask, np.random.default_rng(seed))
        at = _valid(positive, mask)
        inside, total = inside + mask[at].sum(), total + len(positive)
        if len(negative):
            assert not mask[_valid(negative, mask)].any()
    if mask.sum() > 50:
        assert inside >= (INSIDE_FRAC if thick else THIN_INSIDE_FRAC) * total > 0


@pytest.mark.parametrize("name", [n for n in SHAPES if SHAPES[n].ndim == 2])
def test_the_middle_of_the_pen_stays_inside(name):
    mask = SHAPES[name]
    for seed in range(10):
        line = strokes.inside_stroke(mask, 15.0, np.random.default_rng(seed))
        assert len(line) and mask[tuple(np.rint(line).astype(int).T)].all()


@pytest.mark.parametrize("name", list(SHAPES))
def test_positive_scribbles_are_never_empty(name):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert len(scribbles.human_like(SHAPES[name], rng)[0])
        assert len(scribbles.corrective(SHAPES[name], np.zeros_like(SHAPES[name]), rng)[0])


def test_negative_strokes_are_usual_where_there_is_room():
    counts = [len(scribbles.human_like(SHAPES["disk"], np.random.default_rng(s))[1]) > 0 for s in range(30)]
    assert np.mean(counts) > 0.8
    assert all(not len(scribbles.human_like(SHAPES["whole"], np.random.default_rng(s))[1]) for s in range(10))


def test_scribbles_have_human_lengths():
    """Median length over the root of the area, counted in pixels of thin strokes, near the 2.9 of people."""
    mask = ball((96, 96), (48, 48), 24)
    found = [len(scribbles.human_like(mask, np.random.default_rng(s))[0]) / np.sqrt(mask.sum()) for s in range(60)]
    assert 1.5 < np.median(found) < 9  # pens are up to three pixels wide


@pytest.mark.parametrize("shape", ["ball", "rod", "one voxel"])
def test_scribbles_in_3d_are_on_one_slice(shape):
    mask = SHAPES[shape]
    for seed in range(10):
        positive, negative = scribbles.human_like(mask, np.random.default_rng(seed))
        both = np.concatenate([positive, negative])
        assert np.ptp(both, axis=0).min() == 0
        stroke, sign = scribbles.corrective(mask, np.zeros_like(mask), np.random.default_rng(seed))
        assert np.ptp(stroke, axis=0).min() == 0 and sign is True


def test_corrective_strokes_go_through_the_larger_error():
    truth, mask = np.zeros((2, 40, 40), bool)
    truth[2:20, 2:20] = True
    mask[14:36, 14:36] = True
    for seed in range(10):
        points, positive = scribbles.corrective(truth, mask, np.random.default_rng(seed))
        error = mask & ~truth
        assert positive is False and error[_valid(points, mask)].mean() > 0.6
        points, positive = scribbles.corrective(mask, truth, np.random.default_rng(seed))
        assert positive is True and error[_valid(points, mask)].any()


def test_wobble_leaves_short_lines_alone():
    line, rng = np.array([[1.0, 2.0], [3.0, 4.0]]), np.random.default_rng(0)
    assert strokes.wobble(line, 5.0, rng) is line and strokes.wobble(np.zeros((9, 2)), 0.0, rng).sum() == 0


def test_thick_by_hand():
    assert strokes.thick(np.array([[2.4, 2.0]]), 0, (5, 5)).tolist() == [[2, 2]]
    cross = strokes.thick(np.array([[0.0, 0.0]]), 1, (5, 5))
    assert cross.tolist() == [[0, 0], [0, 1], [1, 0]]  # cut at the array's border
    assert len(strokes.thick(np.array([[2.0, 2.0]]), 1.5, (5, 5))) == 9
    assert strokes.thick(np.zeros((0, 2)), 2, (5, 5)).shape == (0, 2)


def test_level_that_does_not_exist_gives_an_empty_stroke():
    assert strokes.along_level(np.zeros((8, 8)), 3.0, 5.0, np.random.default_rng(0)).shape == (0, 2)


# Lassos

def test_lasso_holds_most_of_the_object(mask):
    for seed in range(8):
        region = lassos.loose_region(mask, np.random.default_rng(seed))
        assert region.shape == mask.shape and region.dtype == np.float32 and set(np.unique(region)) <= {0, 1}
        if mask.ndim == 2:
            assert (region > 0)[mask].mean() > 0.6
        else:
            assert np.ptp(np.argwhere(region), axis=0).min() == 0


def test_lasso_around_a_disk_keeps_the_margin():
    mask = ball((40, 40), (20, 20), 6)
    region = lassos.around(mask, 3.0, 0.0, np.random.default_rng(0)) > 0
    np.testing.assert_array_equal(region & mask, mask)
    far = np.argwhere(region) - 20
    assert 8 <= np.linalg.norm(far, axis=1).max() < 9.5


def test_outline_by_hand():
    region = np.zeros((6, 6))
    region[2:4, 1:5] = 1
    line = lassos.outline(region)
    assert line.shape == (12, 2) and len(np.unique(line, axis=0)) == 12
    assert line.min(0).tolist() == [1.5, 0.5] and line.max(0).tolist() == [3.5, 4.5]
    assert lassos.outline(np.ones((3, 3))).min() == -0.5  # at the array's border it goes round


# Previous masks

def test_changed_masks_by_hand():
    mask = np.zeros((11, 11), bool)
    mask[3:8, 2:9] = True
    down = np.array([1.0, 0.0])
    assert masks.changed(mask, "eroded", 1.0, down).sum() == 3 * 5
    assert masks.changed(mask, "dilated", 1.0, down).sum() == 35 + 2 * (5 + 7)
    shifted = masks.changed(mask, "shifted", 2.0, down)
    assert shifted[5:10, 2:9].all() and shifted.sum() == 35
    assert masks.changed(mask, "shifted", 5.0, down).sum() == 3 * 7  # rows 8 … 10 stay in the array
    cut = masks.changed(mask, "cut", 0.25, down)
    assert cut[3:6, 2:9].all() and cut.sum() == 21  # rows up to a quarter of the reach below the centre row 5
    holed = masks.changed(mask, "holed", 0.0, down)
    assert not holed[5, 5] and holed[3, 2] and 0 < holed.sum() < 35
    for kind in masks.KINDS:
        assert masks.changed(mask, kind, 0.5, down).dtype == bool


def test_erosion_counts_the_border_as_outside():
    assert masks.changed(np.ones((5, 5), bool), "eroded", 1.0, np.array([1.0, 0])).sum() == 9


@pytest.mark.parametrize("kind", masks.KINDS)
def test_changing_nothing_gives_nothing(kind):
    none = np.zeros((4, 5, 6), bool)
    assert not masks.changed(none, kind, 0.5, np.array([0, 0, 1.0])).any()


def test_disturbed_masks_are_never_empty_and_differ(mask):
    different = 0
    for seed in range(10):
        found = masks.disturbed(mask, np.random.default_rng(seed))
        assert found.any() and found.shape == mask.shape and found.dtype == bool
        different += not np.array_equal(found, mask)
    assert different >= 5 or mask.sum() < 20


# Empty objects

@pytest.mark.parametrize("draw, message", [
    (lambda m, rng: boxes.tight(m), "box around an empty mask: got no voxel; allowed: at least one voxel"),
    (lambda m, rng: boxes.mid_slice(m), "box around an empty mask"),
    (scribbles.human_like, "scribble on an empty mask: got no voxel"),
    (lassos.loose_region, "lasso around an empty mask: got no voxel"),
])
@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_empty_objects(draw, message, shape):
    with pytest.raises(PromptError, match=message):
        draw(np.zeros(shape, bool), np.random.default_rng(0))


def test_empty_object_has_no_disturbed_mask():
    assert not masks.disturbed(np.zeros((5, 5), bool), np.random.default_rng(0)).any()
