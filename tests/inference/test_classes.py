"""Class prompts: all classes of a slice at once."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.classes import ClassPredictor
from promptzoo.prompts.types import ClassPrompt, Point, PromptSet, TextPrompt

NAMES = ("bright", "dark", "nowhere")


class Threshold:
    """Bright pixels are class 1, dark ones class 2; counts its passes."""

    def __init__(self):
        self.slices = 0

    def __call__(self, images):
        """Logits of means over four by four pixels."""
        self.slices += len(images)
        size = images.shape[-1] // 4
        mean = images[:, 0].reshape(len(images), size, 4, size, 4).mean((2, 4))
        return np.stack([2 - 0 * mean, 20 * mean, -20 * mean, mean * 0 - 9], 1)


@pytest.fixture
def network():
    """A fresh counting network."""
    return Threshold()


@pytest.fixture
def predictor(network):
    """A predictor around it."""
    return ClassPredictor(network, NAMES, 64)


def volume(affine=np.diag([1.0, 1.0, 4.0, 1.0])):
    """A bright and a dark block on grey; axis 2 is axial."""
    data = np.random.default_rng(0).normal(0, 0.1, (64, 48, 5)).astype(np.float32)
    data[8:28, 12:32], data[40:56, 16:40] = 10, -10
    return Volume(data, Grid(data.shape, affine))


def test_each_class_is_found_in_every_slice(predictor, network):
    image = volume()
    state = predictor.encode(image)
    answer = predictor.decode(state, PromptSet((ClassPrompt("bright", 1), ClassPrompt("Dark", 2))))
    for object_id, truth in ((1, image.data > 5), (2, image.data < -5)):
        found = answer[object_id].mask
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    predictor.decode(state, PromptSet((ClassPrompt("bright", 3),)))
    assert network.slices == 5, "one pass per slice serves all classes and calls"


def test_orientation_does_not_matter(predictor):
    image = volume()
    turned = Volume(np.ascontiguousarray(image.data.transpose(2, 1, 0)[:, ::-1]), Grid((5, 48, 64), np.array(
        [[0, 0, 1.0, 0], [0, -1.0, 0, 47], [4.0, 0, 0, 0], [0, 0, 0, 1]])))
    prompts = PromptSet((ClassPrompt("bright"),))
    first, second = (predictor.decode(predictor.encode(v), prompts).objects[0].mask for v in (image, turned))
    assert np.array_equal(first, second[:, ::-1].transpose(2, 1, 0))


def test_what_is_not_there_is_told(predictor):
    answer = predictor.decode(predictor.encode(volume()), PromptSet((ClassPrompt("nowhere"),))).objects[0]
    assert not answer.mask.any() and answer.info["reason"] == "not found: nowhere"


def test_several_classes_of_one_object_are_joined(predictor):
    both = PromptSet((ClassPrompt("bright", 1), ClassPrompt("dark", 1)))
    found = predictor.decode(predictor.encode(volume()), both).objects[0].mask
    assert found[18, 22, 2] and found[48, 28, 3]


def test_unknown_classes_and_other_prompts_are_refused(predictor):
    state = predictor.encode(volume())
    with pytest.raises(PromptError, match="Did you mean bright"):
        predictor.decode(state, PromptSet((ClassPrompt("brigth"),)))
    with pytest.raises(PromptError, match="point"):
        predictor.decode(state, PromptSet((Point((1, 1, 1), True, 1, "voxel"),)))


def test_texts_name_classes(network):
    predictor = ClassPredictor(network, ("liver", "spleen", "stomach"), 64)
    image = volume()
    state = predictor.encode(image)
    asked = PromptSet((TextPrompt("spleeen", 1), TextPrompt("liver and spleen", 2), TextPrompt("liver not spleen", 3)))
    answer = predictor.decode(state, asked)
    by_class = predictor.decode(state, PromptSet((ClassPrompt("spleen", 1), ClassPrompt("liver", 2))))
    assert np.array_equal(answer[1].mask, by_class[1].mask) and answer[1].mask.any()
    assert answer[1].info["reading"] == '"spleeen" was read as spleen'
    both = by_class[1].mask | by_class[2].mask
    assert (answer[2].mask >= both).all() and answer[2].mask.sum() < 1.25 * both.sum(), "chances add up at borders"
    assert np.array_equal(answer[3].mask, by_class[2].mask & ~by_class[1].mask)
    with pytest.raises(UnclearTextError, match="heart is understood"):
        predictor.decode(state, PromptSet((TextPrompt("heart"),)))
