"""Prompt channels of network windows, pixel by pixel."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError
from promptzoo.prompts.encoders import PROMPT_CHANNELS, WindowPrompts, prompt_maps
from promptzoo.prompts.encoders.maps import POINT_SIGMA_PX, REACH_SIGMA_FRAC

FLOAT32_TOLERANCE = 1e-6
SHAPE = (20, 24)


def draw(name, shape=SHAPE, image=None, **prompts):
    """One channel of a window with the prompts given."""
    image = np.zeros(shape, np.float32) if image is None else image
    arrays = {k: np.array(v, float) if k not in ("box", "lasso", "previous") else v for k, v in prompts.items()}
    maps = prompt_maps(WindowPrompts(len(shape), **arrays), image)
    assert maps.shape == (len(PROMPT_CHANNELS), *shape) and maps.dtype == np.float32
    assert np.abs(maps).max() <= 1
    return maps[PROMPT_CHANNELS.index(name)]


def box(low, high):
    """Faces of a box."""
    return np.array(low, float), np.array(high, float)


@pytest.mark.parametrize("shape", [SHAPE, (9, 10, 11)])
def test_no_prompt_gives_empty_channels(shape):
    maps = prompt_maps(WindowPrompts(len(shape)), np.zeros(shape, np.float32))
    assert not maps.any()
    none = np.zeros((0, len(shape)))
    assert not prompt_maps(WindowPrompts(len(shape), none, none, None, none, none), np.zeros(shape, np.float32)).any()


@pytest.mark.parametrize("name, other, field", [
    ("point+", "point-", "positive"), ("point-", "point+", "negative")])
def test_click_is_a_gaussian_of_peak_one_at_its_pixel(name, other, field):
    clicks = draw(name, **{field: [(6, 9)]})
    assert np.argwhere(clicks == 1).tolist() == [[6, 9]]
    for distance in (1, 2, 5):
        expected = np.exp(-distance ** 2 / (2 * POINT_SIGMA_PX ** 2))
        for at in ((6 + distance, 9), (6, 9 - distance)):
            assert clicks[at] == pytest.approx(expected, abs=FLOAT32_TOLERANCE)
    assert clicks[6 + 8, 9] == 0  # cut beyond three deviations
    assert not draw(other, **{field: [(6, 9)]}).any()


def test_click_between_pixels():
    clicks = draw("point+", positive=[(6.5, 9)])
    assert clicks[6, 9] == clicks[7, 9] == pytest.approx(np.exp(-0.25 / (2 * POINT_SIGMA_PX ** 2)))


def test_clicks_add_by_maximum():
    clicks = draw("point+", positive=[(6, 9), (6, 11)])
    assert clicks[6, 9] == clicks[6, 11] == 1
    assert clicks[6, 10] == pytest.approx(np.exp(-1 / (2 * POINT_SIGMA_PX ** 2)))


def test_click_beyond_the_window_shows_its_flank_only():
    assert draw("point+", positive=[(-2, 9)])[0, 9] == pytest.approx(np.exp(-4 / (2 * POINT_SIGMA_PX ** 2)))
    assert not draw("point+", positive=[(-40, 9)]).any()


def test_reach_has_the_clicks_sign_and_width():
    sigma = REACH_SIGMA_FRAC * 24
    reach = draw("reach", positive=[(3, 3)], negative=[(16, 20)])
    assert reach[3, 3] > 0.9 and reach[16, 20] < -0.9
    assert draw("reach", positive=[(6, 9)])[6, 12] == pytest.approx(np.exp(-9 / (2 * sigma ** 2)))
    assert draw("reach", positive=[(6, 9)], negative=[(6, 9)])[6, 9] == 0
    assert draw("reach", negative=[(6, 9)]).max() == 0


def test_box_over_whole_pixels():
    cover = draw("box", box=box((2.5, 4.5), (7.5, 8.5)))
    expected = np.zeros(SHAPE)
    expected[3:8, 5:9] = 1
    np.testing.assert_array_equal(cover, expected)


def test_box_covers_parts_of_pixels():
    cover = draw("box", box=box((3.0, 4.5), (7.5, 8.25)))
    assert cover[3, 5] == 0.5 and cover[4, 5] == 1 and cover[4, 8] == 0.75 and cover[3, 8] == 0.375
    assert draw("box", box=box((3.0, 4.0), (3.25, 4.25)))[3, 4] == pytest.approx(1 / 16)
    assert draw("box", box=box((-9, -9), (40, 40))).min() == 1


def test_box_in_3d():
    cover = draw("box", (8, 9, 10), box=box((1.5, 2.5, 3.5), (3.5, 6.5, 4.0)))
    assert cover[2:4, 3:7, 4].tolist() == [[0.5] * 4] * 2 and cover.sum() == 4


def test_ellipse_level_is_one_in_the_middle_and_zero_at_the_faces():
    """A box with centre (8, 10) and half sides 4 and 6, whose faces lie on pixel centres."""
    level = draw("box_shape", box=box((4, 4), (12, 16)))
    assert level[8, 10] == 1
    assert level[4, 10] == level[12, 10] == level[8, 4] == level[8, 16] == 0
    assert level[6, 10] == 0.75 and level[8, 13] == 0.75 and level[6, 13] == 0.5
    assert level[4, 4] == -1 and level[0, 0] == -1
    ball = draw("box_shape", (11, 11, 11), box=box((1, 2, 3), (9, 8, 7)))
    assert ball[5, 5, 5] == 1 and ball[1, 5, 5] == ball[5, 8, 5] == ball[5, 5, 3] == 0


def test_strokes_are_one_with_half_neighbours():
    stroke = draw("scribble+", scribble_positive=[(5, 5), (5, 6.4), (5, 7)])
    assert np.argwhere(stroke == 1).tolist() == [[5, 5], [5, 6], [5, 7]]
    assert sorted(map(tuple, np.argwhere(stroke == 0.5))) == [
        (4, 5), (4, 6), (4, 7), (5, 4), (5, 8), (6, 5), (6, 6), (6, 7)]
    assert not draw("scribble-", scribble_positive=[(5, 5)]).any()
    assert draw("scribble-", scribble_negative=[(5, 5)])[5, 5] == 1


def test_strokes_at_and_beyond_the_border():
    stroke = draw("scribble+", scribble_positive=[(0, 0), (-1, 4), (50, 2)])
    assert stroke[0, 0] == 1 and stroke.sum() == 2


def test_strokes_in_3d():
    stroke = draw("scribble+", (7, 7, 7), scribble_positive=[(3, 3, 3)])
    assert stroke[3, 3, 3] == 1 and stroke.sum() == 1 + 6 * 0.5


def test_dense_prompts_are_passed_on():
    previous, lasso = np.random.default_rng(0).random((2, *SHAPE)).astype(np.float32)
    lasso = lasso * 2 - 1
    np.testing.assert_array_equal(draw("previous", previous=previous), previous)
    np.testing.assert_array_equal(draw("lasso", lasso=lasso), lasso)


# Appearance

def halves(level=0.8):
    """A window that is dark on the left, bright on the right."""
    image = np.full(SHAPE, -level, np.float32)
    image[:, 12:] = level
    return image


@pytest.mark.parametrize("prompts", [
    {"positive": [(10, 20)]}, {"scribble_positive": [(5, 20), (6, 20), (7, 21)]}, {"box": box((3, 15), (12, 21))}],
    ids=["click", "stroke", "box"])
@pytest.mark.parametrize("name", ["like+", "like_coarse+"])
def test_appearance_is_high_where_intensities_agree_with_the_prompt(name, prompts):
    like = draw(name, image=halves(), **prompts)
    assert like[:, 18:].min() == pytest.approx(1, abs=FLOAT32_TOLERANCE) and like[:, :8].max() < 0.01


def test_appearance_of_negative_prompts_and_of_the_outside_of_a_box():
    like = draw("like-", image=halves(), negative=[(10, 3)])
    assert like[:, :10].min() == pytest.approx(1, abs=FLOAT32_TOLERANCE) and like[:, 15:].max() < 0.01
    like = draw("like-", image=halves(), box=box((-0.5, 11.5), (19.5, 23.5)))
    assert like[:, :10].min() == pytest.approx(1, abs=FLOAT32_TOLERANCE) and like[:, 15:].max() < 0.05
    assert not draw("like-", image=halves(), positive=[(10, 20)]).any()


def test_clicks_tell_of_the_appearance_before_the_box_does():
    """A box over both halves, a click in the bright one: only bright pixels look like the object."""
    like = draw("like+", image=halves(), box=box((2, 2), (17, 21)), positive=[(10, 20)])
    assert like[:, :8].max() < 0.01


# Errors

@pytest.mark.parametrize("dims, shape", [(2, (9, 9, 9)), (3, (9, 9))])
def test_window_of_another_dimension(dims, shape):
    with pytest.raises(PromptError, match=f"window dimension: got {len(shape)}; allowed: {dims}"):
        prompt_maps(WindowPrompts(dims), np.zeros(shape, np.float32))


@pytest.mark.parametrize("field", ["previous", "lasso"])
def test_dense_prompt_of_another_shape(field):
    with pytest.raises(PromptError, match=r"dense prompt does not fit the window: got \[4, 5\]; allowed: \(20, 24\)"):
        draw("box", **{field: np.zeros((4, 5), np.float32)})


def test_drawing_is_deterministic_and_leaves_its_input_alone():
    points, previous = np.array([[3.0, 4.0]]), np.full(SHAPE, 0.3, np.float32)
    prompts = WindowPrompts(2, points, points + 5, box((2, 2), (9, 9)), previous=previous)
    first = prompt_maps(prompts, halves())
    np.testing.assert_array_equal(prompt_maps(prompts, halves()), first)
    assert (previous == np.float32(0.3)).all() and points.tolist() == [[3.0, 4.0]]
