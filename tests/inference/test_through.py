"""2D predictors on volumes: one prompt on one slice, along every axis, in every arrangement of the voxels."""
import itertools

import numpy as np
import pytest

from promptzoo.core.geometry import Grid, Reorientation
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.looks import Look
from promptzoo.inference.resample import Window
from promptzoo.inference.zoom import ZoomSettings
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, Point, PromptSet

SHAPE = (20, 24, 28)
CENTRE, RADIUS = (9.0, 12.0, 14.0), 6.7
SETTINGS = ZoomSettings(window=16)


class Seeing:
    """Answers the bright pixels in reach of the prompts; counts what it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, image, spacing, prompts, hounsfield=False):
        """Pixels above 50 in the box, or all of them for clicks; negative clicks take away their row."""
        self.asked += 1
        inside = image > 50
        if prompts.box is not None:
            at = np.indices(image.shape)
            inside &= np.all([(a >= low - 1) & (a <= high + 1) for a, low, high in zip(at, *prompts.box)], axis=0)
        elif prompts.prior is not None:
            inside = prompts.prior >= 0.5
        for point in prompts.negative:
            inside[int(point[0])] = False
        window = Window((0.0, 0.0), (1.0, 1.0), image.shape)
        return Look(window, inside.astype(np.float32), 0.8)

    def many(self, image, spacing, objects, hounsfield=False):
        """Several objects on one slice."""
        return [self(image, spacing, one, hounsfield) for one in objects]


def ball(spacing=(1.0, 1.0, 1.0)):
    """A bright ball in a dark volume, and its mask."""
    distance = sum((x - c) ** 2 for x, c in zip(np.indices(SHAPE), CENTRE))
    mask = distance <= RADIUS ** 2
    return Volume(np.where(mask, 100, 0).astype(np.float32), Grid(SHAPE, np.diag([*spacing, 1.0]))), mask


@pytest.fixture
def segmenter():
    """A fresh one."""
    return Seeing()


@pytest.fixture
def predictor(segmenter):
    """A 2D predictor around it."""
    return InteractivePredictor(None, 2, SETTINGS, segmenter=segmenter)


def click(*position, positive=True):
    """A click in voxels."""
    return Point(tuple(map(float, position)), positive, 1, "voxel")


def decode(predictor, volume, *prompts, through=True, previous=None, state=None):
    """The answer about object 1."""
    state = predictor.encode(volume) if state is None else state
    return predictor.decode(state, PromptSet(prompts, through_slices=through), previous)


def test_off_answers_the_prompted_slice_and_on_the_volume(predictor):
    volume, mask = ball()
    off = decode(predictor, volume, click(9, 12, 14), through=False)[1]
    assert np.flatnonzero(off.mask.any((0, 1))).tolist() == [14]
    on = decode(predictor, volume, click(9, 12, 14))[1]
    assert np.array_equal(on.mask, mask)
    told = on.info["through_slices"]
    assert (told["axis"], told["anchors"], told["propagated"]) == (2, [14], [[8, 13], [15, 20]])
    assert {(stop["anchor"], stop["at"]): stop["reason"] for stop in told["stops"]} == {
        (14, 7): "nothing found", (14, 21): "nothing found"}
    each = told["estimated_dice"]
    assert each[14] == 0.8 and each[15] == each[13] > each[16] and min(each.values()) == each[8]
    assert each[8] < on.estimated_dice < 0.8 == off.estimated_dice


@pytest.mark.parametrize("axis", range(3))
def test_every_axis_that_a_flat_prompt_or_coarse_spacing_names(predictor, axis):
    volume, mask = ball()
    low = [c - 6 for c in CENTRE]
    high = [c + 7 for c in CENTRE]
    low[axis], high[axis] = CENTRE[axis], CENTRE[axis] + 1
    found = decode(predictor, volume, Box(tuple(low), tuple(high), 1, "voxel"))[1]
    assert np.array_equal(found.mask, mask) and found.info["through_slices"]["axis"] == axis
    coarse, mask = ball([3.0 if a == axis else 1.0 for a in range(3)])
    found = decode(predictor, coarse, click(*CENTRE))[1]
    assert np.array_equal(found.mask, mask) and found.info["through_slices"]["axis"] == axis


@pytest.mark.parametrize("order, flips", [*itertools.product(itertools.permutations(range(3)),
                                                             [(False, True, True), (True, False, False)])])
def test_arrangements_of_the_voxels_give_the_same_anatomy(predictor, order, flips):
    volume, _ = ball()
    prompts = PromptSet((click(9, 12, 14), click(9, 9, 18)), through_slices=True).to_world(volume.grid)
    plain = predictor.decode(predictor.encode(volume), prompts)[1]
    move = Reorientation(order, flips)
    turned = Volume(np.ascontiguousarray(move.array(volume.data)), move.grid(volume.grid))
    found = predictor.decode(predictor.encode(turned), prompts)[1]
    assert np.array_equal(found.full_probability(), move.array(plain.full_probability()))
    told, axis = found.info["through_slices"], order.index(2)
    own = [int(turned.grid.to_index(volume.grid.to_world(np.array(p)))[axis] + 0.5) for p in ((9, 12, 14), (9, 9, 18))]
    assert told["axis"] == axis and told["anchors"] == sorted(own), "slices are those of the image itself"
    occupied = np.flatnonzero(np.moveaxis(found.mask, axis, 0).any((1, 2)))
    listed = [n for first, last in told["propagated"] for n in range(first, last + 1)]
    assert sorted([*listed, *told["anchors"]]) == occupied.tolist() == sorted(told["estimated_dice"])


def test_boxes_on_two_slices_are_two_anchors_and_a_thick_box_bounds(predictor):
    volume, mask = ball()
    thin = [Box((3.0, 6.0, k), (16.0, 19.0, k + 1), 1, "voxel") for k in (10.0, 18.0)]
    found = decode(predictor, volume, *thin)[1]
    assert np.array_equal(found.mask, mask) and found.info["through_slices"]["anchors"] == [10, 18]
    thick = decode(predictor, volume, Box((3.0, 6.0, 12.0), (16.0, 19.0, 17.0), 1, "voxel"))[1]
    assert np.flatnonzero(thick.mask.any((0, 1))).tolist() == [12, 13, 14, 15, 16]
    as_before = decode(predictor, volume, Box((3.0, 6.0, 12.0), (16.0, 19.0, 17.0), 1, "voxel"), through=False)[1]
    assert np.array_equal(thick.full_probability(), as_before.full_probability())


def test_lasso_and_mask_prompts_are_anchors(predictor):
    volume, mask = ball()
    outline = Lasso(np.array([[4, 7, 15], [4, 17, 15], [14, 17, 15], [14, 7, 15]], float), True, 1, "voxel")
    assert decode(predictor, volume, outline)[1].info["through_slices"]["anchors"] == [15]
    known = np.zeros(SHAPE, bool)
    known[..., 13] = mask[..., 13]
    found = decode(predictor, volume, MaskPrompt(known, volume.grid, 1))[1]
    assert found.info["through_slices"]["anchors"] == [13] and np.array_equal(found.mask, mask)


def test_negative_clicks_alone_end_or_correct(predictor):
    volume, mask = ball()
    corrected = decode(predictor, volume, click(9, 12, 14), click(9, 12, 18, positive=False))[1]
    assert not corrected.mask[9, :, 18].any() and corrected.mask[7, 12, 18] and corrected.mask[..., 19].any()
    assert corrected.info["through_slices"]["negative"] == [18]
    rows = [click(i, 12, 18, positive=False) for i in range(6, 12)]
    ended = decode(predictor, volume, click(9, 12, 14), *rows)[1]
    assert np.flatnonzero(ended.mask.any((0, 1))).tolist() == list(range(8, 18))
    assert {"anchor": 14, "at": 18, "reason": "negative prompts"} in ended.info["through_slices"]["stops"]
    nothing = decode(predictor, volume, click(9, 12, 14, positive=False))[1]
    assert not nothing.mask.any() and nothing.info["reason"] == "no positive prompt"


def test_an_edit_keeps_the_other_anchors_and_changes_what_follows_from_it(predictor, segmenter):
    volume, mask = ball()
    state = predictor.encode(volume)
    first = decode(predictor, volume, click(9, 12, 14), state=state)
    before = segmenter.asked
    assert decode(predictor, volume, click(9, 12, 14), state=state, previous=first)[1].mask.sum() == mask.sum()
    assert segmenter.asked == before, "nothing changed: neither anchor nor carried slices are asked again"
    edited = decode(predictor, volume, click(9, 12, 14), click(11, 12, 17), click(9, 12, 17, positive=False),
                    state=state, previous=first)[1]
    assert np.array_equal(edited.full_probability()[..., 14], first[1].full_probability()[..., 14])
    assert np.array_equal(edited.mask[..., 8:14], first[1].mask[..., 8:14]), "behind the other anchor all is the same"
    assert not edited.mask[9, :, 17].any() and edited.mask[8, 12, 17], "the edit starts from the mask that was shown"
    anew = decode(InteractivePredictor(None, 2, SETTINGS, segmenter=Seeing()), volume, click(9, 12, 14),
                  click(11, 12, 17), click(9, 12, 17, positive=False), previous=first)[1]
    assert np.array_equal(anew.full_probability(), edited.full_probability()), "memory changes no answer"


def test_memory_tells_images_apart(predictor):
    volume, mask = ball()
    shifted = Volume(np.roll(volume.data, 3, 0), volume.grid)
    assert np.array_equal(decode(predictor, volume, click(9, 12, 14))[1].mask, mask)
    assert np.array_equal(decode(predictor, shifted, click(12, 12, 14))[1].mask, np.roll(mask, 3, 0))


def test_switched_off_again_only_prompted_slices_are_left(predictor):
    volume, mask = ball()
    state = predictor.encode(volume)
    on = decode(predictor, volume, click(9, 12, 14), state=state)
    off = decode(predictor, volume, click(9, 12, 14), state=state, through=False, previous=on)[1]
    assert np.flatnonzero(off.mask.any((0, 1))).tolist() == [14] and np.array_equal(off.mask[..., 14], mask[..., 14])


def test_an_image_of_one_slice_and_a_3d_bundle_take_no_notice(segmenter):
    data = np.zeros((12, 14, 1), np.float32)
    data[4:9, 4:9] = 100
    flat = Volume(data, Grid(data.shape, np.eye(4)))
    two = InteractivePredictor(None, 2, SETTINGS, segmenter=segmenter)
    on, off = (decode(two, flat, click(6, 6, 0), through=through)[1] for through in (True, False))
    assert np.array_equal(on.mask, off.mask) and "through_slices" not in on.info
