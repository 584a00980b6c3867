"""Procedural chest radiographs."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.training.radiographs import RadiographWindows, radiograph


def test_lungs_are_dark_and_closed_above():
    image, masks = radiograph(5)
    lungs, right, left = masks[:3]
    assert image.shape == lungs.shape and np.array_equal(lungs, right | left)
    body = image > 0.3 * image.max()
    assert image[lungs].mean() < 0.8 * image[body & ~lungs].mean()
    assert not lungs[:, -1].any() and lungs.any(1).sum() > 40
    assert np.argwhere(right).mean(0)[0] > np.argwhere(left).mean(0)[0] + 20 or \
        np.argwhere(left).mean(0)[0] > np.argwhere(right).mean(0)[0] + 20


def test_windows_are_always_the_same():
    windows = RadiographWindows(3, 2, 32, seed=4)
    item, again = windows[1], windows[1]
    assert item["image"].shape == item["label"].shape == (2, 1, 32, 32) and item["label"].flatten(1).any(1).all()
    assert torch.equal(item["image"], again["image"]) and -1 <= item["image"].min() and item["image"].max() <= 1
    with pytest.raises(IndexError):
        windows[3]
    with pytest.raises(PromptZooError, match="number of scenes"):
        RadiographWindows(0)
