"""SAM-like inference on volumes: windows are encoded once, clicks and boxes are 3D, in any orientation."""
import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.sam import SamParts
from promptzoo.inference.sam3d_inferer import VolumeInferer
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS
from promptzoo.prompts.types import Box, Point, PromptSet

SIDE = 32


class Counting:
    """A network that marks the box's ellipsoid or a ball around the first click, and counts what it is asked."""

    def __init__(self):
        self.encoded, self.points = 0, []

    def encode(self, images):
        """The windows themselves."""
        assert images.shape[1:] == (1, SIDE, SIDE, SIDE)
        self.encoded += len(images)
        return [images]

    def decode(self, images, points, labels, dense):
        """Logits, and an IoU of 0.8."""
        self.points.append((points[0], labels[0]))
        region = dense[:, DENSE_CHANNELS.index("box_shape")] + dense[:, DENSE_CHANNELS.index("point+")] - 0.5
        for axis in (1, 2, 3):
            region = np.repeat(region, 2, axis)
        return [10 * region[:, None], np.full((len(images), 1), 0.8, np.float32)]


@pytest.fixture
def network():
    """A fresh counting network."""
    return Counting()


@pytest.fixture
def predictor(network):
    """A predictor around it."""
    inferer = VolumeInferer({"window": SIDE, "click_scales": [0.8, 0.4], "min_side_px": 16.0})
    return inferer.predictor(SamParts(network.encode, network.decode))


@pytest.fixture(scope="module")
def volume():
    """Noise on anisotropic voxels, with axes that are flipped and exchanged."""
    affine = np.array([[0, -1.2, 0, 40], [0, 0, 2.0, -9], [1.0, 0, 0, 7], [0, 0, 0, 1]], dtype=float)
    data = np.random.default_rng(0).normal(size=(60, 50, 30)).astype(np.float32)
    return Volume(data, Grid(data.shape, affine))


def test_a_3d_box_gives_a_mask_in_it(predictor, volume):
    box = Box((20, 12, 8), (40, 32, 20), 1, "voxel")
    at = np.argwhere(predictor.decode(predictor.encode(volume), PromptSet((box,))).objects[0].mask)
    assert (at.min(0) >= [18, 10, 7]).all() and (at.max(0) <= [41, 33, 20]).all()
    assert len(at) > 0.15 * 20 * 20 * 12


def test_a_click_lies_where_it_was_made(predictor, volume):
    found = predictor.decode(predictor.encode(volume), PromptSet((Point((44, 9, 21), space="voxel"),))).objects[0]
    at = np.argwhere(found.mask)
    assert found.mask[44, 9, 21] and np.abs(at.mean(0) - [44, 9, 21]).max() < 2


def test_corner_tokens_are_ordered_and_within_the_window(predictor, network, volume):
    predictor.decode(predictor.encode(volume), PromptSet((Box((20, 12, 8), (40, 32, 20), 1, "voxel"),)))
    points, labels = network.points[0]
    assert labels[:3].tolist() == [2, 3, -1] and (points[0] < points[1]).all()
    assert points[:2].min() >= -0.5 and points[:2].max() <= SIDE - 0.5


def test_a_window_is_encoded_once(predictor, network, volume):
    state = predictor.encode(volume)
    prompts = PromptSet((Box((20, 12, 8), (40, 32, 20), 1, "voxel"),))
    first = predictor.decode(state, prompts)
    count = network.encoded
    again = predictor.decode(state, prompts)
    assert network.encoded == count >= 1
    assert np.array_equal(first.objects[0].probability, again.objects[0].probability)
