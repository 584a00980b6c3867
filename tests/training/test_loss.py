"""The loss of interactive training, term by term, by hand."""
import math

import pytest
import torch

from promptzoo.training.loss import InteractionLoss, hard_dice

HALF = torch.zeros(1, 1, 2, 2)
"""Logits of probability 0.5 everywhere."""
LABEL = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
NEUTRAL = torch.full((1, 1), 0.0)
"""Quality logit of an estimated Dice of 0.5."""
DICE_TERM = 1 - (2 * 1.0 + 1) / (2.0 + 2.0 + 1)
FOCAL_TERM = 0.5 * math.log(2)


def loss(**options):
    weights = {"focal_weight": 0.0, "monotone_weight": 0.0, "quality_weight": 0.0, **options}
    return InteractionLoss(**weights)


def test_dice_term():
    """Intersection 1, sums 2 and 2, smoothing 1: 1 - 3 / 5."""
    total, per_sample = loss()(HALF, NEUTRAL, LABEL)
    assert float(total) == pytest.approx(DICE_TERM) and per_sample.tolist() == pytest.approx([DICE_TERM])


def test_focal_term():
    """Cross-entropy log 2 times the chance of being wrong, 1 / 2."""
    total, _ = loss(focal_weight=2.0)(HALF, NEUTRAL, LABEL)
    assert float(total) == pytest.approx(DICE_TERM + 2.0 * FOCAL_TERM)


def test_quality_term():
    """The masks of logits 0 are empty: Dice 0 against an estimate of 0.5."""
    total, _ = loss(quality_weight=0.5)(HALF, NEUTRAL, LABEL)
    assert float(total) == pytest.approx(DICE_TERM + 0.5 * 0.25)


@pytest.mark.parametrize("before, penalty", [(None, 0.0), (DICE_TERM - 0.1, 0.1), (DICE_TERM + 0.1, 0.0)])
def test_monotone_term(before, penalty):
    """Only getting worse costs, as much as it got worse."""
    earlier = None if before is None else torch.tensor([before])
    total, per_sample = loss(monotone_weight=3.0)(HALF, NEUTRAL, LABEL, earlier)
    assert float(total) == pytest.approx(DICE_TERM + 3.0 * penalty, abs=1e-6)
    assert per_sample.tolist() == pytest.approx([DICE_TERM])  # what the next interaction is compared with


def test_consistency_term():
    """Changes of 0.5 and 0.3 where it counts: the mean of their squares."""
    earlier = torch.tensor([[[[0.0, 0.5], [0.8, 0.1]]]])
    far = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    total, _ = loss(consistency_weight=2.0)(HALF, NEUTRAL, LABEL, earlier=earlier, far=far)
    assert float(total) == pytest.approx(DICE_TERM + 2.0 * (0.25 + 0.09) / 2)


def test_no_consistency_without_new_prompt_or_by_default():
    earlier, nowhere, everywhere = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    assert float(loss(consistency_weight=2.0)(HALF, NEUTRAL, LABEL, None, earlier, nowhere)[0]) == \
        pytest.approx(DICE_TERM)
    assert float(loss(consistency_weight=2.0)(HALF, NEUTRAL, LABEL)[0]) == pytest.approx(DICE_TERM)
    plain = InteractionLoss()
    assert torch.equal(plain(HALF, NEUTRAL, LABEL)[0], plain(HALF, NEUTRAL, LABEL, None, earlier, everywhere)[0])


def test_batch_and_volume():
    logits, label = torch.randn(3, 1, 4, 4, 4), (torch.rand(3, 1, 4, 4, 4) > 0.5).float()
    total, per_sample = InteractionLoss()(logits, torch.zeros(3, 1), label, torch.zeros(3))
    assert total.dim() == 0 and per_sample.shape == (3,) and not per_sample.requires_grad


def test_perfect_is_cheap():
    sure = (LABEL * 2 - 1) * 20
    assert float(InteractionLoss()(sure, torch.full((1, 1), 20.0), LABEL)[0]) < 1e-3


def test_hard_dice():
    logits = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    label = torch.cat([LABEL, torch.zeros_like(LABEL), LABEL])
    assert hard_dice(logits, label).tolist() == pytest.approx([0.5, 1.0, 4 / 6])
