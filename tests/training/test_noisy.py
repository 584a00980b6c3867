"""Training with poor prompts: the annotator's noise, the losses, and updates that learn masks and boxes."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.core.seeding import generator
from promptzoo.networks.desam import NoiseRobustSam
from promptzoo.training.noisy import BoxLoss, DecoupledLoss, NoisyAnnotator, NoisyUpdate, disagreement, noisy_box
from promptzoo.training.sam import SamLoss

from .test_sam import disk

BOXES = (1.0, 0.0, 0.0, 0.0, 0.0)


def make_engine(decoupled):
    """What ignite gives to an update, around a tiny network."""
    torch.manual_seed(0)
    network = NoiseRobustSam(64, (8, 8, 16, 16, 16), 64, decoupled=decoupled)
    return SimpleNamespace(network=network, loss_function=DecoupledLoss() if decoupled else SamLoss(),
                           fire_event=lambda _: None, optimizer=torch.optim.AdamW(network.parameters(), 3e-3),
                           state=SimpleNamespace(device=torch.device("cpu"), iteration=1))


def test_boxes_are_as_far_off_as_told():
    truth = np.zeros((64, 64), bool)
    truth[20:40, 10:50] = True
    rng = generator(0, 0)
    exact = NoisyAnnotator(first=BOXES, clean=1.0).start(truth, rng).box
    assert np.allclose(exact, [(19.5, 9.5), (39.5, 49.5)])
    drawn = [NoisyAnnotator(first=BOXES, clean=0.0, shift=0.3, scale=0.2).start(truth, rng).box for _ in range(300)]
    middle = np.array([(low + high) / 2 for low, high in drawn]) - (29.5, 29.5)
    sides = np.array([high - low for low, high in drawn]) / (20, 40)
    assert np.abs(middle / (20, 40)).max() <= 0.3 and np.abs(middle / (20, 40)).max() > 0.2
    assert np.exp(-0.2) <= sides.min() < 0.9 and 1.1 < sides.max() <= np.exp(0.2)


def test_first_clicks_lie_anywhere_in_the_object():
    truth = np.zeros((32, 32), bool)
    truth[4:28, 4:28] = True
    clicks = [NoisyAnnotator(first=(0, 1.0, 0, 0, 0)).start(truth, generator(1, n)).positive for n in range(80)]
    places = np.array([click[0] for click in clicks])
    assert all(len(click) == 1 for click in clicks) and all(truth[tuple(p.astype(int))] for p in places)
    assert places.std(0).min() > 5  # 6.9 for even draws; clicks at the centre would give 0


def test_the_same_generator_draws_the_same_box():
    low, high = np.array([4.0, 4.0]), np.array([14.0, 24.0])
    one, other, third = (noisy_box(low, high, 0.4, 0.3, generator(seed, 0)) for seed in (3, 3, 4))
    assert np.array_equal(one, other) and not np.array_equal(one, third)


def test_the_decoupled_loss_falls_with_better_masks_and_estimates():
    loss, label = DecoupledLoss(), torch.zeros(1, 1, 16, 16)
    label[..., 4:12, 4:12] = 1
    right, unsure = 10 * (2 * label - 1), torch.tensor([False])
    good, poor_mask, poor_estimate = (
        float(loss(logits, logits[..., ::4, ::4], torch.tensor([[iou]]), label, unsure))
        for logits, iou in ((right, 1.0), (-right, 0.0), (right, 0.0)))
    assert good < 0.01 < poor_mask and poor_estimate - good == pytest.approx(1.0, abs=1e-3)


def test_the_box_loss_is_least_at_the_truth():
    loss, truth = BoxLoss(), torch.tensor([[10.0, 10.0, 30.0, 40.0]])
    mask = torch.ones(1, 1, 4, 4)
    exact, near, far = (float(loss(truth + shift, truth, 20 * mask, mask)) for shift in (0.0, 2.0, 15.0))
    assert exact == pytest.approx(0, abs=1e-4) and exact < near < far


def test_disagreement_is_nothing_for_equal_masks():
    mask = torch.full((2, 1, 8, 8), -9.0)
    mask[..., 2:6, 2:6] = 9.0
    assert float(disagreement(mask, mask)) == 0
    assert float(disagreement(mask, mask.roll(4, 2))) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("decoupled", [True, False])
def test_an_update_learns_masks_and_boxes_and_leaves_the_encoder(decoupled):
    engine = make_engine(decoupled)
    before = {name: value.clone() for name, value in engine.network.image_encoder.state_dict().items()}
    update = NoisyUpdate(NoisyAnnotator(first=BOXES), rounds=(1.0,), amp=False, consistency=0.5, twins=0.5)
    losses = []
    for n in range(40):
        engine.state.iteration = n + 1
        losses.append(update(engine, disk())["loss"])
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:4])
    after = engine.network.image_encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert engine.network.box_refiner.faces[-1].weight.abs().max() > 0


def test_masks_alone_teach_the_correction_too():
    """With its own loss off but boxes corrected, gradients of the masks reach it through the corner tokens."""
    engine = make_engine(True)
    torch.nn.init.normal_(engine.network.box_refiner.faces[-1].weight, std=0.1)
    update = NoisyUpdate(NoisyAnnotator(first=BOXES), rounds=(1.0,), amp=False, box_weight=1e-12, keep_given=0.0)
    update(engine, disk())
    assert float(engine.network.box_refiner.reduce.weight.grad.abs().max()) > 1e-8


def test_without_a_correction_boxes_are_taken_as_they_are():
    torch.manual_seed(0)
    engine = make_engine(True)
    engine.network = NoiseRobustSam(64, (8, 8, 16, 16, 16), 64, refine_box=False)
    engine.optimizer = torch.optim.AdamW(engine.network.parameters(), 3e-3)
    assert np.isfinite(NoisyUpdate(NoisyAnnotator(first=BOXES), amp=False)(engine, disk())["loss"])
