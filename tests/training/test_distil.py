"""Distillation: what is regressed, that it learns, and which part trains when."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from promptzoo.core.errors import BundleError, NotFoundError
from promptzoo.core.seeding import generator
from promptzoo.networks.efficient_sam import EfficientSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.distil import DistilUpdate, regression_loss, teacher_of, varied
from promptzoo.training.sam import SamLoss

from .test_sam import disk


@pytest.fixture
def engine():
    """What ignite gives to an update, around a tiny student."""
    torch.manual_seed(0)
    network = EfficientSam(size=64, hidden=32, student={"widths": [8, 8, 16, 16, 16], "depths": [1, 1, 1, 1]})
    return SimpleNamespace(network=network, loss_function=SamLoss(), fire_event=lambda _: None,
                           optimizer=torch.optim.AdamW(network.parameters(), 3e-3),
                           state=SimpleNamespace(device=torch.device("cpu"), iteration=1))


@pytest.fixture
def teacher():
    """A tiny frozen teacher."""
    torch.manual_seed(1)
    return PromptableSam(size=64, channels=(8, 8, 16, 16, 16), hidden=32).eval().requires_grad_(False)


def test_the_loss_is_zero_for_the_teacher_and_does_not_depend_on_its_scale():
    torch.manual_seed(0)
    wanted = [torch.randn(2, 4, 8, 8), torch.randn(2, 3, 16, 16)]
    other = [torch.randn_like(t) for t in wanted]
    assert float(regression_loss(wanted, wanted)) == pytest.approx(0.0, abs=1e-5)
    scaled = regression_loss([5 * t for t in other], [5 * t for t in wanted])
    assert float(scaled) == pytest.approx(float(regression_loss(other, wanted)), rel=1e-4)
    with pytest.raises(BundleError, match="outputs of the student"):
        regression_loss(other[:1], wanted)


def test_windows_are_varied_within_their_range_and_repeatably():
    images = torch.rand(6, 1, 32, 32) * 2 - 1
    first, again = (varied(images, generator(3, 0)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == images.shape and float(first.abs().max()) <= 1
    assert not torch.equal(first, images)


def test_the_encoder_learns_to_say_what_the_teacher_says(engine, teacher):
    update = DistilUpdate(teacher, WindowAnnotator(), regressed=60, amp=False)
    decoder = {n: p.clone() for n, p in engine.network.named_parameters() if not n.startswith("image_encoder.")}
    before = {n: p.clone() for n, p in teacher.named_parameters()}
    losses = []
    for n in range(40):
        engine.state.iteration = n + 1
        losses.append(update(engine, disk())["loss"])
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3])
    assert all(torch.equal(p, before[n]) for n, p in teacher.named_parameters())
    assert all(torch.equal(p, decoder[n]) for n, p in engine.network.named_parameters() if n in decoder)


@pytest.mark.parametrize("train_decoder", [True, False])
def test_prompts_come_after_the_regression(engine, teacher, train_decoder):
    update = DistilUpdate(teacher, WindowAnnotator(first=(1.0, 0, 0, 0, 0)), 1, rounds=(1.0,), amp=False,
                          train_decoder=train_decoder)
    assert update(engine, disk())["dice_per_round"] == []
    before = {name: value.clone() for name, value in engine.network.named_parameters()}
    engine.state.iteration = 2
    assert len(update(engine, disk())["dice_per_round"]) == 1
    moved = {name for name, value in engine.network.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("image_encoder.") for name in moved)
    assert any(name.startswith("mask_decoder.") for name in moved) is train_decoder


def test_a_teacher_is_any_bundle_with_an_encoder():
    network = teacher_of("sam_box_finetune")
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    with pytest.raises(NotFoundError):
        teacher_of("no_such_bundle")
