"""The optimiser step: gradients bounded, and thrown away where they are not finite."""
from types import SimpleNamespace

import pytest
import torch

from promptzoo.training.step import mixed_precision, optimise


@pytest.fixture
def engine():
    """What the step needs of a trainer, around a single weight."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    events = []
    return SimpleNamespace(network=network, optimizer=torch.optim.SGD(network.parameters(), 1.0), events=events,
                           state=SimpleNamespace(iteration=7), fire_event=events.append)


def test_gradients_are_bounded(engine):
    optimise(engine, 100 * engine.network(torch.ones(1, 1)).sum(), clip_norm=0.5)
    assert float(engine.network.weight) == pytest.approx(0.5, abs=1e-4) and len(engine.events) == 1


def test_what_is_not_finite_changes_nothing(engine, monkeypatch):
    said = []
    monkeypatch.setattr("promptzoo.training.step.logger.warning", lambda text, *parts: said.append(text % parts))
    optimise(engine, engine.network(torch.full((1, 1), float("nan"))).sum(), clip_norm=0.5)
    assert float(engine.network.weight) == 1.0 and len(engine.events) == 1 and "iteration 7" in said[0]
    optimise(engine, engine.network(torch.ones(1, 1)).sum(), clip_norm=0.5)
    assert float(engine.network.weight) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("amx", [False, True])
def test_volumes_train_in_float32_where_bfloat16_is_not_sound(monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    for shape, wanted, expected in (((1, 1, 8, 8), True, True), ((1, 1, 8, 8, 8), True, amx),
                                    ((1, 1, 8, 8), False, False), ((1, 1, 8, 8, 8), False, False)):
        with mixed_precision(torch.zeros(shape), wanted):
            assert torch.is_autocast_enabled("cpu") is expected, shape
