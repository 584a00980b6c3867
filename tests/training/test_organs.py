"""Organs of procedural and openly licensed torsos as training data; training on all classes at once."""
import types

import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.inference.classes import slice_window
from promptzoo.training import organs
from promptzoo.training.classes import ClassEvaluation, ClassLoss, ClassUpdate, class_dice
from promptzoo.training.organs import ORGANS, OrganSlices, nearest, organ_of, varied


@pytest.fixture
def boxes(monkeypatch):
    """Torsos that are two bright blocks, the liver and the right lung; no anatomy has to be built."""
    def torso(seed):
        rng = np.random.default_rng(seed)
        data, labels = rng.normal(-80, 5, (40, 32, 12)).astype(np.float32), np.zeros((40, 32, 12), np.uint8)
        for organ, low in (("liver", (6, 8)), ("lung right", (24, 14))):
            place = (slice(low[0], low[0] + 10), slice(low[1], low[1] + 12), slice(2, 10))
            data[place], labels[place] = 120, 1 + ORGANS.index(organ)
        return data, labels, np.array([3.0, 3.0, 5.0])

    monkeypatch.setattr(organs, "torso", torso)


def test_names_of_organs():
    assert organ_of("lung upper lobe left") == "lung left" and organ_of("liver") == "liver"
    assert organ_of("lung tumour") is None and organ_of("rib left 1") is None


def test_a_procedural_torso_has_the_organs():
    data, labels, spacing = organs.torso(3)
    assert data.shape == labels.shape and data.min() < -500 and (spacing > 2).all()
    assert len(np.unique(labels)) >= 7
    right, left = (np.argwhere(labels == 1 + ORGANS.index(f"lung {side}")).mean(0) for side in ("right", "left"))
    assert right[0] > left[0] + 20  # RAS+: the first axis runs to the right


def test_slices(boxes):
    slices = OrganSlices(6, 3, 32, seed=1)
    item, again = slices[2], slices[2]
    assert torch.equal(item["image"], again["image"]) and torch.equal(item["label"], again["label"])
    assert item["image"].shape == item["label"].shape == (3, 1, 32, 32) and item["label"].dtype == torch.int64
    seen = set(np.unique(np.concatenate([slices[n]["label"] for n in range(6)])))
    assert seen == {0, 1, 1 + ORGANS.index("lung right")}
    with pytest.raises(IndexError):
        slices[6]
    with pytest.raises(PromptZooError, match="number of scenes"):
        OrganSlices(0)


def test_labels_on_a_window():
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    window = slice_window((3, 4), (1.0, 1.0), 4)
    found = nearest(window, labels)
    assert found.shape == (4, 4) and found.max() == 11 and set(found[0]) <= {0, 1, 2, 3}


def test_contrast_stays_in_range():
    image = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    value = varied(image, np.random.default_rng(0))
    assert value.dtype == np.float32 and value.min() >= -1 and value.max() <= 1


def test_dice_of_classes_by_hand():
    label = torch.tensor([[[[0, 1], [1, 2]]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[[0, 1], [0, 2]]]), 4).permute(0, 3, 1, 2).float()
    assert torch.allclose(class_dice(logits, label), torch.tensor([2 / 3, 1.0]))


def test_a_step_lowers_the_loss(boxes):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 16, 5, 4, 2), torch.nn.ReLU(), torch.nn.Conv2d(16, 9, 3, 1, 1))
    engine = types.SimpleNamespace(network=network, loss_function=ClassLoss(), fire_event=lambda event: None,
                                   optimizer=torch.optim.Adam(network.parameters(), 0.01),
                                   state=types.SimpleNamespace(device="cpu", iteration=1))
    batch, update = OrganSlices(1, 4, 32)[0], ClassUpdate(amp=False)
    losses = [update(engine, batch)["loss"] for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    found = ClassEvaluation()(engine, batch)
    assert found["pred"].shape == found["label"].shape == (4, 9, 32, 32)
