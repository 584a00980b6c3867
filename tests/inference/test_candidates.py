"""Candidates of a decoder, which of them is answered, and everything in an image, on made-up networks."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError, PromptError
from promptzoo.core.geometry import Grid, box_iou
from promptzoo.core.volume import Volume
from promptzoo.inference.candidates import Candidates, enlarged
from promptzoo.inference.everything import Everything, stability_of
from promptzoo.inference.looks import bounds
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts, dice_of_iou
from promptzoo.inference.sam_inferer import SamInferer
from promptzoo.prompts.types import Box, Point, PromptSet

SIDE = 64
NOTHING = ObjectPrompts(*[np.zeros((0, 2))] * 2, None, *[np.zeros((0, 2))] * 2)


def decode(images, points, labels, dense):
    """A made-up decoder of windows: bright pixels around the first click or the box's centre.

    Candidate 1 is the bright disk of 6 window pixels, 2 all that is bright in a third of the window, 3 the whole
    window; predicted best is the second.
    """
    grids = np.stack(np.indices((SIDE, SIDE)), -1)
    masks, chosen = [], []
    for image, point, label in zip(images[:, 0], points, labels):
        known = point[label >= 0]
        middle = known.mean(0)[::-1] if len(known) else np.full(2, SIDE / 2)
        near = np.linalg.norm(grids - middle, axis=-1)
        found = [(near < 6) & (image > 0), (near < SIDE / 3) & (image > 0), np.ones_like(image, bool)]
        logits = np.stack([np.where(f, 4.0, -4.0) for f in (found[0], *found)])
        masks.append(logits[:, 2::4, 2::4])
        chosen.append(logits[:1])
    ious = np.tile(np.array([0.5, 0.4, 0.8, 0.6], np.float32), (len(images), 1))
    return [np.stack(chosen).astype(np.float32), ious[:, :1], np.stack(masks).astype(np.float32), ious]


def predictor(**more):
    """A predictor around the made-up network."""
    inferer = SamInferer({"window": SIDE, "click_scales": [1.0], "max_passes": 1}, **more)
    return inferer.predictor(SamParts(lambda images: [images], decode))


@pytest.fixture
def volume():
    """Three bright blocks on a dark slice."""
    data = np.zeros((128, 128, 1), np.float32)
    data[20:44, 20:44], data[80:110, 30:50], data[60:90, 80:110] = 100, 100, 100
    return Volume(data, Grid(data.shape, np.eye(4)))


def point(i, j, object_id=1):
    """A click."""
    return Point((i, j, 0), True, object_id, "voxel")


def test_enlarging_keeps_pixel_centres():
    ramp = np.arange(8, dtype=np.float32)[:, None].repeat(8, 1)
    large = enlarged(ramp, (32, 32))
    assert large.shape == (32, 32) and large[0, 0] == 0 and large[2:6, 0] == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_rules_pick_what_they_say():
    window = Window((0.0, 0.0), (1.0, 1.0), (8, 8))
    logits = np.stack([np.full((4, 4), v, np.float32) for v in (-2.0, 2.0, 6.0)])
    found = Candidates.of(window, logits, np.array([0.2, 0.9, 0.4]), NOTHING)
    chance, iou = found.pick("predicted")
    assert chance[0, 0] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5) and iou == pytest.approx(0.9)
    assert found.pick("first")[0][0, 0] < 0.2 and found.pick("mean")[1] == pytest.approx(0.5)
    assert found.pick("mean")[0][0, 0] == pytest.approx(found.chances[:, 0, 0].mean())
    with pytest.raises(BundleError, match="selection of candidates: got best; allowed: predicted, mean, first"):
        found.pick("best")


def test_candidates_come_back_on_the_images_grid(volume):
    plain = predictor()
    state = plain.encode(volume)
    offer = plain.offer(state, PromptSet((point(30, 30),)))
    found = offer.candidates
    assert len(found) == 3 and [round(c.info["predicted_iou"], 2) for c in found] == [0.4, 0.8, 0.6]
    assert all(c.mask.shape == volume.grid.shape and c.mask[30, 30, 0] for c in found)
    sizes = [int(c.mask.sum()) for c in found]
    assert sizes == sorted(sizes) and sizes[2] == 128 * 128
    assert found[1].estimated_dice == pytest.approx(dice_of_iou(0.8))
    decoded = plain.decode(state, PromptSet((point(30, 30),))).objects[0]
    assert np.array_equal(offer.answer.mask, decoded.mask) and offer.answer.estimated_dice == decoded.estimated_dice
    nothing = plain.offer(state, PromptSet((Point((30, 30, 0), False, 1, "voxel"),)))
    assert nothing.candidates == () and not nothing.answer.mask.any()
    with pytest.raises(PromptError, match="objects to offer candidates for"):
        plain.offer(state, PromptSet((point(30, 30), point(90, 40, 2))))


def test_candidates_are_of_one_slice():
    volume = Volume(np.random.default_rng(0).normal(size=(64, 64, 3)), Grid((64, 64, 3), np.diag([1.0, 1.0, 5.0, 1.0])))
    plain = predictor()
    state = plain.encode(volume)
    found = plain.offer(state, PromptSet((Point((30, 30, 1), True, 1, "voxel"),))).candidates
    assert all(not c.mask[:, :, (0, 2)].any() for c in found) and found[2].mask[:, :, 1].all()
    with pytest.raises(PromptError, match="slices to offer candidates for"):
        plain.offer(state, PromptSet((Box((10, 10, 0), (20, 20, 3), 1, "voxel"),)))
    with pytest.raises(PromptError, match="slice to segment everything on: got None; allowed: 0 to 2"):
        plain.everything(state)
    assert all(not m.mask[:, :, :2].any() for m in plain.everything(state, Everything(3, 1, 0, 0), 2))


def test_the_selection_is_the_answer(volume):
    prompts = PromptSet((point(30, 30),))
    state = predictor().encode(volume)
    offered = predictor().offer(state, prompts).candidates
    answers = {rule: predictor(selection=rule).decode(state, prompts).objects[0] for rule in ("predicted", "first")}
    assert np.array_equal(answers["predicted"].mask, offered[1].mask)
    assert np.array_equal(answers["first"].mask, offered[0].mask)
    assert answers["predicted"].estimated_dice == pytest.approx(dice_of_iou(0.8))
    assert answers["predicted"].info["windows"][0][-1] == "predicted"
    mean = predictor(selection="mean").decode(state, prompts).objects[0]
    assert np.array_equal(mean.mask, np.mean([c.full_probability() for c in offered], 0) >= 0.5)


def test_settings_that_cannot_be():
    with pytest.raises(BundleError, match="selection of candidates"):
        SamInferer(selection="best")
    with pytest.raises(BundleError, match="beside many boxes"):
        SamInferer(selection="mean", multibox={})
    for wrong in ({"points_per_side": 0}, {"iou": 1.5}, {"crops": 0}, {"overlap": -0.1}):
        with pytest.raises(BundleError, match="settings of everything"):
            Everything(**wrong)


@pytest.mark.parametrize("crops", [1, 2])
def test_everything_finds_each_thing_once(volume, crops):
    settings = Everything(8, crops, iou=0.75, stability=0.5)  # only the second candidates pass
    found = predictor().everything(predictor().encode(volume), settings)
    truth = volume.data > 50
    for place in ((30, 30), (95, 40), (75, 95)):
        holding = [m for m in found if m.mask[place][0]]
        assert holding and max(2 * (m.mask & truth).sum() / (m.mask.sum() + truth.sum()) for m in holding) > 0.2
    boxes = [np.stack(bounds(m.mask[..., 0])) for m in found]
    assert all(box_iou(a, b) <= 0.75 for n, a in enumerate(boxes) for b in boxes[:n])
    assert [m.object_id for m in found] == list(range(1, len(found) + 1))
    assert all(m.info["stability"] >= 0.5 and m.info["predicted_iou"] >= 0.75 for m in found)


def test_everything_filters(volume):
    state = predictor().encode(volume)
    assert predictor().everything(state, Everything(6, 1, iou=0.9)) == ()
    whole = predictor().everything(state, Everything(4, 1, iou=0.5, stability=0, most=1.0))
    assert any(m.mask.all() for m in whole)
    assert not any(m.mask.all() for m in predictor().everything(state, Everything(4, 1, iou=0.5, stability=0)))
    crops = predictor().everything(state, Everything(4, 3, iou=0.5, stability=0))
    assert not any(0.05 < m.mask.mean() and m.info["predicted_iou"] < 0.7 for m in crops), "a filled crop is cut by it"


def test_stability_and_boxes():
    logits = np.array([[-2.0, -0.5, 0.5, 2.0]])
    assert stability_of(logits, 1.0) == pytest.approx(1 / 3) and stability_of(logits - 5, 1.0) == 0.0
    a, b = np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[1.0, 0.0], [3.0, 2.0]])
    assert box_iou(a, b) == pytest.approx(1 / 3) and box_iou(a, a + 5) == 0.0
