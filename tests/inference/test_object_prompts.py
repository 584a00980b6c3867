"""The prompts of one object in image indices, on slices, and in windows."""
import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, Point, PromptSet, Scribble

GRID = Grid((20, 22, 10), np.array([[0.8, 0, 0, -7], [0, 1.2, 0, 3], [0, 0, 3.0, 40], [0, 0, 0, 1]]))
SQUARE = [(2.2, 3.2, 4), (8.3, 3.2, 4), (8.3, 9.4, 4), (2.2, 9.4, 4)]
FLOAT_TOLERANCE = 1e-9


def collect(*prompts, grid=GRID):
    """Voxel prompts through the world onto ``grid``."""
    return ObjectPrompts.of(PromptSet(prompts).to_world(GRID), grid)


def everything():
    """Prompts of every spatial kind, on slices 3, 4 and 5."""
    mask = np.zeros(GRID.shape, bool)
    mask[5:8, 5:8, 4:6] = True
    return collect(
        Point((6, 7, 4), space="voxel"), Point((6, 7, 5), space="voxel"), Point((1, 1, 3), False, space="voxel"),
        Box((2, 3, 3), (10, 12, 6), space="voxel"), Scribble([(4, 4, 4), (5, 4, 4), (6, 4, 5)], space="voxel"),
        Scribble([(15, 15, 4)], False, space="voxel"), Lasso(SQUARE, space="voxel"), MaskPrompt(mask, GRID))


def test_prompts_are_sorted_by_kind_and_sign():
    own = everything()
    np.testing.assert_allclose(own.positive, [(6, 7, 4), (6, 7, 5)], atol=FLOAT_TOLERANCE)
    np.testing.assert_allclose(own.negative, [(1, 1, 3)], atol=FLOAT_TOLERANCE)
    assert own.scribble_positive.shape == (3, 3) and own.scribble_negative.shape == (1, 3)
    (vertices, positive), = own.lassos
    np.testing.assert_allclose(vertices, SQUARE, atol=FLOAT_TOLERANCE)
    assert positive and own.prior.sum() == 18 and own.prior.dtype == np.float32


def test_box_is_kept_as_faces():
    """Voxels 2 … 9 have faces 1.5 and 9.5."""
    low, high = collect(Box((2, 3, 3), (10, 12, 6), space="voxel")).box
    np.testing.assert_allclose((low, high), [(1.5, 2.5, 2.5), (9.5, 11.5, 5.5)], atol=FLOAT_TOLERANCE)


def test_several_boxes_become_their_hull_and_masks_their_union():
    first, second = np.zeros((2, *GRID.shape), bool)
    first[1], second[3] = True, True
    own = collect(Box((2, 3, 3), (4, 5, 6), space="voxel"), Box((3, 1, 5), (9, 4, 7), space="voxel"),
                  MaskPrompt(first, GRID), MaskPrompt(second, GRID))
    np.testing.assert_allclose(own.box, [(1.5, 0.5, 2.5), (8.5, 4.5, 6.5)], atol=FLOAT_TOLERANCE)
    np.testing.assert_array_equal(own.prior, first | second)


def test_mask_on_a_coarser_grid_takes_the_nearest_voxel():
    coarse = Grid((2, 2, 1), np.array([[4.0, 0, 0, 1.5], [0, 4, 0, 1.5], [0, 0, 1, 0], [0, 0, 0, 1]]))
    fine = Grid((10, 8, 1), np.eye(4))
    mask = np.array([[1, 0], [0, 1]], bool)[..., None]
    own = ObjectPrompts.of(PromptSet((MaskPrompt(mask, coarse),)), fine)
    expected = np.zeros(fine.shape, np.float32)
    expected[:4, :4] = expected[4:8, 4:8] = 1  # beyond voxel 7 the mask knows nothing
    np.testing.assert_array_equal(own.prior, expected)


@pytest.mark.parametrize("prompt, empty", [
    (Point((1, 1, 1), space="voxel"), False), (Point((1, 1, 1), False, space="voxel"), True),
    (Box((1, 1, 1), (2, 2, 2), space="voxel"), False), (Scribble([(1, 1, 1)], space="voxel"), False),
    (Scribble([(1, 1, 1)], False, space="voxel"), True), (Lasso(SQUARE, space="voxel"), False),
    (Lasso(SQUARE, False, space="voxel"), True), (MaskPrompt(np.ones(GRID.shape), GRID), False)])
def test_negative_prompts_alone_name_no_object(prompt, empty):
    own = collect(prompt)
    assert own.empty is empty
    assert not own.with_prior(np.ones(GRID.shape)).empty


