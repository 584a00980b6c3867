"""Finished cases as a network sees them."""
import numpy as np
import pytest

from promptzoo.core.errors import BundleError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.examples import CROP_OBJECTS, SELECTORS, ContextSettings, Example, chosen, near
from promptzoo.prompts import Box, Point, PromptSet
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS

CHANNEL = {name: n for n, name in enumerate(CONTEXT_CHANNELS)}


def picture(shape=(60, 80)):
    """An image whose left part is bright, its mask, and it as a volume of one slice."""
    mask = np.zeros(shape, bool)
    mask[10:20, 10:30] = True
    return Volume((mask * 100.0)[..., None], Grid((*shape, 1), np.eye(4))), mask[..., None]


def test_a_mask_is_told_whole_and_from_near_by():
    volume, mask = picture()
    example = Example.of("a", volume, mask, 2)
    image, shown = example.shown(example.window(64))
    assert image.shape == (1, 1, 64, 64) and shown.shape == (1, len(CONTEXT_CHANNELS), 64, 64)
    assert shown[0, CHANNEL["dense"]].all()
    share = (shown[0, CHANNEL["previous"]] > 0.5).mean()
    close = (example.shown(example.window(64, 2.0))[1][0, CHANNEL["previous"]] > 0.5).mean()
    assert share == pytest.approx(200 / 80 ** 2, rel=0.1) and close == pytest.approx(0.5 * 0.25, rel=0.1)


def test_prompts_stand_for_a_mask():
    """A box has faces to look at from near by, a click has not; neither is a whole mask."""
    volume, _ = picture()
    boxed = Example.of("b", volume, PromptSet((Box((10, 10, 0), (20, 30, 1), 1, "voxel"),)), 2)
    assert np.allclose(boxed.faces[0], 9.5) and np.allclose(boxed.faces[1], (19.5, 29.5))
    clicked = Example.of("c", volume, PromptSet((Point((15, 20, 0), True, 1, "voxel"),)), 2)
    assert clicked.faces is None and clicked.window(64, 2.0) == clicked.window(64)
    for example, channel in ((boxed, "box"), (clicked, "point+")):
        shown = example.shown(example.window(64))[1][0]
        assert shown[CHANNEL[channel]].max() > 0.5 and not shown[CHANNEL["dense"]].any()


def test_a_crop_holds_a_few_objects_of_many():
    mask = np.zeros((200, 200), bool)
    for row in range(100, 196, 12):
        for column in range(4, 100, 12):
            mask[row:row + 6, column:column + 6] = True
    example = Example.of("d", Volume(mask[..., None] * 1.0, Grid((200, 200, 1), np.eye(4))), mask[..., None], 2)
    window = example.window(64, -1.0)
    assert window.step[0] * 64 == pytest.approx(CROP_OBJECTS * 6)
    assert window.sample(mask.astype(np.float32)).mean() == pytest.approx(0.25, abs=0.08)
    few = Example.of("e", *picture(), 2)
    assert near(few.plane, None, 64, 0).step > few.window(64, -1).step


@pytest.mark.parametrize("selector", SELECTORS)
def test_selectors(selector):
    """The likest, the best scored, the first, and a draw that is the same every time."""
    rng = np.random.default_rng(0)
    query, cases = [rng.random((1, 4, 2, 2))], [[rng.random((1, 4, 2, 2))] for _ in range(4)]
    cases[2] = [query[0] * 2]
    shown = [np.zeros((1, 9, 8, 8), np.float32)] * 4
    order, scores = chosen(selector, 2, query, cases, shown, lambda one, other, _: np.array([[0], [1], [0], [5.0]]))
    assert len(order) == 2 and len(scores) == 4
    assert order == chosen(selector, 2, query, cases, shown, lambda *_: np.array([[0], [1], [0], [5.0]]))[0]
    first = {"meta": 3, "nearest": 2, "first": 0}
    assert selector == "random" or order[0] == first[selector]


def test_settings_are_checked():
    for wrong in ({"selector": "oracle"}, {"most": 0}, {"margin": 0.5}):
        with pytest.raises(BundleError, match="settings of examples"):
            ContextSettings(**wrong)
