"""A bundle answers each prompt that it declares, the same way twice, and refuses those that it does not take."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError
from promptzoo.prompts import PromptSet
from promptzoo.prompts.types import KINDS

SPATIAL = ("point", "box", "scribble", "lasso", "mask")


def _check(answer, volume, count):
    assert answer.grid == volume.grid and len(answer.objects) == count
    for entry in answer.objects:
        assert entry.mask.shape == volume.grid.shape and entry.mask.dtype == bool
        assert np.isfinite(entry.probability).all()
        assert 0 <= entry.probability.min() and entry.probability.max() <= 1
        assert entry.estimated_dice is None or 0 <= entry.estimated_dice <= 1


def test_prompts(bundle, predictor, phantom, dice):
    """Each declared prompt alone gives one mask; one that shows where the object is gives something of the object."""
    state = predictor.encode(phantom.volume)
    for kind in bundle.prompts:
        answer = predictor.decode(state, phantom.prompts(kind))
        _check(answer, phantom.volume, 1)
        if kind in SPATIAL and bundle.weights["kind"] == "shipped":
            assert dice(answer.objects[0].mask, phantom.mask) > 0.3, kind


def test_no_prompt(bundle, predictor, phantom):
    """Without a prompt the answer has no object, or what the bundle finds by itself."""
    answer = predictor.decode(predictor.encode(phantom.volume), PromptSet())
    _check(answer, phantom.volume, len(answer.objects))


def test_foreign_prompts(bundle, predictor, phantom):
    """A kind that the bundle does not declare is refused by name."""
    state = predictor.encode(phantom.volume)
    for kind in sorted(set(KINDS) & {*SPATIAL, "text", "class"} - set(bundle.prompts)):
        with pytest.raises(PromptError, match=kind):
            predictor.decode(state, phantom.prompts(kind))


def test_determinism(bundle, predictor, phantom):
    """The same image and prompts give the same bits, also from a fresh encoding."""
    prompts = phantom.prompts(bundle.prompts[0])
    first = predictor.decode(predictor.encode(phantom.volume), prompts)
    second = predictor.decode(predictor.encode(phantom.volume), prompts)
    for one, other in zip(first.objects, second.objects, strict=True):
        assert one.offset == other.offset and np.array_equal(one.probability, other.probability)


def test_objects(bundle, predictor, phantom):
    """Two objects in one call give two masks, in order, each as if asked for alone."""
    kind = bundle.prompts[0]
    both = PromptSet((phantom.prompt(kind, 5), phantom.prompt(kind, 2)))
    answer = predictor.decode(predictor.encode(phantom.volume), both)
    assert [entry.object_id for entry in answer.objects] == [5, 2]
    assert np.array_equal(answer[5].mask, answer[2].mask)
