"""Iterative training and its validation: reproducible, with memory, with priors."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.networks.interactive_unet import InteractiveUNet
from promptzoo.prompts.encoders import PROMPT_CHANNELS
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.context import SimulatedContext
from promptzoo.training.dataset import ProceduralDataset
from promptzoo.training.loss import InteractionLoss
from promptzoo.training.update import InteractiveUpdate
from promptzoo.training.validation import InteractiveEvaluation

P = len(PROMPT_CHANNELS)


@pytest.fixture(scope="module")
def batch():
    return ProceduralDataset(2, 1, 3, 32, seed=2)[0]


def engine(loss=None, iteration=1, **options):
    """What a trainer looks like to its update."""
    torch.manual_seed(0)
    network = InteractiveUNet(2, (8, 16, 24), **options)
    return SimpleNamespace(
        state=SimpleNamespace(iteration=iteration, device=torch.device("cpu")), network=network,
        loss_function=loss or InteractionLoss(), optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
        fire_event=lambda event: None)


def trained(update, batch, **options):
    work = engine(**options)
    output = update(work, batch)
    return output, torch.cat([p.detach().flatten() for p in work.network.parameters()])


def same(one, other):
    return one[0]["loss"] == other[0]["loss"] and torch.equal(one[1], other[1])


def test_reproducible(batch):
    """Seed and iteration say everything: the same bits twice, others for another seed or iteration."""
    make = lambda seed: InteractiveUpdate(WindowAnnotator(), seed=seed, amp=False)  # noqa: E731
    first = trained(make(1), batch)
    assert same(first, trained(make(1), batch))
    assert not same(first, trained(make(2), batch))
    assert not same(first, trained(make(1), batch, iteration=2))


@pytest.mark.parametrize("rounds", [1, 3])
def test_output(batch, rounds):
    chances = [float(n == rounds - 1) for n in range(4)]
    output, _ = trained(InteractiveUpdate(WindowAnnotator(), chances, amp=False), batch)
    assert len(output["dice_per_round"]) == rounds and np.isfinite(output["loss"])
    assert output["pred"].shape == output["label"].shape == output["image"].shape


def test_weights_change_in_every_round(batch):
    steps = []
    work = engine()
    work.optimizer.step = lambda: steps.append(1)
    InteractiveUpdate(WindowAnnotator(), [0, 0, 1], amp=False)(work, batch)
    assert len(steps) == 3


class Listener(torch.nn.Module):
    """Stands for a network: keeps the prompt maps it is given."""

    def __init__(self, channels):
        super().__init__()
        self.scale, self.heard, self.channels = torch.nn.Parameter(torch.ones(1)), [], channels

    def forward(self, image, prompts, with_quality):
        assert prompts.shape[1] == self.channels
        self.heard.append(prompts.detach().clone())
        return image * self.scale, self.scale.expand(len(image), 1)


def listen(action, channels=P, loss=None):
    work = engine(loss)
    work.network = Listener(channels)
    work.optimizer = torch.optim.SGD(work.network.parameters(), lr=0.0)
    return work.network, action(work)


def test_the_last_mask_is_fed_back(batch):
    update = InteractiveUpdate(WindowAnnotator(first=(0, 1, 0, 0, 0), forget_previous=0.0), [0, 1], amp=False)
    network, _ = listen(lambda work: update(work, batch))
    first, second = network.heard
    assert not first[:, 0].any()
    assert torch.allclose(second[:, :1], torch.sigmoid(batch["image"]), atol=1e-6)


def test_consistency_reaches_the_loss(batch):
    """The loss hears the earlier probability and where nothing new was said, from the second interaction on."""
    class Loss(InteractionLoss):
        heard = []

        def forward(self, logits, quality, label, before=None, **memory):
            self.heard.append(memory)
            return super().forward(logits, quality, label, before, **memory)

    clicks = WindowAnnotator(first=(1, 0, 0, 0, 0), correct_by=(1, 0, 0))
    listen(lambda work: InteractiveUpdate(clicks, [0, 0, 1], amp=False)(work, batch), loss=Loss(consistency_weight=1.0))
    first, *later = Loss.heard
    assert first == {} and len(later) == 2
    for memory in later:
        assert torch.allclose(memory["earlier"], torch.sigmoid(batch["image"]), atol=1e-6)
        assert 0.3 < memory["far"].mean() < 1.0 and set(memory["far"].unique().tolist()) == {0.0, 1.0}


def test_no_memory_for_the_plain_loss(batch):
    """The default loss is called as before: the consistency option costs nothing when it is off."""
    plain = InteractionLoss(consistency_weight=0.0)
    plain.forward = lambda *arguments: InteractionLoss.forward(plain, *arguments)  # takes no keywords
    listen(lambda work: InteractiveUpdate(WindowAnnotator(), [0, 1], amp=False)(work, batch), loss=plain)


def test_priors_are_the_last_channels(batch):
    context = SimulatedContext(("target", "avoid"), dropout=0.0)
    update = InteractiveUpdate(WindowAnnotator(), [0, 1], amp=False, context=context)
    network, _ = listen(lambda work: update(work, batch), P + 2)
    first, second = (heard[:, P:] for heard in network.heard)
    assert torch.equal(first, second) and not (first[:, :1].bool() & ~batch["label"]).any() and first[:, 0].any()


def test_a_network_with_priors_trains(batch):
    update = InteractiveUpdate(WindowAnnotator(), amp=True, context=SimulatedContext())
    assert np.isfinite(trained(update, batch, prior_channels=2)[0]["loss"])


@pytest.mark.parametrize("context", [None, SimulatedContext(dropout=0.0)])
def test_evaluation(batch, context):
    """One row per window, one column per interaction, the same numbers twice."""
    def run():
        work = engine(prior_channels=0 if context is None else 2)
        return InteractiveEvaluation(clicks=3, seed=5, context=context)(work, batch)

    one, other = run(), run()
    assert one["dice_per_round"].shape == one["estimate_per_round"].shape == (3, 4)
    assert torch.equal(one["dice_per_round"], other["dice_per_round"])
    assert set(one["pred"].unique().tolist()) <= {0.0, 1.0}
