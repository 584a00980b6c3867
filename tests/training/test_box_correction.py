"""Training of the correction of boxes alone."""
import numpy as np
import pytest
import torch

from promptzoo.training.box_correction import BoxUpdate
from promptzoo.training.noisy import NoisyAnnotator

from .test_noisy import BOXES, make_engine
from .test_sam import disk


def test_boxes_come_nearer_and_nothing_else_changes():
    engine = make_engine(False)
    before = {name: value.clone() for name, value in engine.network.state_dict().items()}
    annotator = NoisyAnnotator(first=BOXES, clean=0.0, shift=0.3, scale=0.1)
    update, curves = BoxUpdate(annotator, amp=False, consistency=0.5, drawings=1), []
    for n in range(24):
        engine.state.iteration = n + 1
        curves.append(update(engine, disk())["dice_per_round"])
    given, once, twice = np.mean(curves[-8:], 0)
    assert once > given + 0.1 and twice > given + 0.1, (given, once, twice)
    after = engine.network.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"box_refiner"}


def test_the_jitters_of_a_box_are_pulled_together():
    """With a heavy weight the agreement is the whole loss."""
    losses = []
    for weight in (0.0, 100.0):
        engine = make_engine(False)
        losses.append(BoxUpdate(NoisyAnnotator(first=BOXES), amp=False, consistency=weight)(engine, disk())["loss"])
    assert losses[1] > losses[0] + 1
    assert BoxUpdate(NoisyAnnotator(first=BOXES), amp=False, consistency=100.0, jitter=1e-9)(
        make_engine(False), disk())["loss"] == pytest.approx(losses[0], rel=0.5)
