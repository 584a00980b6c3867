"""The mask of one scan is the same voxels, whatever the axis-code arrangement the scan was stored in (contract 2)."""
import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from promptzoo.core.geometry import Grid, all_axis_codes, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.zoom import ZoomSettings
from promptzoo.prompts.encoders import PROMPT_CHANNELS
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, Point, PromptSet, Scribble

AFFINES = {
    "anisotropic": [[0.8, 0, 0, -20], [0, 1.1, 0, 5], [0, 0, 2.5, 90], [0, 0, 0, 1]],
    "oblique": [[0.77, -0.25, 0.4, 3], [0.2, 1.06, -0.3, -7], [-0.1, 0.2, 2.45, 11], [0, 0, 0, 1]],
    "far": [[1, 0, 0, 1e5], [0, 1, 0, -1e5], [0, 0, 1, 1e5], [0, 0, 0, 1]],
}
CHANNEL = {name: 1 + n for n, name in enumerate(PROMPT_CHANNELS)}


def bright_near_prompts(fused):
    """A network by hand: bright pixels in the box, or near clicks, strokes, lassos and the last mask; not near -."""
    near = np.zeros(fused[:, :1].shape, bool)
    for name in ("previous", "box", "lasso"):
        near |= fused[:, [CHANNEL[name]]] > 0.5
    near |= maximum_filter(fused[:, [CHANNEL["scribble+"]]], (1, 1) + (5,) * (fused.ndim - 2)) > 0.5
    near |= fused[:, [CHANNEL["reach"]]] > 0.3
    logits = np.where(near & (fused[:, :1] > 0) & (fused[:, [CHANNEL["point-"]]] < 0.5), 6.0, -6.0)
    return logits.astype(np.float32), np.full((len(fused), 1), 0.9, np.float32)


def _predictor(dimensions):
    return InteractivePredictor(bright_near_prompts, dimensions, ZoomSettings(window=24, min_side_px=12.0))


def _scan(affine, shape=(22, 26, 14)):
    """A bright bent object, not symmetric in any axis, in a textured background."""
    rng = np.random.default_rng(3)
    data = rng.normal(0, 3, shape).astype(np.float32)
    truth = np.zeros(shape, bool)
    middle = shape[2] // 2
    truth[5:12, 6:15, max(0, middle - 3):middle + 2] = True
    truth[9:16, 12:18, max(0, middle - 1):middle + 4] = True
    data[truth] += 100
    return Volume(data, Grid(shape, np.array(affine))), truth


def _prompts(grid, truth, kind):
    k = grid.shape[2] // 2
    wide = (4, 5, max(0, k - 4)), (17, 19, min(grid.shape[2], k + 5))
    first = np.zeros(grid.shape, bool)
    first[6:11, 7:14, k] = True
    prompts = {
        "points": (Point((10, 13, k), space="voxel"), Point((6, 8, k), positive=False, space="voxel")),
        "box": (Box(*wide, space="voxel"),),
        "slice box": (Box((4, 5, k), (17, 19, k + 1), space="voxel"), Point((8, 10, k), space="voxel")),
        "scribble": (Scribble([(6 + n, 7 + n, k) for n in range(5)], space="voxel"),),
        "lasso": (Lasso([(4.2, 5.3, k), (16.6, 5.1, k), (16.8, 18.6, k), (4.4, 18.7, k)], space="voxel"),),
        "mask": (MaskPrompt(first, grid),),
        "two objects": (Point((7, 8, k), space="voxel"), Box((8, 11, k), (17, 19, k + 1), 2, "voxel")),
    }
    return PromptSet(prompts[kind])


@pytest.mark.parametrize("kind", ["points", "box", "slice box", "scribble", "lasso", "mask", "two objects"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_mask_returns_on_the_native_grid(dimensions, kind):
    name = {"points": "oblique", "box": "oblique", "lasso": "far"}.get(kind, "anisotropic")
    volume, truth = _scan(AFFINES[name])
    predictor = _predictor(dimensions)
    prompts = _prompts(volume.grid, truth, kind).to_world(volume.grid)
    seen = predictor.encode(volume).data
    base = predictor.decode(predictor.encode(volume), prompts)
    assert all(entry.mask.any() and entry.mask.shape == truth.shape for entry in base.objects)
    assert (base.objects[0].mask & truth).sum() > 0.5 * base.objects[0].mask.sum()
    for codes in all_axis_codes():
        move, grid = grid_with_codes(volume.grid, codes)
        state = predictor.encode(Volume(move.array(volume.data), grid))
        np.testing.assert_array_equal(state.data, seen)
        answer = predictor.decode(state, prompts.to_voxel(grid))
        for entry, expected in zip(answer.objects, base.objects):
            assert entry.grid is grid and entry.object_id == expected.object_id
            np.testing.assert_array_equal(entry.mask, move.array(expected.mask), err_msg=str(codes))
            assert entry.estimated_dice == expected.estimated_dice


def test_mask_of_the_box_is_the_object():
    """No arrangement at all: box, bright object, exact voxels away from the resampled border."""
    volume, truth = _scan(AFFINES["anisotropic"])
    predictor = _predictor(3)
    answer = predictor.decode(predictor.encode(volume), _prompts(volume.grid, truth, "box"))
    mask = answer[1].mask
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9


@pytest.mark.parametrize("kind", ["points", "box", "lasso", "scribble", "mask"])
def test_images_of_one_slice_in_every_arrangement(kind):
    volume, truth = _scan(AFFINES["oblique"], (22, 26, 1))
    prompts = _prompts(volume.grid, truth, kind).to_world(volume.grid)
    for dimensions in (2, 3):
        predictor = _predictor(dimensions)
        base = predictor.decode(predictor.encode(volume), prompts)[1].mask
        assert base.any()
        for codes in all_axis_codes()[::5]:
            move, grid = grid_with_codes(volume.grid, codes)
            state = predictor.encode(Volume(move.array(volume.data), grid))
            np.testing.assert_array_equal(predictor.decode(state, prompts)[1].mask, move.array(base))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_warm_start_in_every_arrangement(dimensions):
    """The last prediction, on the native grid, steers the next one alike in all arrangements."""
    volume, truth = _scan(AFFINES["anisotropic"])
    predictor = _predictor(dimensions)
    first = _prompts(volume.grid, truth, "scribble").to_world(volume.grid)
    more = first.adding(Point((13, 15, 7), space="voxel").moved(volume.grid, "world"))

    def both(own):
        state = predictor.encode(own)
        return predictor.decode(state, more, predictor.decode(state, first))[1].mask

    base = both(volume)
    for codes in all_axis_codes()[1::7]:
        move, grid = grid_with_codes(volume.grid, codes)
        np.testing.assert_array_equal(both(Volume(move.array(volume.data), grid)), move.array(base))
