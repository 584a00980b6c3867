"""The predictor around heads that see what they are told: orientation, windows, boxes, words, nothing found."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.text_universal import Settings, UniversalPredictor
from promptzoo.inference.universal_view import body_box, grey, step_for
from promptzoo.prompts import Box, ClassPrompt, ObjectInfo, Point, PromptSet, TextPrompt

CLASSES = ("liver", "kidney_left", "kidney_right", "spleen")
LEVELS = {"liver": 0.8, "kidney_left": 0.5, "kidney_right": 0.5, "spleen": -2.0}


def encoder(image):
    """Features are the grey value and the position along x."""
    return [image[:, :2]]


def head(text, box, features):
    """Liver is bright; kidneys are grey, told apart by their side; the spleen is nowhere; a box alone takes all."""
    grey_value, x = features[:, :1], features[:, 1:2]
    if not text.any():
        return [np.where(box > 0, 6.0, -6.0)]
    name = CLASSES[int(text[0].argmax())]
    near = 20 * (0.15 - np.abs(grey_value - LEVELS[name]))
    side = {"kidney_left": -x, "kidney_right": x}.get(name, np.ones_like(x))
    return [np.where(side > 0, near, -6.0)]


def body(axes="RAS", shape=(40, 30, 24), spacing=(6.0, 6.0, 6.0)):
    """A CT with a bright block on the right and a grey one on each side, stored along the given axes."""
    data = np.full(shape, -1000.0, np.float32)
    data[2:-2, 2:-2, :] = -100
    for low, high, value in ((24, 32, 900), (6, 12, 180), (14, 18, 180)):
        data[low:high, 8:16, 6:14] = value
    data[24:28, 20:26, 6:14] = 180
    affine = np.diag([*spacing, 1.0])
    if axes == "LPS":
        data = data[::-1, ::-1]
        affine[:2, :2] *= -1
        affine[:2, 3] = [(n - 1) * s for n, s in zip(shape[:2], spacing[:2])]
    elif axes == "SAR":
        data = data.transpose(2, 1, 0)
        affine[:3, :3] = affine[:3, :3][:, ::-1]
    return Volume(np.ascontiguousarray(data), Grid(data.shape, affine))


def predictor(**settings):
    return UniversalPredictor(encoder, head, np.eye(4, dtype=np.float32), CLASSES, Settings(window=48, **settings))


def ask(volume, *prompts, objects=(), **settings):
    ours = predictor(**settings)
    return ours.decode(ours.encode(volume), PromptSet(tuple(prompts), tuple(objects)))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR"])
def test_orientation(axes):
    """The mask lies on the image's own grid, the right kidney on the patient's right, however the image is stored."""
    volume = body(axes)
    found = ask(volume, TextPrompt("liver", 1), TextPrompt("right kidney", 2), TextPrompt("kidney, left", 3),
                objects=[ObjectInfo(n) for n in (1, 2, 3)])
    places = {n: volume.grid.to_world(np.argwhere(found[n].mask)).mean(0)[0] for n in (1, 2, 3)}
    middle = volume.grid.to_world((np.array(volume.grid.shape) - 1) / 2)[0]
    assert places[3] < middle < places[2] and places[1] > middle
    liver = volume.data == 900
    assert 2 * (found[1].mask & liver).sum() / (found[1].mask.sum() + liver.sum()) > 0.8


def test_several_classes_of_one_object():
    both = ask(body(), TextPrompt("both kidneys")).objects[0]
    sides = [ask(body(), ClassPrompt(name)).objects[0] for name in ("kidney_left", "kidney_right")]
    assert set(both.info["classes"]) == {"kidney_left", "kidney_right"}
    either = sides[0].mask | sides[1].mask  # alone, a side gives way to the other one where they meet
    assert not (either & ~both.mask).any() and both.mask.sum() < 1.3 * either.sum()


def test_not_found():
    """What is not there is an empty mask that says so."""
    answer = ask(body(), TextPrompt("spleen")).objects[0]
    assert not answer.mask.any() and answer.info["reason"] == "not found: spleen"
    assert "reason" not in ask(body(), TextPrompt("hepar")).objects[0].info


def test_unclear_words():
    with pytest.raises(UnclearTextError) as caught:
        ask(body(), TextPrompt("the blue thing"))
    assert str(caught.value)
    with pytest.raises(UnclearTextError, match="none of the classes"):
        ask(body(), TextPrompt("prostate"))


def test_box_restricts_and_asks_alone():
    box = Box((24, 8, 6), (32, 12, 14), 1, "voxel")
    named, alone = (ask(body(), *prompts, box).objects[0].mask for prompts in ((TextPrompt("liver"),), ()))
    assert named[24:32, 8:12, 6:14].mean() > 0.9 and named.sum() == named[24:32, 8:12, 6:14].sum()
    assert alone[24:32, 8:12, 6:14].mean() > 0.8


def test_foreign_prompts():
    with pytest.raises(PromptError, match="point"):
        ask(body(), Point((5, 5, 5), True, 1, "voxel"))


def test_long_bodies():
    """What one window does not hold is looked at in several, and the answer has no seams."""
    volume = body(shape=(40, 30, 90))
    long = np.array(volume.data)
    long[24:32, 8:16, 6:84] = 900
    volume = Volume(long, volume.grid)
    ours = UniversalPredictor(encoder, head, np.eye(4, dtype=np.float32), CLASSES, Settings(window=32))
    state = ours.encode(volume)
    assert sum(1 for _ in ours.ahead(state)) > 1 and not list(ours.ahead(state))
    mask = ours.decode(state, PromptSet((TextPrompt("liver"),))).objects[0].mask
    assert mask[25:31, 9:15, 8:82].all() and not mask[:20].any()


def test_zoom_in():
    """A second look is finer than the first one, and says that it was taken."""
    volume = body(shape=(80, 60, 24), spacing=(3.0, 3.0, 6.0))
    fine = np.array(volume.data)
    fine[60:62, 40:50, 10:14] = 900
    answer = ask(Volume(fine, volume.grid), ClassPrompt("liver"), zoom=True).objects[0]
    assert "zoomed" in answer.info and answer.mask.any()


def test_views():
    """The body is found beside a table; its width decides the voxel size; CT keeps its scale."""
    low, high = body_box(body().data, (6.0,) * 3, True)
    assert (low <= 2).all() and (high >= (38, 28, 24)).all()
    assert step_for((366, 200, 900)) == pytest.approx(6.0) and step_for((20, 20, 20)) == 2.0
    assert grey(np.array([-1024.0, -150.0, 250.0, 3000.0]), True) == pytest.approx([-1, -0.5, 0.6, 1])
