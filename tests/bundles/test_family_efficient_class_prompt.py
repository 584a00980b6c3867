"""Honest small checks of lite-class-prompt (efficient-promptable) on its shipped weights."""
import numpy as np
import pytest

from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.prompts import ClassPrompt, PromptSet
from promptzoo.training.class_prompts import CLASSES, ClassWindows

from .conftest import dice
from .scenes import box_of

HELD_OUT, COUNT = 880_013, 24
"""No training uses this seed."""
OTHER = {0: 1, 1: 0, 2: 3, 3: 2}
"""Classes that share a box."""


def _load(variant):
    return load_predictor(get_bundle("efficient_promptable").path, engine="torch", variant=variant)


@pytest.fixture(scope="module")
def named():
    """Image, class, its mask, and a box around all that the class belongs to."""
    windows, found = ClassWindows(COUNT, 128, seed=HELD_OUT), []
    for n in range(COUNT):
        item = windows[n]
        for image, label, boxed, kind in zip(*(item[key].numpy() for key in ("image", "label", "boxed", "kind"))):
            if kind in OTHER:
                volume = Volume(100 * image[0][..., None], Grid((128, 128, 1), np.eye(4)))
                found.append((volume, int(kind), label[0][..., None], box_of(boxed[0][..., None])))
    return found


@pytest.fixture(scope="module")
def classed(named):
    """Dice ``[cases, 3]`` with the target: its class told, no class, the other class of the same box."""
    predictor, rows = _load("lite-class-prompt"), []
    for volume, kind, mask, box in named:
        state, row = predictor.encode(volume), []
        for told in (kind, None, OTHER[kind]):
            names = () if told is None else (ClassPrompt(CLASSES[told], 1),)
            answer = predictor.decode(state, PromptSet((*box.prompts, *names)))
            row.append(dice(answer.objects[0].mask, mask))
        rows.append(row)
    return np.array(rows)


def _of(classed, named, *kinds):
    """Mean Dice ``[3]`` of the cases of some classes."""
    return classed[np.isin([kind for _, kind, *_ in named], kinds)].mean(0)


def test_the_class_says_what_a_box_means(classed, named):
    """Cavity and wall of the left heart in one box: measured 0.86 told, 0.65 without a class, 0.11 told the other."""
    told, untold, other = _of(classed, named, 2, 3)
    assert told > 0.75 and told > untold + 0.1 and told > other + 0.5, (told, untold, other)
    for kind in (2, 3):
        own, without, _ = _of(classed, named, kind)
        assert own > without + 0.08, CLASSES[kind]


def test_an_organ_is_an_organ_and_not_its_lesion(classed, named):
    """Measured 0.82 told, 0.82 without a class, 0.05 told that the lesion is meant."""
    told, untold, other = _of(classed, named, 0)
    assert told > 0.7 and told > untold - 0.03 and other < 0.3, (told, untold, other)


@pytest.mark.xfail(strict=True, reason="0.03: told that the lesion is meant, the network leaves the organ but does not "
                                       "find the lesion in its box; 140 iterations")
def test_a_lesion_is_found_in_the_box_of_its_organ(classed, named):
    assert _of(classed, named, 1)[0] > 0.3


def test_unknown_classes_are_refused(named):
    predictor = _load("lite-class-prompt")
    state, box = predictor.encode(named[0][0]), named[0][3]
    for names in (("tooth",), ("organ", "lesion")):
        with pytest.raises(PromptError, match="myocardium"):
            predictor.decode(state, PromptSet((*box.prompts, *(ClassPrompt(name, 1) for name in names))))
