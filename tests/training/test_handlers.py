"""Averaged weights, small files and the training curve."""
import json

import pytest
import torch
from ignite.engine import Engine

from promptzoo.training.handlers import AveragedWeights, CurveLog, SaveSmall, UpdateAverage


def linear(value):
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(net.weight, value)
    return net


def test_average():
    """By hand: half of the distance after each of two iterations."""
    net = linear(0.0)
    average = AveragedWeights(net, momentum=0.5, warmup_iterations=1, warmup_momentum=0.5)

    def step(engine, batch):
        torch.nn.init.constant_(net.weight, 1.0)

    trainer = Engine(step)
    UpdateAverage(average).attach(trainer)
    trainer.run([0, 0], max_epochs=1)
    assert average.network.weight.item() == pytest.approx(0.75) and net.weight.item() == 1.0
    assert not average.network.weight.requires_grad


def test_average_begins_with_the_network():
    assert AveragedWeights(linear(3.0)).network.weight.item() == 3.0


@pytest.mark.parametrize("half, dtype", [(True, torch.float16), (False, torch.float32)])
def test_save_small(tmp_path, half, dtype):
    net = torch.nn.Sequential(linear(0.5), torch.nn.BatchNorm1d(1))
    file = tmp_path / "models" / "net.pt"
    trainer = Engine(lambda engine, batch: None)
    SaveSmall(net, str(file), half).attach(trainer)
    trainer.run([0], max_epochs=2)
    state = torch.load(file, weights_only=True)
    assert state["0.weight"].dtype == dtype and float(state["0.weight"]) == 0.5
    assert state["1.num_batches_tracked"].dtype == torch.int64
    assert net[0].weight.dtype == torch.float32
    assert [f.name for f in file.parent.iterdir()] == ["net.pt"]  # no temporary file stays behind


def test_curve(tmp_path, capsys):
    """Means since the last line; rounds that some iterations did not reach are averaged over those that did."""
    outputs = iter([{"loss": 1.0, "dice_per_round": [0.2]}, {"loss": 3.0, "dice_per_round": [0.4, 0.8]},
                    {"loss": 5.0, "dice_per_round": [0.6]}, {"loss": 5.0, "dice_per_round": [0.6]}])
    trainer = Engine(lambda engine, batch: next(outputs))
    CurveLog(str(tmp_path / "run" / "train.jsonl"), every=2).attach(trainer)
    trainer.run([0] * 4, max_epochs=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "train.jsonl").read_text().splitlines()]
    assert lines == [{"iteration": 2, "loss": 2.0, "dice": [0.3, 0.8]}, {"iteration": 4, "loss": 5.0, "dice": [0.6]}]
    assert len(capsys.readouterr().out.splitlines()) == 2
