"""Training of task decoders: windows of tasks, and an update in which each learns its own."""
from types import SimpleNamespace

import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.networks.volume_experts import VolumeExperts
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.sam3d import VolumeLoss
from promptzoo.training.volume_experts import ExpertsUpdate, TaskWindows

SMALL = {"channels": (8, 8, 8, 8, 8), "hidden": 16}


@pytest.mark.parametrize("task", [0, 1, 2])
def test_windows_show_a_structure_of_their_task(task):
    shares = tuple(float(n == task) for n in range(3))
    data = TaskWindows(2, size=32, seed=3, shares=shares)
    item, again = data[1], TaskWindows(2, size=32, seed=3, shares=shares)[1]
    assert item["image"].shape == item["label"].shape == (2, 1, 32, 32, 32) and item["task"].tolist() == [task] * 2
    assert item["image"].dtype == torch.float32 and item["label"].dtype == torch.bool
    assert float(item["image"].abs().max()) <= 1 and bool(item["label"].flatten(1).any(1).all())
    assert all(torch.equal(item[key], again[key]) for key in item)
    assert not torch.equal(item["image"], data[0]["image"])


@pytest.mark.parametrize("wrong", [{"length": 0}, {"length": 3, "shares": (1.0, 1.0)}])
def test_tasks_that_are_none(wrong):
    with pytest.raises(PromptZooError, match="windows of tasks"):
        TaskWindows(**wrong)


def test_each_decoder_learns_its_task_and_the_gate_learns_to_tell_them():
    """Smooth and noisy windows are two tasks; a third one is left to the generalist, who changes in nothing."""
    torch.manual_seed(0)
    network = VolumeExperts(**SMALL)
    engine = SimpleNamespace(network=network, loss_function=VolumeLoss(), fire_event=lambda event: None,
                             state=SimpleNamespace(device="cpu", iteration=1),
                             optimizer=torch.optim.Adam((p for p in network.parameters() if p.requires_grad), 1e-2))
    noise = torch.tensor([0.1, 0.0, 0.6])[:, None, None, None, None]
    image, label = noise * torch.randn(3, 1, 32, 32, 32) - 0.4, torch.zeros(3, 1, 32, 32, 32, dtype=torch.bool)
    label[..., 8:24, 8:24, 8:24] = True
    image += 0.8 * label
    batch = {"image": image, "label": label, "task": torch.tensor([0, 1, 2])}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    update = ExpertsUpdate(WindowAnnotator(first=(0.5, 0.5, 0, 0, 0)), rounds=(1.0,))

    def trust():
        points, labels = torch.zeros(3, 16, 3), torch.full((3, 16), -1.0)
        with torch.inference_mode():
            told = network.image_encoder(image), points, labels, torch.zeros(3, 12, 16, 16, 16)
            gate = network.by_task(batch["task"], *told[0], *told[1:])[2]
        return float(torch.softmax(gate, 1).diagonal().mean())

    losses, trusted = [], trust()
    for n in range(15):
        engine.state.iteration = n + 1
        losses.append(update(engine, batch)["loss"])
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3]) and trust() > trusted + 0.1
    state = network.state_dict()
    assert {name.split(".")[0] for name in state if not torch.equal(state[name], before[name])} == {"experts", "gate"}