def test_slice_takes_what_lies_on_it():
    part = everything().on_slice(2, 4)
    np.testing.assert_allclose(part.positive, [(6, 7)], atol=FLOAT_TOLERANCE)
    assert part.negative.shape == (0, 2) and len(part.scribble_positive) == 2 and len(part.scribble_negative) == 1
    np.testing.assert_allclose(part.box, [(1.5, 2.5), (9.5, 11.5)], atol=FLOAT_TOLERANCE)
    assert len(part.lassos) == 1 and part.lassos[0][0].shape == (4, 2)
    assert part.prior.shape == (20, 22) and part.prior.sum() == 9
    other = everything().on_slice(2, 3)
    assert not len(other.positive) and len(other.negative) == 1 and not other.lassos and other.box is not None
    assert everything().on_slice(2, 6).empty is False and everything().on_slice(2, 6).box is None
    across = everything().on_slice(0, 6)
    np.testing.assert_allclose(across.positive, [(7, 4), (7, 5)], atol=FLOAT_TOLERANCE)
    assert not across.lassos


def test_box_ends_with_its_last_slice():
    own = collect(Box((2, 3, 3), (10, 12, 6), space="voxel"))
    assert [own.on_slice(2, index).box is not None for index in range(10)] == [n in (3, 4, 5) for n in range(10)]


def test_slice_with_another_prior():
    prior = np.zeros((20, 22), np.float32)
    assert everything().on_slice(2, 4, prior).prior is prior


def test_context_masks_go_along():
    known = np.zeros(GRID.shape, np.float32)
    known[3:6, 2:9, 4] = 1
    own = everything().with_context((None, known))
    window = Window((0.0, 0.0), (1.0, 1.0), (20, 22))
    channels = own.on_slice(2, 4).context_in(window, 3)
    assert channels.shape == (3, 20, 22) and channels.dtype == np.float32
    assert not channels[0].any() and not channels[2].any()
    np.testing.assert_array_equal(channels[1], known[..., 4])


def test_window_moves_and_scales_prompts():
    """A window of half the resolution that begins at index 2: index 6 is pixel 2, face 9.5 is 3.75."""
    own = everything().on_slice(2, 4)
    prior = np.zeros((8, 8), np.float32)
    seen = own.in_window(Window((2.0, 2.0), (2.0, 2.0), (8, 8)), prior)
    np.testing.assert_allclose(seen.positive, [(2, 2.5)], atol=FLOAT_TOLERANCE)
    np.testing.assert_allclose(seen.box, [(-0.25, 0.25), (3.75, 4.75)], atol=FLOAT_TOLERANCE)
    np.testing.assert_allclose(seen.scribble_positive, [(1, 1), (1.5, 1)], atol=FLOAT_TOLERANCE)
    assert seen.dims == 2 and seen.previous is prior and seen.lasso.shape == (8, 8)


def test_lasso_encloses_pixels_of_the_slice():
    lasso = everything().on_slice(2, 4).in_window(Window((0.0, 0.0), (1.0, 1.0), (20, 22)), None).lasso
    expected = np.zeros((20, 22), np.float32)
    expected[3:9, 4:10] = 1
    np.testing.assert_array_equal(lasso, expected)


def test_negative_lasso_inside_a_positive_one():
    hole = [(4.2, 5.2, 4), (6.4, 5.2, 4), (6.4, 7.3, 4), (4.2, 7.3, 4)]
    own = collect(Lasso(SQUARE, space="voxel"), Lasso(hole, False, space="voxel"))
    lasso = own.in_window(Window((0.0,) * 3, (1.0,) * 3, GRID.shape), None).lasso
    assert lasso[3, 4, 4] == 1 and lasso[5, 6, 4] == -1 and (lasso == -1).sum() == 4
    assert not lasso[..., 3].any() and not lasso[..., 5].any()


def test_lasso_of_one_slice_fills_the_window_slices_within_it():
    """Window slices a third of an image slice thick: three of them lie in the slice drawn on."""
    own = collect(Lasso(SQUARE, space="voxel"))
    lasso = own.in_window(Window((0.0, 0.0, 2.0), (1.0, 1.0, 1 / 3), (20, 22, 15)), None).lasso
    assert np.flatnonzero(lasso.any((0, 1))).tolist() == [5, 6, 7]
    assert lasso[5, 5, 6] == 1


def test_no_lasso_no_map():
    window = Window((0.0,) * 3, (1.0,) * 3, (4,) * 3)
    assert collect(Point((1, 1, 1), space="voxel")).in_window(window, None).lasso is None
