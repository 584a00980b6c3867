"""Training of SAM-like networks for volumes: the loss and its edges, and an update that learns."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.networks.inflated import InflatedVolume
from promptzoo.networks.sam3d import PromptableVolume
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.sam import SamEvaluation
from promptzoo.training.sam3d import VolumeLoss, VolumeUpdate, edge_difference, edges, retelling

SMALL = {"channels": (8, 8, 8, 8, 8), "hidden": 16}


def ball(size=32, radius=9.0, at=(16, 16, 16)):
    """A mask ``[1, 1, *S]`` float."""
    grid = np.indices((size,) * 3) - np.reshape(at, (3, 1, 1, 1))
    return torch.tensor((grid ** 2).sum(0) <= radius ** 2, dtype=torch.float32)[None, None]


def batch():
    """Bright balls on noise."""
    label = ball()
    image = 1.2 * label - 0.6 + 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=label.shape)).float()
    return {"image": image.repeat(2, 1, 1, 1, 1), "label": label.bool().repeat(2, 1, 1, 1, 1)}


def engine(kind, loss=None, rate=3e-3):
    """What ignite gives to an update, around a tiny network."""
    torch.manual_seed(0)
    network = kind(**SMALL)
    return SimpleNamespace(network=network, loss_function=loss or VolumeLoss(), fire_event=lambda _: None,
                           optimizer=torch.optim.AdamW(network.parameters(), rate),
                           state=SimpleNamespace(device=torch.device("cpu"), iteration=1))


def test_edges_are_where_the_neighbours_differ():
    found = edges(ball())[0, 0]
    assert not found[16, 16, 16] and not found[0].any() and found[16, 16, 25] > 0.5 > found[16, 16, 26] > 0


def test_edge_difference_by_hand():
    """No difference to itself; of an empty answer all the label's edges are missing, whatever the object's size."""
    small, large = ball(radius=4.0), ball(radius=11.0)
    for label in (small, large):
        assert float(edge_difference(label, label)) == 0
        assert float(edge_difference(torch.zeros_like(label), label)) == pytest.approx(1.0)


def test_the_boundary_term_prefers_a_mask_with_the_right_rim():
    """Of two masks with the same Dice, the one with holes inside has more wrong edges."""
    label = ball(radius=10.0)
    grid = torch.from_numpy(np.indices(label.shape[2:]).astype(np.int64))
    inner = ball(radius=7.0)
    pitted = label * (1 - inner * ((grid.sum(0) % 3) == 0).float())
    count = int((label - pitted).sum())
    order = torch.argsort(-((grid - 16) ** 2).sum(0).flatten().float() * label.flatten(), stable=True)[:count]
    peeled = label.flatten().clone()
    peeled[order] = 0
    peeled = peeled.reshape(label.shape)
    assert int(peeled.sum()) == int(pitted.sum())
    assert float(edge_difference(peeled, label)) < float(edge_difference(pitted, label))
    plain, bounded = VolumeLoss(iou_weight=0.0), VolumeLoss(iou_weight=0.0, boundary_weight=1.0)
    logits, iou = 20 * pitted - 10, torch.zeros(1, 1)
    gap = float(bounded(logits, iou, label) - plain(logits, iou, label))
    assert gap == pytest.approx(float(edge_difference(torch.sigmoid(logits), label)), rel=1e-5) and gap > 0.05


def test_the_boundary_term_has_a_gradient():
    logits = torch.zeros(1, 1, 16, 16, 16, requires_grad=True)
    edge_difference(torch.sigmoid(logits + 0.1 * torch.randn(logits.shape)), ball(16, 4.0, (8, 8, 8))).backward()
    assert bool(logits.grad.abs().sum() > 0)


def test_the_predicted_iou_is_trained_towards_the_true_one():
    loss, label = VolumeLoss(), ball()
    logits = 40 * label - 20
    good, bad = (float(loss(logits, torch.full((1, 1), value), label)) for value in (1.0, 0.0))
    assert bad - good == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("kind", [PromptableVolume, InflatedVolume])
def test_an_update_learns_and_evaluation_sees_it(kind):
    one = engine(kind)
    frozen = {name: value.clone() for name, value in one.network.named_parameters() if not value.requires_grad}
    update = VolumeUpdate(WindowAnnotator(first=(0.5, 0.5, 0, 0, 0)), rounds=(0.5, 0.5), amp=False)
    losses = []
    for n in range(30):
        one.state.iteration = n + 1
        losses.append(update(one, batch())["loss"])
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    curve = SamEvaluation(clicks=1)(one, batch())["dice_per_round"]
    assert curve.shape == (2, 2) and float(curve[:, 1].mean()) > 0.6
    assert all(torch.equal(value, one.network.get_parameter(name)) for name, value in frozen.items())


def test_a_balanced_loss_has_more_to_say_to_a_network_that_answers_nothing():
    label, steps = ball(radius=4.0), {}
    for name, loss in (("focal", VolumeLoss(iou_weight=0.0)), ("balanced", VolumeLoss(iou_weight=0.0, balance=5.0))):
        logits = torch.full_like(label, -6.0).requires_grad_()
        loss(logits, torch.zeros(1, 1), label).backward()
        steps[name] = -float(logits.grad[label > 0].mean())
    assert steps["balanced"] > 2 * steps["focal"] > 0


def test_the_encoder_can_be_left_alone_and_tokens_can_be_all_that_is_told():
    one = engine(PromptableVolume)
    before = {name: value.clone() for name, value in one.network.state_dict().items()}
    seen, decode = [], one.network.decode
    one.network.decode = lambda *inputs: seen.append(inputs[-1]) or decode(*inputs)
    update = VolumeUpdate(WindowAnnotator(first=(0.0, 1.0, 0, 0, 0)), rounds=(1.0,), amp=False, tokens_alone=1.0,
                          train_encoder=False)
    update(one, batch())
    changed = {name.split(".")[0] for name, value in one.network.state_dict().items()
               if not torch.equal(value, before[name])}
    assert "mask_decoder" in changed and "image_encoder" not in changed
    assert not any(dense.any() for dense in seen)


def test_tokens_learn_to_retell_where_they_point():
    one, dense = engine(PromptableVolume), torch.zeros(1, 12, 16, 16, 16)
    dense[0, 1, 4:8, 4:8, 4:8] = 1.0
    attended = torch.zeros(1, 16, 4, 4, 4)
    attended[0, 1, 1, 1, 1] = 3.0
    assert float(retelling(attended, dense)) == 0.0 and float(retelling(-attended, dense)) == 36 / (12 * 64)
    update = VolumeUpdate(WindowAnnotator(first=(0.0, 1.0, 0, 0, 0)), rounds=(1.0,), amp=False, retell=1.0)
    loud = update(one, batch())["loss"]
    update.retell = 0.0
    assert loud > update(engine(PromptableVolume), batch())["loss"] + 0.1


def test_the_same_iteration_draws_the_same_prompts():
    update = VolumeUpdate(WindowAnnotator(), amp=False, seed=3)
    first, second = (update(engine(PromptableVolume), batch()) for _ in range(2))
    assert first["loss"] == second["loss"] and torch.equal(first["pred"], second["pred"])
