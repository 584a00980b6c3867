"""Slices with their neighbours, from the volume to the encoder."""
import numpy as np
import pytest
import torch

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.sam import SamParts
from promptzoo.inference.stacked import StackInferer
from promptzoo.inference.state import EncodedImage
from promptzoo.networks.stacked_sam import StackedSam
from promptzoo.prompts import Box, PromptSet

SMALL = {"size": 64, "channels": (8, 16, 16, 24, 32), "hidden": 32, "fine": 8}


@pytest.fixture
def volume():
    """Every slice across the last axis has a ramp of its own slope."""
    data = np.linspace(0, 1, 40)[:, None, None] * np.ones((1, 36, 1)) * (1 + np.arange(5.0))
    return Volume(data.astype(np.float32), Grid(data.shape, np.eye(4)))


def box(k):
    return PromptSet((Box((8.0, 8.0, float(k)), (28.0, 28.0, k + 1.0), 1, "voxel"),))


def test_neighbours_of_a_slice(volume):
    state = EncodedImage.of(volume)
    assert np.array_equal(state.slice(2, 3), state.data[..., 3])
    for index, around in ((0, (0, 0, 1)), (2, (1, 2, 3)), (4, (3, 4, 4))):
        assert np.array_equal(state.slice(2, index, 3), np.moveaxis(state.data[..., list(around)], 2, 0))


@pytest.fixture
def seen():
    """A predictor around a small random network, and the stacks that its encoder saw."""
    torch.manual_seed(0)
    inferer, stacks = StackInferer(3, {"window": 64, "max_passes": 1}), []
    parts = inferer.wrap(StackedSam(3, **SMALL))
    counted = SamParts(lambda images: stacks.append(images) or parts.encode(images), parts.decode)
    return inferer.predictor(counted), stacks


def test_the_encoder_sees_the_slice_and_its_neighbours(volume, seen):
    predictor, stacks = seen
    answer = predictor.decode(predictor.encode(volume), box(2))
    assert [stack.shape for stack in stacks] == [(1, 3, 64, 64)]
    below, middle, above = (plane.mean() for plane in stacks[0][0])
    assert below < middle < above
    assert not np.delete(answer.objects[0].probability, 2, 2).any()


def test_at_the_end_the_last_slice_is_repeated_and_a_picture_stands_for_all(volume, seen):
    predictor, stacks = seen
    predictor.decode(predictor.encode(volume), box(4))
    assert np.array_equal(stacks[0][0, 1], stacks[0][0, 2]) and not np.array_equal(stacks[0][0, 0], stacks[0][0, 1])
    flat = Volume(volume.data[..., :1].copy(), Grid((40, 36, 1), np.eye(4)))
    predictor.decode(predictor.encode(flat), box(0))
    assert np.array_equal(stacks[1][0, 0], stacks[1][0, 1]) and np.array_equal(stacks[1][0, 2], stacks[1][0, 1])


def test_propagation_brings_neighbours_along(volume, seen):
    predictor, stacks = seen
    prompts = PromptSet(box(2).prompts, through_slices=True)
    predictor.decode(predictor.encode(volume), prompts)
    assert stacks and all(stack.shape == (1, 3, 64, 64) for stack in stacks)
    assert all(not np.array_equal(stack[0, 0], stack[0, 2]) for stack in stacks)
