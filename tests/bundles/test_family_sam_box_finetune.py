"""Honest small checks of sam-box-finetune (families.md, section 1) on the shipped weights."""
import numpy as np
import pytest
from scipy.stats import spearmanr

from promptzoo.core.seeding import generator
from promptzoo.prompts import Point, PromptSet
from promptzoo.prompts.simulators import clicks

from .scenes import box_of, dice_of_kidneys, ellipse_in, scenes

COUNT = 40


@pytest.fixture(scope="module")
def held_out():
    """Images that training never saw."""
    return scenes(COUNT)


def _dices(predictor, held_out, dice, prompts):
    return np.array([dice(predictor.decode(predictor.encode(volume), prompts(mask)).objects[0].mask, mask)
                     for volume, mask in held_out])


@pytest.mark.xfail(strict=True, reason="weights 0.1.0: 0.64 against 0.64 of the ellipse on small, noisy scenes; 0.764 "
                                       "against 0.754 on real images")
def test_it_knows_more_than_the_box(bundle, predictor, held_out, dice):
    """With the same boxes it beats what a box says without the image (there is no frozen SAM without a network)."""
    found = _dices(predictor, held_out, dice, box_of).mean()
    plain = np.mean([dice(ellipse_in(mask), mask) for _, mask in held_out])
    assert found >= plain + 0.05, f"{found:.3f} against {plain:.3f}"


def test_a_box_on_another_organ_returns_that_organ(bundle, predictor, dice):
    for name, own, other in dice_of_kidneys(predictor):
        assert own > 0.7 and other < 0.05, name


def test_dice_falls_slowly_with_jitter(bundle, predictor, held_out, dice):
    """Tight boxes are best, a fifth of the side off is worst, a tenth costs little."""
    curve = []
    for shift in (0.0, 0.1, 0.2):
        rng = generator(5, int(100 * shift))
        curve.append(_dices(predictor, held_out, dice, lambda mask: box_of(mask, shift, rng=rng)).mean())
    assert curve[0] >= curve[1] >= curve[2] - 0.01 and curve[0] - curve[1] <= 0.08, np.round(curve, 3).tolist()


def test_a_loose_box_costs_little(bundle, predictor, held_out, dice):
    """A box grown by a tenth of its side at every face."""
    tight = _dices(predictor, held_out, dice, box_of).mean()
    loose = _dices(predictor, held_out, dice, lambda mask: box_of(mask, grow=0.1)).mean()
    assert tight - loose <= 0.10, f"{tight:.3f} against {loose:.3f}"


def test_corrections_and_candidates(bundle, predictor, held_out, dice):
    """A click on an error after the box does not hurt on average (weights 0.1.0: 0.643 after 0.644); the estimate
    follows the truth."""
    before, after, estimates = [], [], []
    for volume, mask in held_out:
        state, prompts = predictor.encode(volume), box_of(mask)
        first = predictor.decode(state, prompts)
        before.append(dice(first.objects[0].mask, mask))
        estimates.append(first.objects[0].estimated_dice)
        found = clicks.next_click((mask & ~first.objects[0].mask)[..., 0], (first.objects[0].mask & ~mask)[..., 0],
                                  generator(1, 0))
        if found is None:  # nothing is wrong
            after.append(before[-1])
            continue
        more = PromptSet((*prompts.prompts, Point((*map(float, found[0]), 0.0), bool(found[1]), 1, "voxel")))
        after.append(dice(predictor.decode(state, more, first).objects[0].mask, mask))
    assert np.mean(after) >= np.mean(before) - 0.015
    assert spearmanr(estimates, before)[0] > 0.2
