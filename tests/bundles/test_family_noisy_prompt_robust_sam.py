"""Honest small checks of noisy-prompt-robust-sam (families.md, section 5) on the shipped weights."""
import numpy as np
import pytest

from promptzoo.core.seeding import generator
from promptzoo.evaluation.noise import box_iou
from promptzoo.inference import load_predictor
from promptzoo.networks.deltas import read_file
from promptzoo.prompts import Box, Point, PromptSet

from .scenes import scenes

COUNT = 24
SHIFTS = (0.0, 0.2, 0.4)
SYSTEMS = ("desam", "robust-box-sam")


@pytest.fixture(scope="module")
def held_out():
    """Images that training never saw."""
    return scenes(COUNT)


def tight(mask):
    """The true box, ``(low, high)``, half-open."""
    at = np.argwhere(mask)
    return at.min(0).astype(float), at.max(0) + 1.0


def moved(mask, shift, rng):
    """The true box moved by ``shift`` sides along both axes, each way at random, cut to the image."""
    low, high = tight(mask)
    by = shift * (high - low) * np.array([*rng.choice((-1, 1), 2), 0])
    low, high = np.maximum(low + by, 0), np.minimum(high + by, mask.shape)
    return PromptSet((Box(tuple(low), tuple(high), 1, "voxel"),))


def answers(predictor, held_out, shift):
    """One answer per image to equally poor boxes."""
    rng = generator(21, int(100 * shift))
    return [predictor.decode(predictor.encode(volume), moved(mask, shift, rng)).objects[0]
            for volume, mask in held_out]


@pytest.fixture(scope="module")
def measured(held_out):
    """``(name, shift) -> answers`` of the bundle, its variants and the base, made once."""
    from .conftest import BUNDLES

    place = BUNDLES / "noisy_prompt_robust_sam"
    loaded = {"base": load_predictor(BUNDLES / "sam_box_finetune", engine="torch"),
              "default": load_predictor(place, engine="torch"),
              **{name: load_predictor(place, engine="torch", variant=name) for name in SYSTEMS}}
    return {(name, shift): answers(predictor, held_out, shift) for name, predictor in loaded.items()
            for shift in SHIFTS}


def mean_dice(found, held_out, dice):
    """Mean over the images."""
    return float(np.mean([dice(answer.mask, mask) for answer, (_, mask) in zip(found, held_out)]))


def gains(measured, held_out, dice, name):
    """Dice above that of the base, per shift."""
    return [mean_dice(measured[name, shift], held_out, dice) - mean_dice(measured["base", shift], held_out, dice)
            for shift in SHIFTS]


@pytest.mark.parametrize("name", ["default", "desam"])
def test_the_curve_lies_above_the_base_where_boxes_are_poor(bundle, measured, held_out, dice, name):
    """And at exact boxes not below it by more than 0.02."""
    found = gains(measured, held_out, dice, name)
    print(name, np.round(found, 3))
    assert found[2] >= 0.01 and found[1] >= 0.02 and found[0] >= -0.02, np.round(found, 3).tolist()


def test_the_curve_of_robust_box_lies_above_the_base(bundle, measured, held_out, dice):
    """Boxes that are half right gain 0.031, exact ones lose 0.013; of boxes that are a quarter right hardly any is
    understood (0.003). On 40 real objects (docs/README.md): 0.060, -0.015, 0.018."""
    found = gains(measured, held_out, dice, "robust-box-sam")
    print(np.round(found, 3))
    assert found[1] >= 0.02 and found[2] >= 0.0 and found[0] >= -0.02, np.round(found, 3).tolist()


def overlaps(measured, held_out, shift):
    """Mean overlap (IoU) with the true box of the given and of the corrected boxes."""
    rng, given, found = generator(21, int(100 * shift)), [], []
    for answer, (_, mask) in zip(measured["robust-box-sam", shift], held_out):
        box, used = moved(mask, shift, rng).prompts[0], answer.info["corrected_box"]
        given.append(box_iou((box.low, box.high), tight(mask)))
        found.append(box_iou((used.low, used.high), tight(mask)))
    return np.mean(given), np.mean(found)


def test_the_corrected_box_is_nearer_to_the_truth(bundle, measured, held_out):
    """Measured: 0.574 for 0.523."""
    given, found = overlaps(measured, held_out, 0.2)
    print(given, found)
    assert found >= given + 0.025, f"{found:.3f} against {given:.3f}"


@pytest.mark.xfail(strict=True, reason="0.285 against 0.282 of the given box: of two objects that such a box shows in "
                                       "part, nothing says which one was meant")
def test_a_box_of_which_a_quarter_is_right_is_corrected(bundle, measured, held_out):
    given, found = overlaps(measured, held_out, 0.4)
    print(given, found)
    assert found >= given + 0.05, f"{found:.3f} against {given:.3f}"


def test_robust_box_changes_nothing_but_the_box(bundle):
    """Its delta is the head that moves boxes; what decodes is the base."""
    state, told = read_file(bundle.path / "models" / "robust-box-sam.safetensors")
    assert told["base"] == "sam_box_finetune/models/model.pt"
    assert all(name.startswith("box_refiner.") for name in state)


@pytest.mark.xfail(strict=True, reason="0.510 for boxes moved by 0.4 sides, 0.529 for exact ones: the predicted IoU "
                                       "falls, but by less than 0.02")
def test_a_box_beside_the_object_lowers_the_estimate(bundle, measured):
    good, poor = (np.mean([answer.estimated_dice for answer in measured["desam", shift]]) for shift in (0.0, 0.4))
    print(good, poor)
    assert poor <= good - 0.02, f"{poor:.3f} against {good:.3f}"


def off(mask):
    """The true box moved by 1.2 of its sides along an axis, so that it misses the object; None where none fits."""
    low, high = tight(mask)
    for axis in (0, 1):
        for by in (-1.2, 1.2):
            move = by * np.where(np.arange(3) == axis, high - low, 0)
            if ((low + move >= 0) & (high + move <= mask.shape)).all():
                return PromptSet((Box(tuple(low + move), tuple(high + move), 1, "voxel"),))
    return None


def test_a_box_off_the_object_lowers_the_estimate(bundle, measured, held_out):
    """Measured on the 16 images where such a box fits: 0.532 against 0.570 for the exact box."""
    predictor = load_predictor(bundle.path, engine="torch", variant="desam")
    found = [(predictor.decode(predictor.encode(volume), box).objects[0].estimated_dice, answer.estimated_dice)
             for (volume, mask), answer in zip(held_out, measured["desam", 0.0]) if (box := off(mask)) is not None]
    poor, good = np.mean(found, 0)
    assert len(found) >= 10 and poor <= good - 0.02, f"{poor:.3f} against {good:.3f}"


def test_a_click_anywhere_in_the_object_is_answered_as_well_as_by_the_base(bundle, predictor, held_out, dice):
    from .conftest import BUNDLES

    base, found = load_predictor(BUNDLES / "sam_box_finetune", engine="torch"), []
    rng = generator(23, 0)
    for volume, mask in held_out:
        places = np.argwhere(mask)
        click = PromptSet((Point(tuple(map(float, places[rng.integers(len(places))])), True, 1, "voxel"),))
        found.append([dice(one.decode(one.encode(volume), click).objects[0].mask, mask) for one in (predictor, base)])
    own, plain = np.mean(found, 0)
    print(own, plain)
    assert own >= plain - 0.02, f"{own:.3f} against {plain:.3f}"
