"""SAM-like inference: windows from a grid, encoded once."""
import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.interactive import InteractivePredictor
from promptzoo.inference.sam import CROWD, FINE, SamParts, SamSegmenter, dice_of_iou
from promptzoo.inference.zoom import ZoomSettings
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS
from promptzoo.prompts.types import Box, Point, PromptSet

SIDE = 64


class Counting:
    """A network that marks the box's ellipse, and counts what it is asked."""

    def __init__(self):
        self.encoded = self.decoded = self.passes = 0

    def encode(self, images):
        """The windows themselves."""
        self.encoded += len(images)
        return [images]

    def decode(self, images, points, labels, dense):
        """Logits of the dense region; an IoU of 0.8."""
        self.decoded, self.passes = self.decoded + len(images), self.passes + 1
        shape = DENSE_CHANNELS.index("box_shape")
        logits = np.repeat(np.repeat(10 * dense[:, shape:shape + 1], 2, 2), 2, 3)
        return [logits, np.full((len(images), 1), 0.8, np.float32), logits, np.full((len(images), 1), 0.8)]


@pytest.fixture
def network():
    """A fresh counting network."""
    return Counting()


@pytest.fixture
def predictor(network):
    """A predictor around it."""
    settings = ZoomSettings(window=SIDE, click_scales=(1.0, 0.5))
    segmenter = SamSegmenter(SamParts(network.encode, network.decode), settings)
    return InteractivePredictor(network.decode, 2, settings, segmenter=segmenter)


@pytest.fixture(scope="module")
def volume():
    """Noise on two slices."""
    rng = np.random.default_rng(0)
    return Volume(rng.normal(size=(200, 160, 2)).astype(np.float32), Grid((200, 160, 2), np.diag([1.0, 1.0, 5.0, 1.0])))


def box(i, j, size=40, object_id=1, k=0):
    """A box on a slice."""
    return Box((i, j, k), (i + size, j + size, k + 1), object_id, "voxel")


def test_a_mask_lies_in_its_box(predictor, volume):
    state = predictor.encode(volume)
    found = predictor.decode(state, PromptSet((box(30, 50),))).objects[0]
    at = np.argwhere(found.mask)
    assert at[:, 2].max() == 0 and (at.min(0)[:2] >= [27, 47]).all() and (at.max(0)[:2] <= [73, 93]).all()
    assert found.mask.sum() > 0.6 * 1600 and found.estimated_dice == pytest.approx(dice_of_iou(0.8))


def test_many_objects_share_wider_windows(network, predictor, volume):
    """Fewer encodings than objects; each mask lies in its box; a few objects look closely as before."""
    state, rng = predictor.encode(volume), np.random.default_rng(1)
    places = rng.uniform(0, 130, (CROWD + 16, 2)).round()
    boxes = tuple(box(*place, size=20, object_id=n + 1) for n, place in enumerate(places.tolist()))
    few = predictor.decode(state, PromptSet(boxes[:CROWD - 1]))
    closely, network.encoded = network.encoded, 0
    many = predictor.decode(state, PromptSet(boxes))
    assert closely > 0.7 * CROWD and network.encoded < 0.6 * len(boxes)
    for found, place in zip(many.objects, places):
        at = np.argwhere(found.mask)
        assert (at.min(0)[:2] >= place - 3).all() and (at.max(0)[:2] <= place + 23).all()
        assert found.mask.sum() > 0.6 * 400
    assert predictor.segmenter.grid == FINE and max(map(_step, many.objects)) > max(map(_step, few.objects))


def _step(found):
    """Image voxels per pixel of an answer's last window."""
    return float(found.info["windows"][0][-1])


def test_prompts_near_each_other_share_an_encoding(network, predictor, volume):
    state = predictor.encode(volume)
    boxes = tuple(box(60 + n % 5, 60 + n // 5, object_id=n + 1) for n in range(20))
    answer = predictor.decode(state, PromptSet(boxes))
    assert len(answer.objects) == 20 and network.decoded >= 20 and network.encoded <= 4
    before = network.encoded
    predictor.decode(state, PromptSet((boxes[0], Point((70.0, 70.0, 0.0), True, 1, "voxel"))))
    assert network.encoded == before, "a correction costs a decode"
    predictor.decode(state, PromptSet((box(60, 60, k=1),)))
    assert network.encoded > before, "another slice is another window"


def test_objects_on_a_slice_share_passes_and_keep_their_answers(network, predictor, volume):
    boxes = [box(10 + 12 * n, 8 * n, 20 + 5 * n, n + 1, n % 2) for n in range(9)]
    state = predictor.encode(volume)
    together = predictor.decode(state, PromptSet(tuple(boxes)))
    shared, network.passes = network.passes, 0
    for one in boxes:
        alone = predictor.decode(state, PromptSet((one,))).objects[0]
        answer = together[one.object_id]
        assert np.array_equal(answer.mask, alone.mask) and answer.estimated_dice == alone.estimated_dice
        assert answer.info == alone.info
    assert shared <= network.passes / 2


def test_memory_of_encodings_is_bounded(network, predictor):
    segmenter = predictor.segmenter
    segmenter.encodings.limit_bytes = 3 * SIDE * SIDE * 4
    views = [np.full((SIDE, SIDE), n, np.float32) for n in range(5)]
    assert [segmenter.encoded(view).parts[0][0, 0, 0] for view in (*views, views[4])] == [0, 1, 2, 3, 4, 4]
    assert network.encoded == 5 and segmenter.encodings.nbytes == segmenter.encodings.limit_bytes
    for view in views[2:]:
        segmenter.encoded(view)
    assert network.encoded == 5, "the last ones are still there"
    segmenter.encoded(views[0])
    assert network.encoded == 6
