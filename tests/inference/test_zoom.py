"""Zoom windows: where they lie, when another look is taken, and that clicks are obeyed."""
import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.looks import Look, bounds, overlap, resample_look
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.zoom import ZoomSegmenter, ZoomSettings
from promptzoo.prompts.encoders import PROMPT_CHANNELS
from promptzoo.prompts.types import Point, PromptSet

CHANNEL = {name: 1 + n for n, name in enumerate(PROMPT_CHANNELS)}
FACE_TOLERANCE_VOX = 1e-6


class Network:
    """Answers with ``answer(fused)`` (logits ``[B, *S]``) and remembers its inputs."""

    def __init__(self, answer, quality=0.8):
        self.answer, self.quality, self.seen = answer, quality, []

    def __call__(self, fused):
        self.seen.append(fused.copy())
        logits = np.asarray(self.answer(fused), np.float32)
        return logits[:, None], np.full((len(fused), 1), self.quality, np.float32)


def everything(fused):
    """A network that sees the object everywhere."""
    return np.full(fused[:, 0].shape, 8.0)


def nothing(fused):
    """A network that sees no object."""
    return np.full(fused[:, 0].shape, -8.0)


def bright(fused):
    """A network that takes bright pixels."""
    return np.where(fused[:, 0] > 0, 8.0, -8.0)


def prompts(dims=2, **given):
    """Prompts of one object."""
    none = np.zeros((0, dims))
    fields = dict(positive=none, negative=none, box=None, scribble_positive=none, scribble_negative=none)
    return ObjectPrompts(**{**fields, **{k: np.array(v, float) if k in fields and k != "box" else v
                                         for k, v in given.items()}})


def box(low, high):
    """Faces of the box over voxels ``low … high - 1``."""
    return np.array(low) - 0.5, np.array(high) - 0.5


