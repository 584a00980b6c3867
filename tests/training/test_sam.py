"""Training of SAM-like networks: the loss picks candidates, an update learns, frozen encoders stay."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.networks.sam import PromptableSam
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.sam import SamEvaluation, SamLoss, SamUpdate


def disk(size=64, radius=14):
    """A bright disk on noise, and its mask."""
    rows, columns = np.indices((size, size)) - size / 2
    mask = rows ** 2 + columns ** 2 <= radius ** 2
    image = np.where(mask, 0.6, -0.6) + np.random.default_rng(0).normal(0, 0.1, mask.shape)
    return {"image": torch.tensor(image, dtype=torch.float32)[None, None].repeat(4, 1, 1, 1),
            "label": torch.tensor(mask)[None, None].repeat(4, 1, 1, 1)}


@pytest.fixture
def engine():
    """What ignite gives to an update, around a tiny network."""
    torch.manual_seed(0)
    network = PromptableSam(size=64, channels=(8, 8, 16, 16, 16), hidden=32)
    return SimpleNamespace(network=network, loss_function=SamLoss(), fire_event=lambda _: None,
                           optimizer=torch.optim.AdamW(network.parameters(), 3e-3),
                           state=SimpleNamespace(device=torch.device("cpu"), iteration=1))


def test_only_the_best_candidate_counts_for_an_ambiguous_prompt():
    loss, label = SamLoss(low_weight=1.0, iou_weight=0.0), torch.zeros(1, 1, 16, 16)
    label[..., 4:12, 4:12] = 1
    right = (10 * (2 * label - 1))[..., ::4, ::4]
    wrong = -right
    masks = torch.cat([wrong, right, wrong, wrong], 1)
    logits, ious = 10 * (2 * label - 1), torch.zeros(1, 4)
    doubt, sure = (float(loss(logits, masks, ious, label, torch.tensor([flag]))) for flag in (True, False))
    assert doubt < sure


def test_the_predicted_iou_is_trained_towards_the_true_one():
    loss, label = SamLoss(), torch.ones(1, 1, 16, 16)
    masks = torch.full((1, 4, 4, 4), 9.0)
    good, bad = (float(loss(label * 9, masks, torch.full((1, 4), value), label, torch.tensor([False])))
                 for value in (1.0, 0.0))
    assert bad - good == pytest.approx(0.5, abs=1e-4)


def test_an_update_learns_and_evaluation_sees_it(engine):
    update = SamUpdate(WindowAnnotator(first=(1.0, 0, 0, 0, 0)), rounds=(1.0,), amp=False)
    losses = []
    for n in range(25):
        engine.state.iteration = n + 1
        losses.append(update(engine, disk())["loss"])
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    curve = SamEvaluation(clicks=1)(engine, disk())["dice_per_round"]
    assert curve.shape == (4, 2) and float(curve[:, 0].mean()) > 0.5


def test_a_frozen_encoder_stays(engine):
    before = {name: value.clone() for name, value in engine.network.image_encoder.state_dict().items()}
    SamUpdate(WindowAnnotator(), amp=False, train_encoder=False)(engine, disk())
    after = engine.network.image_encoder.state_dict()
    grads = [p.grad for p in engine.network.image_encoder.parameters()]
    assert all(g is None for g in grads) and all(torch.equal(before[name], after[name]) for name in before)
