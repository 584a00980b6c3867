import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.data.synthesis.cine import FRAMES, SIZE, STRUCTURES, cine
from promptzoo.networks.class_prompt_sam import CLASS
from promptzoo.training.class_prompts import CLASSES, ClassWindows, with_class
from promptzoo.training.stacks import CineStacks, OrganStacks


def test_a_heart_cycle():
    """The cavity shrinks and fills again, the wall thickens and encloses it, and the muscle is darker than blood."""
    data, labels = cine(3)
    assert data.shape == labels.shape == (SIZE, SIZE, FRAMES) and labels.max() == len(STRUCTURES)
    area = (labels == 1).sum((0, 1))
    assert area.min() < 0.85 * area[0] and area[-1] > 1.1 * area.min()
    assert data[labels == 1].mean() > data[labels == 2].mean() + 0.15
    assert np.array_equal(cine(3)[0], data) and not np.array_equal(cine(4)[0], data)


@pytest.mark.parametrize("make", [OrganStacks, CineStacks])
def test_stacks(make):
    dataset = make(3, 2, 64, 3, seed=5)
    item = dataset[1]
    assert item["image"].shape == (2, 3, 64, 64) and item["label"].shape == (2, 1, 64, 64)
    assert item["label"].flatten(1).any(1).all() and item["image"].abs().max() <= 1
    assert not torch.equal(item["image"][:, 0], item["image"][:, 1])
    assert torch.equal(dataset[1]["image"], item["image"])
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(PromptZooError, match="odd"):
        make(3, 2, 64, 4)


def test_boxes_that_need_a_class():
    """A class's box may be drawn around more than the class; without a class it is the target's own."""
    dataset, shared, alone = ClassWindows(12, 64, seed=5), 0, 0
    for n in range(len(dataset)):
        item = dataset[n]
        for kind, label, boxed in zip(item["kind"].tolist(), item["label"], item["boxed"]):
            assert (label & ~boxed).sum() == 0 and -1 <= kind < len(CLASSES)
            if kind == -1:
                assert torch.equal(label, boxed)
                alone += 1
            shared += kind in (1, 2, 3) and bool((boxed & ~label).any())
    assert shared >= 4 and alone >= 1


def test_the_class_s_token_goes_behind_the_others():
    labels = torch.full((2, 16), -1.0)
    labels[0, :2], labels[1, :3] = 2.0, 1.0
    found = with_class(labels, torch.tensor([3, -1]))
    assert found[0, :4].tolist() == [2, 2, CLASS + 3, -1] and torch.equal(found[1], labels[1])
