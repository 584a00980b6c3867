"""Grids, re-arrangements, and every spatial prompt on all arrangements of a scan (contract 2)."""
import numpy as np
import pytest
from skimage.draw import polygon2mask

from promptzoo.core.errors import GeometryError
from promptzoo.core.geometry import LPS_TO_RAS, Grid, Reorientation, all_axis_codes, grid_with_codes
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, Point, PromptSet, Scribble

SHAPE = (5, 6, 7)
WORLD_TOLERANCE_MM = 1e-9
FAR_TOLERANCE_VOX = 1e-6
"""At an origin of 1e5 mm, double precision leaves about 1e-11 mm per operation; inverting multiplies it."""


def _turn(degrees, axis):
    a = np.deg2rad(degrees)
    plane = [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[np.ix_(plane, plane)] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    return matrix


def _affine(linear, origin=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, origin
    return matrix


SPACING = np.diag([0.5, 1.25, 4.0])
SHEAR = np.array([[1, 0, 0.2], [0, 1, -0.15], [0, 0, 1]])
AFFINES = {
    "straight": _affine(SPACING, (-30.0, 12.5, 7.0)),
    "oblique": _affine(_turn(20, 2) @ _turn(-25, 0) @ SPACING, (11.0, -40.0, 3.0)),
    "sheared": _affine(_turn(15, 1) @ SHEAR @ SPACING, (-5.0, 60.0, -80.0)),
    "far": _affine(_turn(10, 2) @ SPACING, (1e5, -1e5, 1e5)),
}


# Grids by hand

def test_world_coordinates_with_anisotropic_spacing():
    grid = Grid(SHAPE, AFFINES["straight"])
    np.testing.assert_allclose(grid.to_world((2, 3, 1)), (-29.0, 16.25, 11.0), atol=WORLD_TOLERANCE_MM)
    np.testing.assert_allclose(grid.to_index((-29.0, 16.25, 11.0)), (2, 3, 1), atol=WORLD_TOLERANCE_MM)
    assert grid.spacing_mm == (0.5, 1.25, 4.0)
    assert grid.axis_codes == ("R", "A", "S")
    assert not grid.is_2d


def test_spacing_of_an_oblique_grid_is_the_length_of_its_axes():
    np.testing.assert_allclose(Grid(SHAPE, AFFINES["oblique"]).spacing_mm, (0.5, 1.25, 4.0))
    np.testing.assert_allclose(np.linalg.norm(Grid(SHAPE, AFFINES["sheared"]).directions, axis=0), 1.0)


def test_lps_becomes_ras_by_negating_x_and_y():
    lps = np.array([[2.0, 0, 0, 10], [0, 3.0, 0, 20], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    grid = Grid(SHAPE, LPS_TO_RAS @ lps)
    np.testing.assert_array_equal(grid.to_world((1, 1, 1)), (-12, -23, 34))
    assert grid.axis_codes == ("L", "P", "S")
    np.testing.assert_array_equal(LPS_TO_RAS @ LPS_TO_RAS, np.eye(4))


def test_axis_codes_of_a_permuted_and_flipped_grid():
    """i grows to the head, j to the left, k to the front."""
    linear = np.array([[0, -2.0, 0], [0, 0, 3.0], [1.0, 0, 0]])
    grid = Grid(SHAPE, _affine(linear))
    assert grid.axis_codes == ("S", "L", "A")
    move = grid.orientation
    assert move == Reorientation((1, 2, 0), (True, False, False))
    assert move.grid(grid).shape == (6, 7, 5)
    assert move.grid(grid).axis_codes == ("R", "A", "S")


def test_there_are_48_arrangements():
    assert len(set(all_axis_codes())) == 48
    assert ("L", "P", "S") in all_axis_codes()


def test_inside_reaches_half_a_voxel_beyond_the_faces():
    grid = Grid((4, 4, 1), np.eye(4))
    index = [(-1.0, 0, 0), (-1.01, 0, 0), (4.0, 3, 0), (4.01, 3, 0), (0, 0, 1.0), (0, 0, 1.1)]
    assert grid.inside(index).tolist() == [True, False, True, False, True, False]
    assert grid.inside((-0.6, 0, 0), slack_vox=0.0).tolist() is False


def test_same_space_compares_corners_in_millimetres():
    grid = Grid(SHAPE, AFFINES["oblique"])
    near, away = AFFINES["oblique"].copy(), AFFINES["oblique"].copy()
    near[0, 3] += 5e-4
    away[0, 3] += 5e-3
    assert grid == Grid(SHAPE, near) and grid.same_space(Grid(SHAPE, near))
    assert grid != Grid(SHAPE, away) and grid.same_space(Grid(SHAPE, away), tolerance_mm=0.01)
    assert grid != Grid((5, 6, 8), AFFINES["oblique"]) and grid != "a grid"


def test_affine_is_copied_and_read_only():
    matrix = np.eye(4)
    grid = Grid(SHAPE, matrix)
    matrix[0, 3] = 9
    assert grid.affine[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


@pytest.mark.parametrize("shape", [(1, 6, 7), (5, 1, 7), (5, 6, 1), (1, 1, 7), (1, 1, 1)])
def test_singleton_slices_round_trip(shape):
    grid = Grid(shape, AFFINES["oblique"])
    assert grid.is_2d
    array = np.arange(np.prod(shape)).reshape(shape)
    for codes in all_axis_codes():
        move, other = grid_with_codes(grid, codes)
        assert other.axis_codes == codes
        np.testing.assert_array_equal(move.inverse_array(move.array(array)), array)


# Errors

@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 0), (3, 4, 5, 6), (-1, 2, 2)])
def test_unusable_shapes(shape):
    with pytest.raises(GeometryError, match=r"unusable grid shape: got \[.*three integers of at least 1.*2D image"):
        Grid(shape, np.eye(4))


@pytest.mark.parametrize("affine, message", [
    (np.eye(3), "unusable affine: got .*a finite 4 x 4 matrix.*Check the image header"),
    (np.full((4, 4), np.nan), "unusable affine: got .*nan"),
    (np.ones((4, 4)), "unusable affine, last row: got .*allowed: 0 0 0 1"),
    (np.diag([1, 1, 0, 1]), "singular affine: got .*three independent axis vectors.*voxel spacing"),
])
def test_unusable_affines(affine, message):
    with pytest.raises(GeometryError, match=message):
        Grid(SHAPE, affine)


def test_coordinates_need_three_numbers():
    with pytest.raises(GeometryError, match=r"coordinates with the wrong last axis: got \[2\]; allowed: \[..., 3\]"):
        Grid(SHAPE, np.eye(4)).to_world((1, 2))


@pytest.mark.parametrize("codes", [("R", "L", "S"), ("R", "A", "X"), ("R", "R", "R")])
def test_unusable_axis_codes(codes):
    with pytest.raises(GeometryError, match="axis codes: got .*one letter each of L/R, P/A and I/S"):
        grid_with_codes(Grid(SHAPE, np.eye(4)), codes)


# All arrangements

@pytest.mark.parametrize("name", AFFINES)
def test_rearranged_voxels_keep_their_place_in_the_world(name):
    grid = Grid(SHAPE, AFFINES[name])
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for codes in all_axis_codes():
        move, other = grid_with_codes(grid, codes)
        moved = move.array(labels)
        assert other.axis_codes == codes and moved.shape == other.shape
        index = np.argwhere(np.ones(other.shape, bool))
        source = grid.to_index(other.to_world(index))
        np.testing.assert_allclose(source, np.rint(source), atol=FAR_TOLERANCE_VOX)
        np.testing.assert_array_equal(labels[tuple(np.rint(source).astype(int).T)], moved[tuple(index.T)])
        np.testing.assert_array_equal(move.inverse_array(moved), labels)
        canonical = other.orientation
        assert canonical.grid(other).same_space(grid, 1e-6)  # the base grids are in RAS+ order already
        np.testing.assert_array_equal(canonical.array(moved), labels)


def _hits(prompt, grid):
    """Voxels of ``grid`` that a prompt names, ``[*shape]`` bool."""
    own = ObjectPrompts.of(PromptSet((prompt,)), grid)
    hit = np.zeros(grid.shape, bool)
    if own.box is not None:
        low, high = (np.rint(face + 0.5).astype(int) for face in own.box)
        np.testing.assert_allclose(own.box[0] + 0.5, low, atol=FAR_TOLERANCE_VOX)
        np.testing.assert_allclose(own.box[1] + 0.5, high, atol=FAR_TOLERANCE_VOX)
        hit[tuple(slice(a, b) for a, b in zip(low, high))] = True
    for points in (own.positive, own.negative, own.scribble_positive, own.scribble_negative):
        hit[tuple(np.rint(points).astype(int).T)] = True
    for vertices, _ in own.lassos:
        flat = int(np.ptp(vertices, axis=0).argmin())
        keep = [a for a in range(3) if a != flat]
        level = int(np.rint(vertices[:, flat].mean()))
        np.moveaxis(hit, flat, 0)[level] |= polygon2mask([grid.shape[a] for a in keep], vertices[:, keep])
    return hit if own.prior is None else own.prior > 0.5


def _mask():
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:5, 3] = mask[0, 0, :3] = mask[4, 5, 6] = True
    return mask


def _prompts(grid):
    return {
        "point": Point((1, 4, 6), space="voxel"),
        "fractional point": Point((0.7, 3.4, 2.2), positive=False, space="voxel"),
        "box": Box((1, 0, 2), (4, 6, 5), space="voxel"),
        "box on one slice": Box((0, 2, 6), (3, 4, 7), space="voxel"),
        "scribble": Scribble([(0, 0, 0), (1, 1, 1), (2, 1, 2), (4, 5, 6)], space="voxel"),
        "lasso": Lasso([(0.4, 0.6, 3), (3.7, 0.8, 3), (4.2, 4.6, 3), (1.3, 4.9, 3)], space="voxel"),
        "mask": MaskPrompt(_mask(), grid),
    }


EXPECTED = {"point": 1, "fractional point": 1, "box": 3 * 6 * 3, "box on one slice": 6, "scribble": 4, "mask": 13}


@pytest.mark.parametrize("kind", _prompts(Grid(SHAPE, np.eye(4))))
@pytest.mark.parametrize("name", AFFINES)
def test_prompts_hit_the_same_anatomy_on_every_arrangement(name, kind):
    grid = Grid(SHAPE, AFFINES[name])
    prompt = _prompts(grid)[kind]
    hit = _hits(prompt, grid)
    assert hit.sum() == EXPECTED.get(kind, hit.sum()) > 0
    labels = np.arange(hit.size).reshape(SHAPE)
    world = PromptSet((prompt,)).to_world(grid)
    for codes in all_axis_codes():
        move, other = grid_with_codes(grid, codes)
        prompts = world.to_voxel(other).check_on(other)
        found = _hits(prompts.prompts[0], other)
        np.testing.assert_array_equal(found, move.array(hit), err_msg=str(codes))
        assert set(move.array(labels)[found]) == set(labels[hit])


@pytest.mark.parametrize("name", AFFINES)
def test_prompts_come_back_from_the_world_unchanged(name):
    grid = Grid(SHAPE, AFFINES[name])
    for prompt in _prompts(grid).values():
        if prompt.kind == "mask":
            continue
        back = prompt.moved(grid, "world").moved(grid, "voxel")
        for field in {"point": ["position"], "box": ["low", "high"]}.get(prompt.kind, ["points"]):
            np.testing.assert_allclose(getattr(back, field), getattr(prompt, field), atol=FAR_TOLERANCE_VOX)
        assert prompt.moved(grid, "voxel") is prompt


def test_mask_on_another_grid_is_taken_at_the_same_place():
    """A mask drawn on a grid of half the spacing: each voxel takes the fine voxel nearest to its centre."""
    fine = Grid((8, 8, 2), np.diag([1.0, 1, 3, 1]))
    coarse = Grid((4, 4, 3), np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, -3], [0, 0, 0, 1]]))
    mask = np.zeros(fine.shape, bool)
    mask[2:5, 4:, 1] = True
    expected = np.zeros(coarse.shape, bool)
    expected[1:3, 2:, 2] = True  # the first coarse slice lies outside the fine grid
    np.testing.assert_array_equal(_hits(MaskPrompt(mask, fine), coarse), expected)


@pytest.mark.parametrize("axis", range(3))
def test_prompts_on_a_single_slice_image(axis):
    shape = [6, 5, 7]
    shape[axis] = 1
    grid = Grid(shape, AFFINES["oblique"])
    low, high = np.array([2, 1, 3]), np.array([4, 4, 6])
    low[axis], high[axis] = 0, 1
    box = Box(tuple(low), tuple(high), space="voxel")
    for codes in all_axis_codes():
        move, other = grid_with_codes(grid, codes)
        found = _hits(box.moved(grid, "world").moved(other, "voxel"), other)
        np.testing.assert_array_equal(found, move.array(_hits(box, grid)))
