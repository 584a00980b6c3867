"""Targets and loss of the head that finds prompts."""
import numpy as np
import pytest
import torch

from promptzoo.training.auto_prompt import HeadLoss, NucleiDataset, head_targets


def _labels():
    labels = np.zeros((64, 64), np.int32)
    labels[10:22, 8:20], labels[10:22, 20:32], labels[40:50, 40:60] = 1, 2, 3  # the first two touch
    return labels


def test_targets_by_hand():
    told = head_targets(_labels())
    assert told["foreground"].shape == (32, 32) and told["foreground"][8, 4:15].min() == 0  # the seam is background
    assert told["foreground"][7, 7] == 1 and told["foreground"][30, 0] == 0 and told["border"][22, 25] == 0
    tops = np.argwhere(told["centre"] == 1).tolist()
    assert len(tops) == 3
    for row, column, height, width in ((7, 6, 12, 12), (7, 12, 12, 12), (22, 24, 10, 20)):
        near = [top for top in tops if abs(top[0] - row) <= 1 and abs(top[1] - column) <= 1]
        assert len(near) == 1
        assert np.allclose(np.exp(told["size"][:, near[0][0], near[0][1]]), (height, width))
    assert not head_targets(np.zeros((64, 64), np.int32))["centre"].any()


def test_the_loss_prefers_the_truth():
    told = {name: torch.from_numpy(value)[None] for name, value in head_targets(_labels()).items()}
    right = torch.stack([12 * told["foreground"] - 6, 12 * told["centre"] - 6, *told["size"].unbind(1)], 1)
    loss = HeadLoss()
    assert loss(right, told) < 0.4 * loss(torch.zeros_like(right), told)
    shifted = torch.roll(right, 5, 3)
    assert loss(right, told) < 0.4 * loss(shifted, told)


def test_items_are_repeatable_and_bounded():
    data = NucleiDataset(4, (32, 64), seed=2)
    assert torch.equal(data[1]["image"], data[1]["image"])
    assert data[0]["image"].shape == (1, 32, 32) and data[3]["label"].shape == (1, 64, 64)
    with pytest.raises(IndexError, match="4 of 4"):
        data[4]