def look(own, shape=(200, 160), spacing=None, answer=nothing, **settings):
    """The final look at an image of noise."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    settings = ZoomSettings(**{"window": 32, "max_passes": 1, "min_side_px": 16.0, **settings})
    return ZoomSegmenter(Network(answer), settings)(image, spacing or (1.0,) * len(shape), own)


# Windows

def test_window_around_a_box_leaves_the_margin():
    """A box of 40 x 20 with margin 1.5: a square of 60 around its centre (99.5, 79.5)."""
    window = look(prompts(box=box((80, 70), (120, 90))), box_margin=1.5).window
    np.testing.assert_allclose(window.high - window.low, (60, 60))
    np.testing.assert_allclose((window.high + window.low) / 2, (99.5, 79.5))
    assert window.shape == (32, 32)


def test_window_is_moved_into_the_image():
    for low, high in (((0, 0), (40, 40)), ((160, 120), (200, 160)), ((0, 120), (40, 160))):
        window = look(prompts(box=box(low, high))).window
        np.testing.assert_allclose(window.high - window.low, (60, 60))
        assert (window.low >= -0.5 - FACE_TOLERANCE_VOX).all()
        assert (window.high <= np.array((200, 160)) - 0.5 + FACE_TOLERANCE_VOX).all()
        assert (window.low <= np.array(low) - 0.5).all() and (window.high >= np.array(high) - 0.5).all()


def test_window_larger_than_the_image_is_centred_on_it():
    window = look(prompts(box=box((0, 0), (200, 160)))).window
    np.testing.assert_allclose((window.high + window.low) / 2, (99.5, 79.5))
    assert (window.low <= -0.5).all() and (window.high >= np.array((200, 160)) - 0.5).all()


def test_small_boxes_get_the_smallest_window():
    window = look(prompts(box=box((80, 70), (82, 72))), min_side_px=24.0).window
    np.testing.assert_allclose(window.high - window.low, (24, 24))


def test_margins_of_masks_and_scribbles():
    prior = np.zeros((200, 160), np.float32)
    prior[80:120, 60:100] = 1
    assert np.ptp([look(prompts(prior=prior), mask_margin=1.6).window.low[0],
                   look(prompts(prior=prior), mask_margin=1.6).window.high[0]]) == pytest.approx(64)
    stroke = [(80 + n, 80) for n in range(30)]
    window = look(prompts(scribble_positive=stroke, scribble_negative=stroke), scribble_margin=2.0).window
    np.testing.assert_allclose(window.high - window.low, (60, 60))


def test_clicks_widen_the_window_of_a_box():
    """A positive click beyond the box belongs to the object; a negative one does not."""
    region = box((80, 70), (120, 90))
    plain = look(prompts(box=region)).window
    assert look(prompts(box=region, negative=[(20, 20)])).window == plain
    wide = look(prompts(box=region, positive=[(60, 80)])).window
    np.testing.assert_allclose(wide.high - wide.low, (90, 90))
    assert wide.low[0] <= 59.5


def test_windows_are_cubic_in_millimetres():
    window = look(prompts(box=box((80, 70), (120, 90))), spacing=(0.5, 2.0)).window
    np.testing.assert_allclose((window.high - window.low) * (0.5, 2.0), (60, 60))


def test_thin_stacks_stretch_within_the_limit():
    """Four slices of 5 mm; a box of 60 mm: the window along k is not 90 mm, and its pixels not below a fourth."""
    own = prompts(3, box=box((20, 20, 1), (80, 80, 3)))
    window = look(own, (100, 100, 4), (1.0, 1.0, 5.0), max_stretch=4.0).window
    millimetres = (window.high - window.low) * (1, 1, 5)
    np.testing.assert_allclose(millimetres[:2], 90)
    assert 90 / 4 - 1e-6 <= millimetres[2] < 60
    steps = np.array(window.step) * (1, 1, 5)
    assert steps.max() / steps.min() <= 4 + 1e-6
    assert window.low[2] <= 0.5 and window.high[2] >= 2.5
    single = look(prompts(3, box=box((20, 20, 0), (80, 80, 1))), (100, 100, 1), (1.0, 1.0, 1.0)).window
    assert max(single.step) / min(single.step) <= 4 + 1e-6 and single.low[2] <= -0.5 and single.high[2] >= 0.5


@pytest.mark.parametrize("dims", [2, 3])
def test_windows_of_clicks_hold_all_clicks(dims):
    shape = (90, 80, 70)[:dims]
    for seed in range(10):
        clicks = np.random.default_rng(seed).uniform(0, np.array(shape) - 1, (3, dims))
        window = look(prompts(dims, positive=clicks), shape, window=16).window
        assert (window.low <= clicks).all() and (clicks <= window.high).all()


def test_click_alone_tries_several_windows():
    network = Network(nothing)
    segmenter = ZoomSegmenter(network, ZoomSettings(window=16, max_passes=1, click_scales=(0.8, 0.4, 0.2)))
    segmenter(np.zeros((200, 160), np.float32), (1.0, 1.0), prompts(positive=[(100, 80)]))
    (fused,) = network.seen
    assert fused.shape == (3, 1 + len(PROMPT_CHANNELS), 16, 16)
    segmenter(np.zeros((12, 12), np.float32), (1.0, 1.0), prompts(positive=[(6, 6)]))
    assert len(network.seen[-1]) < 3  # equal windows are looked at once


# Looks

def test_small_objects_are_looked_at_again():
    image = np.zeros((200, 200), np.float32)
    image[95:106, 95:106] = 100
    own = prompts(box=box((50, 50), (150, 150)))
    network = Network(bright)
    plain = ZoomSettings(window=32, max_passes=3, min_side_px=16.0)
    first = ZoomSegmenter(Network(bright), ZoomSettings(window=32, max_passes=1))(image, (1, 1), own)
    found = ZoomSegmenter(network, plain)(image, (1, 1), prompts(positive=[(100, 100)]))
    assert len(network.seen) >= 2 and len(found.history) == len(network.seen)
    assert found.window.step[0] < first.window.step[0]
    offset, back = found.window.restore(found.probability, image.shape)
    full = np.zeros(image.shape, bool)
    full[tuple(slice(o, o + n) for o, n in zip(offset, back.shape))] = back >= 0.5
    truth = image > 50
    assert 2 * (full & truth).sum() / (full.sum() + truth.sum()) > 0.85


def test_mask_beyond_the_window_is_looked_at_from_farther():
    image = np.zeros((200, 200), np.float32)
    image[40:160, 40:160] = 100
    stroke = [(100, 100 + n) for n in range(10)]
    own = prompts(scribble_positive=stroke, scribble_negative=stroke)
    network = Network(lambda fused: np.where(fused[:, 0] >= fused[:, 0].max() - 1e-6, 8.0, -8.0))
    first = ZoomSegmenter(network, ZoomSettings(window=32, max_passes=1))(image, (1, 1), own)
    wide = ZoomSegmenter(network, ZoomSettings(window=32, max_passes=3))(image, (1, 1), own)
    assert wide.window.step[0] > 1.5 * first.window.step[0]


def test_number_of_passes_and_self_loops():
    network = Network(everything)
    own = prompts(box=box((80, 70), (120, 90)))
    image = np.zeros((200, 160), np.float32)
    ZoomSegmenter(network, ZoomSettings(window=16, max_passes=1, self_loops=2))(image, (1, 1), own)
    assert len(network.seen) == 3
    first, second, third = (fused[0, CHANNEL["previous"]] for fused in network.seen)
    assert not first.any() and (second > 0.9).all() and (third > 0.9).all()


def test_prior_mask_is_fed_as_the_previous_one():
    prior = np.zeros((100, 100), np.float32)
    prior[40:60, 40:60] = 1
    network = Network(nothing)
    ZoomSegmenter(network, ZoomSettings(window=32, max_passes=1, min_side_px=16))(
        np.zeros((100, 100), np.float32), (1, 1), prompts(prior=prior))
    previous = network.seen[0][0, CHANNEL["previous"]]
    assert previous[16, 16] == 1 and previous[0, 0] == 0 and previous.mean() == pytest.approx(1 / 1.6 ** 2, abs=0.05)


def test_context_channels_come_last():
    context = np.zeros((100, 100), np.float32)
    context[:, 50:] = 1
    own = prompts(box=box((30, 30), (70, 70))).with_context((None, context))
    network = Network(nothing)
    ZoomSegmenter(network, ZoomSettings(window=16, max_passes=1), priors=2)(np.zeros((100, 100)), (1, 1), own)
    fused = network.seen[0][0]
    assert len(fused) == 1 + len(PROMPT_CHANNELS) + 2
    assert not fused[-2].any() and fused[-1, :, -1].all() and not fused[-1, :, 0].any()


@pytest.mark.parametrize("dims", [2, 3])
def test_same_prompts_same_bits(dims):
    own = prompts(dims, positive=[(30,) * dims, (35,) * dims], negative=[(10,) * dims])
    answers = [look(own, (60, 50, 40)[:dims], answer=bright, window=16, max_passes=3) for _ in range(2)]
    np.testing.assert_array_equal(answers[0].probability, answers[1].probability)
    assert answers[0].window == answers[1].window and answers[0].history == answers[1].history


# Clicks are obeyed

def decode(answer, dimensions, shape, *clicks):
    """Mask of one object on a fresh image."""
    grid = Grid(shape, np.diag([0.9, 1.1, 2.3, 1.0]))
    predictor = InteractivePredictor(Network(answer), dimensions, ZoomSettings(window=24, min_side_px=12.0))
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    state = predictor.encode(Volume(data, grid))
    points = tuple(Point(tuple(map(float, place)), sign, space="voxel") for place, sign in clicks)
    return predictor.decode(state, PromptSet(points))[1]


@pytest.mark.parametrize("dimensions, shape", [(2, (70, 90, 1)), (3, (50, 40, 30)), (3, (60, 60, 5))])
def test_negative_click_removes_its_place(dimensions, shape):
    for seed in range(8):
        positive, negative = np.random.default_rng(seed).integers(0, shape, (2, 3))
        if np.abs(positive - negative).max() < 4:
            continue
        answer = decode(everything, dimensions, shape, (positive, True), (negative, False))
        assert not answer.mask[tuple(negative)] and answer.mask[tuple(positive)]


@pytest.mark.parametrize("dimensions, shape", [(2, (70, 90, 1)), (3, (50, 40, 30)), (3, (60, 60, 5))])
def test_positive_click_keeps_its_place(dimensions, shape):
    for seed in range(8):
        first, second = np.random.default_rng(seed).integers(0, shape, (2, 3))
        answer = decode(nothing, dimensions, shape, (first, True), (second, True))
        assert answer.mask[tuple(first)] and answer.mask[tuple(second)]


def test_clicks_between_voxels():
    answer = decode(everything, 3, (50, 40, 30), ((20, 20, 15), True), ((30.4, 25.4, 9.6), False))
    assert not answer.mask[30, 25, 10]


# Helpers

def test_bounds_by_hand():
    mask = np.zeros((6, 7, 8), bool)
    mask[2:4, 3, 5:] = True
    low, high = bounds(mask)
    assert low.tolist() == [1.5, 2.5, 4.5] and high.tolist() == [3.5, 3.5, 7.5]
    assert bounds(np.zeros((3, 3), bool)) is None


def test_look_on_another_window():
    """The same pixels where both windows agree, 0 where the look did not reach."""
    values = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    seen = Look(Window((10.0, 20.0), (2.0, 2.0), (8, 8)), values, 0.9)
    np.testing.assert_allclose(resample_look(seen, seen.window), values, atol=1e-6)
    moved = resample_look(seen, Window((14.0, 12.0), (2.0, 2.0), (8, 8)))
    np.testing.assert_allclose(moved[:6, 4:], values[2:, :4], atol=1e-6)
    assert not moved[6:].any() and not moved[:, :4].any()


def test_overlap_of_looks_in_image_area():
    """A square of 4 x 4 voxels, seen with steps 1 and 2 and beside another of 4 x 4 that shares half of it."""
    def seen(origin, step, shape, *rows):
        probability = np.zeros(shape, np.float32)
        probability[tuple(slice(*r) for r in rows)] = 1
        return Look(Window(origin, step, shape), probability, 0.9)

    fine = seen((0.0, 0.0), (1.0, 1.0), (12, 12), (4, 8), (4, 8))
    half = seen((0.0, 0.0), (1.0, 1.0), (12, 12), (4, 8), (6, 10))
    coarse = seen((0.5, 0.5), (2.0, 2.0), (6, 6), (2, 4), (2, 4))
    empty = seen((0.0, 0.0), (1.0, 1.0), (12, 12), (0, 0), (0, 0))
    assert overlap(fine, fine) == 1 and overlap(fine, empty) == 0 and overlap(empty, empty) == 0
    assert overlap(fine, half) == pytest.approx(1 / 3)
    assert overlap(fine, coarse) == overlap(coarse, fine) > 0.7
