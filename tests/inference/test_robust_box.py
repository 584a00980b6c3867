"""Boxes that are corrected before use: what is answered, what comes back, and where it lies."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError
from promptzoo.core.geometry import Grid, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.robust_box import RobustBoxSegmenter, RobustParts
from promptzoo.inference.sam import SamParts
from promptzoo.inference.zoom import ZoomSettings
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS
from promptzoo.prompts.types import Box, Point, PromptSet

SIDE = 64
LOW, HIGH = (40, 60), (80, 90)
"""The bright rectangle, half-open."""


class Bright:
    """Network parts by hand: masks are the box given, and boxes move to the bright pixels of the window."""

    def __init__(self):
        self.corrections = 0

    def encode(self, images):
        """The windows themselves."""
        return [images]

    def decode(self, images, points, labels, dense):
        """Logits of the box channel."""
        box = dense[:, [DENSE_CHANNELS.index("box")]]
        logits = np.repeat(np.repeat(20 * box - 10, 2, 2), 2, 3)
        return [logits, np.full((len(images), 1), 0.8, np.float32), logits, np.full((len(images), 1), 0.8)]

    def correct(self, images, dense, box):
        """Faces of the bright pixels."""
        self.corrections += 1
        found = []
        for image in images:
            at = np.argwhere(image[0] > 0)
            found.append(np.concatenate([at.min(0) - 0.5, at.max(0) + 0.5]))
        return [np.array(found, np.float32)]


@pytest.fixture
def network():
    """Fresh parts."""
    return Bright()


def make(network, passes=1):
    """A predictor around them."""
    settings = ZoomSettings(window=SIDE, refine_ratio=0.0)
    parts = RobustParts(network.encode, network.decode, network.correct)
    return InteractivePredictor(network.decode, 2, settings, segmenter=RobustBoxSegmenter(parts, settings, passes))


def scan(codes="RAS"):
    """A bright rectangle on one of two slices, stored in some axis order."""
    data = np.zeros((150, 140, 2), np.float32)
    data[LOW[0]:HIGH[0], LOW[1]:HIGH[1]] = 100
    grid = Grid(data.shape, np.diag([1.0, 1.0, 5.0, 1.0]))
    move, stored = grid_with_codes(grid, tuple(codes))
    return Volume(np.ascontiguousarray(move.array(data)), stored), grid


def shifted(by, k=1):
    """The rectangle's box, moved."""
    return Box((LOW[0] + by, LOW[1] + by, k), (HIGH[0] + by, HIGH[1] + by, k + 1), 1, "voxel")


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIL"])
def test_the_corrected_box_comes_back_in_the_images_own_voxels(network, codes):
    volume, grid = scan(codes)
    predictor = make(network)
    prompts = PromptSet((shifted(12),)).to_world(grid)
    answer = predictor.decode(predictor.encode(volume), prompts).objects[0]
    box = answer.info["corrected_box"]
    wanted = PromptSet((shifted(0),)).to_world(grid).to_voxel(volume.grid).prompts[0]
    assert isinstance(box, Box) and box.object_id == 1 and box.space == "voxel"
    assert np.abs(np.array(box.low) - wanted.low).max() < 2.5 and np.abs(np.array(box.high) - wanted.high).max() < 2.5
    truth = volume.data > 50
    slab = np.zeros(truth.shape, bool)
    slab[tuple(slice(round(a), round(b)) for a, b in zip(wanted.low, wanted.high))] = True
    overlap = 2 * (answer.mask & truth & slab).sum() / (answer.mask.sum() + (truth & slab).sum())
    assert overlap > 0.9


def test_the_returned_box_can_be_given_again(network):
    volume, _ = scan()
    predictor = make(network)
    state = predictor.encode(volume)
    first = predictor.decode(state, PromptSet((shifted(12),))).objects[0]
    second = predictor.decode(state, PromptSet((first.info["corrected_box"],))).objects[0]
    assert np.allclose(first.info["corrected_box"].low, second.info["corrected_box"].low, atol=1.5)


def test_without_passes_or_without_a_box_nothing_is_corrected(network):
    volume, _ = scan()
    plain, moving = make(network, 0), make(network)
    answer = plain.decode(plain.encode(volume), PromptSet((shifted(12),))).objects[0]
    click = moving.decode(moving.encode(volume), PromptSet((Point((60, 70, 1), True, 1, "voxel"),))).objects[0]
    assert network.corrections == 0 and "corrected_box" not in answer.info and "corrected_box" not in click.info


def test_every_pass_corrects_once_more(network):
    volume, _ = scan()
    predictor = make(network, 3)
    predictor.decode(predictor.encode(volume), PromptSet((shifted(12),)))
    assert network.corrections == 3


def test_the_corrected_box_holds_positive_clicks(network):
    volume, _ = scan()
    predictor = make(network)
    prompts = PromptSet((shifted(5), Point((100, 70, 1), True, 1, "voxel")))
    box = predictor.decode(predictor.encode(volume), prompts).objects[0].info["corrected_box"]
    assert box.low[0] <= 100 <= box.high[0]


def test_passes_need_a_network_that_corrects(network):
    parts = RobustParts(network.encode, network.decode)
    with pytest.raises(BundleError, match="refine_box"):
        RobustBoxSegmenter(parts, ZoomSettings(window=SIDE), 1)
    with pytest.raises(BundleError, match="passes"):
        RobustBoxSegmenter(parts, ZoomSettings(window=SIDE), -1)
    assert isinstance(RobustBoxSegmenter(parts, ZoomSettings(window=SIDE), 0).parts, SamParts)
