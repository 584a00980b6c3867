"""All masks first, then a prompt picks: what is kept, what each kind of prompt means, what is computed once."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError
from promptzoo.inference.everything import Everything, Proposal
from promptzoo.inference.everything_first import EverythingFirst, EverythingInferer, picked
from promptzoo.inference.object_prompts import ObjectPrompts
from promptzoo.inference.resample import Window
from promptzoo.inference.sam import SamParts
from promptzoo.inference.zoom import ZoomSettings

SIZE = 64
NONE = np.zeros((0, 2))


def prompts(positive=NONE, negative=NONE, box=None, lassos=(), prior=None):
    """Prompts of one object on a slice."""
    return ObjectPrompts(np.asarray(positive, float), np.asarray(negative, float), box, NONE, NONE, lassos, prior)


def square(low, high, size=SIZE):
    """A mask of rows and columns ``low`` to ``high``."""
    mask = np.zeros((size, size), bool)
    mask[low:high, low:high] = True
    return mask


WINDOW = Window((0.0, 0.0), (1.0, 1.0), (SIZE, SIZE))
BOX = np.zeros((2, 2))
OUTER, INNER, APART = (Proposal(WINDOW, 0.9 * mask.astype(np.float32), iou, 1.0, (0.0, 0.0), BOX) for mask, iou in (
    (square(5, 40), 0.7), (square(15, 25), 0.9), (square(45, 60), 0.8)))
ALL = [INNER, APART, OUTER]


def faces(low, high):
    """A box's faces."""
    return np.array([low - 0.5] * 2), np.array([high - 0.5] * 2)


@pytest.mark.parametrize("asked, wanted", [
    (prompts(box=faces(5, 38)), [OUTER]),
    (prompts(box=faces(14, 27)), [INNER]),
    (prompts(positive=[[20, 20]]), [INNER]),
    (prompts(positive=[[8, 8]]), [OUTER]),
    (prompts(positive=[[20, 20], [50, 50]]), [INNER, APART]),
    (prompts(positive=[[62, 3]]), []),
    (prompts(prior=square(44, 61).astype(np.float32)), [APART]),
    (prompts(positive=[[20, 20]], negative=[[21, 21]]), [OUTER]),
    (prompts(lassos=((np.array([[44.0, 44], [44, 61], [61, 61], [61, 44]]), True),)), [APART]),
])
def test_what_prompts_mean(asked, wanted):
    chosen = picked(ALL, asked)[0]
    assert {id(p) for p in chosen} == {id(p) for p in wanted}


def test_a_negative_click_takes_the_inner_mask_out_of_the_outer_one():
    chosen, refused = picked(ALL, prompts(box=faces(5, 40), negative=[[20, 20]]))
    assert chosen == [OUTER] and refused == [INNER]


def test_nothing_found_means_nothing():
    assert picked([], prompts(positive=[[3, 3]], negative=[[4, 4]], box=faces(2, 9))) == ([], [])


class Fake:
    """Parts that answer a click with the square around it, at a quarter of the window, and count their calls."""

    def __init__(self):
        self.encodes = self.decodes = 0

    def encode(self, images):
        """One number per window."""
        self.encodes += len(images)
        return [np.zeros((len(images), 1), np.float32)]

    def decode(self, _, points, labels, dense):
        """Inside the square at 16 … 47 its mask, elsewhere noise of low predicted IoU."""
        count = len(points)
        self.decodes += count
        masks, ious = np.full((count, 4, 16, 16), -5.0, np.float32), np.full((count, 4), 0.1, np.float32)
        for n, (column, row) in enumerate(points[:, 0]):
            if 16 <= column < 48 and 16 <= row < 48:
                masks[n, 2, 4:12, 4:12], ious[n, 2] = 5.0, 0.9
        return [np.zeros((count, 1, SIZE, SIZE), np.float32), ious[:, :1], masks, ious]


@pytest.fixture
def segmenter():
    """A segmenter around :class:`Fake`."""
    fake = Fake()
    found = EverythingFirst(SamParts(fake.encode, fake.decode), ZoomSettings(window=SIZE, overhang=1.0, min_side_px=8),
                            Everything(points_per_side=8))
    found.fake = fake
    return found


def test_masks_are_found_once_per_slice_and_doubles_are_dropped(segmenter):
    image = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    look = segmenter(image, (1.0, 1.0), prompts(box=faces(16, 48)))
    assert look.history == ("1 masks",) and (segmenter.fake.encodes, segmenter.fake.decodes) == (1, 64)
    mask = look.probability >= 0.5
    assert abs(int(mask.sum()) - 32 ** 2) < 150 and mask[20:44, 20:44].all() and look.quality > 0.9
    both = segmenter.many(image, (1.0, 1.0), [prompts(positive=[[30, 30]]), prompts(positive=[[2, 2]])])
    assert (segmenter.fake.encodes, segmenter.fake.decodes) == (1, 64), "prompts cost no network"
    assert np.array_equal(both[0].probability, look.probability)
    assert not both[1].probability.any() and both[1].quality == 0


@pytest.mark.parametrize("wrong", [{"points_per_side": 0}, {"iou": 1.5}])
def test_grids_that_cannot_be(wrong):
    with pytest.raises(BundleError, match="settings of everything"):
        Everything(**wrong)


def test_not_beside_many_boxes():
    with pytest.raises(BundleError, match="multibox beside everything"):
        EverythingInferer(multibox={"boxes": 3})
