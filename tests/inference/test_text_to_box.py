"""Words to boxes to masks, with a localiser and a segmenter that are plain rules."""
import json

import numpy as np
import pytest

from promptzoo.core.errors import BundleError
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.inference.text_to_box import TextToBox, TextToBoxPredictor
from promptzoo.prompts.types import Box, ObjectInfo, Point, PromptSet, TextPrompt

SQUARES = {"bright": [(4, 4, 12), (20, 30, 8)], "dark": [(30, 6, 10)]}
"""Row, column and side of the squares of each word; the first is the surest."""
AFFINE = np.array([[0, -2.0, 0, 5], [2.0, 0, 0, -3], [0, 0, 1.0, 0], [0, 0, 0, 1]])


class State:
    """A volume with a size."""

    def __init__(self, volume):
        self.volume, self.nbytes = volume, volume.data.nbytes


class Words:
    """Says the squares of a word: as boxes with scores, or as a map."""

    name, prompt_kinds = "words", frozenset({"text"})

    def __init__(self, as_map=False, loose=2):
        self.as_map, self.loose = as_map, loose

    def encode(self, volume):
        """The volume."""
        return State(volume)

    def decode(self, state, prompts, previous=None):
        """One answer per object."""
        grid, answers = state.volume.grid, []
        for info in prompts.objects:
            text = prompts.of("text", info.object_id)[0].text
            found, told = SQUARES.get(text, []), {}
            chance = np.zeros(grid.shape, np.float32)
            for i, j, side in found:
                chance[i:i + side, j:j + side] = 0.9
            if not self.as_map and found:
                boxes = [Box((i - a, j - a, 0), (i + side + a, j + side + a, 1), n, "voxel")
                         for a in [self.loose] for n, (i, j, side) in enumerate(found, 1)]
                told = {"generated": json.dumps(PromptSet(tuple(boxes)).to_world(grid).to_json()),
                        "boxes": [{"score": 0.9 - 0.5 * n} for n in range(len(found))]}
            answers.append(ObjectPrediction(info.object_id, grid, (0, 0, 0), chance, None, 0.5, told))
        return Prediction(grid, tuple(answers))


class Squares:
    """Marks what differs from the background inside a box; sure of it."""

    name, engine, dimensions, prompt_kinds = "squares", "rules", 2, frozenset({"box", "point", "mask"})

    def encode(self, volume):
        """The volume."""
        return State(volume)

    def decode(self, state, prompts, previous=None):
        """One answer per object."""
        grid, answers = state.volume.grid, []
        for info in prompts.objects:
            chance = np.zeros(grid.shape, np.float32)
            for box in prompts.to_voxel(grid).of("box", info.object_id):
                place = tuple(slice(max(0, int(round(a))), int(round(b))) for a, b in zip(box.low, box.high))
                chance[place] = state.volume.data[place] != 0
            answers.append(ObjectPrediction(info.object_id, grid, (0, 0, 0), chance, 0.8))
        return Prediction(grid, tuple(answers))


def squares(word, shape=(48, 44, 1)):
    """The squares of a word."""
    mask = np.zeros(shape, bool)
    for i, j, side in SQUARES[word]:
        mask[i:i + side, j:j + side] = True
    return mask


@pytest.fixture
def volume():
    """Bright and dark squares, turned in the world."""
    return Volume((squares("bright").astype(np.float32) - squares("dark")), Grid((48, 44, 1), AFFINE))


def asked(predictor, volume, *prompts):
    """The answer about object 1."""
    return predictor.decode(predictor.encode(volume), PromptSet(prompts)).objects[0]


@pytest.mark.parametrize("as_map", [False, True])
def test_words_become_boxes_become_masks(volume, as_map):
    predictor = TextToBoxPredictor(Words(as_map), Squares(), TextToBox(least_score=0.1))
    answer = asked(predictor, volume, TextPrompt("bright"))
    assert np.array_equal(answer.mask, squares("bright")) and answer.info["instances"] == 2
    assert np.array_equal(asked(predictor, volume, TextPrompt("dark")).mask, squares("dark"))
    edited = PromptSet.from_json(json.loads(answer.info["generated"]))
    assert edited.kinds == {"box"} and edited.space == "world" and len(edited) == 2
    again = Squares().decode(predictor.encode(volume).segmenter, edited)
    assert np.array_equal(again[1].mask | again[2].mask, answer.mask), "the boxes can be given to any bundle"


def test_what_scores_too_little_is_not_found(volume):
    predictor = TextToBoxPredictor(Words(), Squares(), TextToBox(least_score=0.5))
    answer = asked(predictor, volume, TextPrompt("bright"))
    assert answer.info["scores"] == [0.72, 0.32] and answer.info["instances"] == 1
    assert np.array_equal(answer.mask, squares("bright") & (np.arange(48) < 18)[:, None, None])
    nothing = asked(predictor, volume, TextPrompt("nowhere"))
    assert not nothing.mask.any() and nothing.info["reason"] == "not found"
    low = TextToBoxPredictor(Words(), Squares(), TextToBox(least_score=0.9))
    assert "the best of 2 places scored 0.72" in asked(low, volume, TextPrompt("bright")).info["reason"]


def test_a_text_that_fits_better_rejects(volume):
    predictor = TextToBoxPredictor(Words(), Squares(), TextToBox(least_score=0.1, against=("bright",)))
    assert asked(predictor, volume, TextPrompt("dark")).mask.any(), "they do not meet"
    assert not asked(predictor, volume, TextPrompt("bright")).mask.any(), "it does not score above itself"


def test_drawn_prompts_edit_the_answer(volume):
    predictor = TextToBoxPredictor(Words(), Squares(), TextToBox(least_score=0.1))
    inside = asked(predictor, volume, TextPrompt("bright"), Box((0, 0, 0), (20, 20, 1), 1, "voxel"))
    assert np.array_equal(inside.mask, squares("bright") & (np.arange(48) < 18)[:, None, None])
    less = asked(predictor, volume, TextPrompt("bright"), Point((8, 8, 0), False, 1, "voxel"))
    assert np.array_equal(less.mask, squares("bright") & (np.arange(48) > 18)[:, None, None])


def test_other_objects_are_answered_by_the_promptable_bundle(volume):
    predictor = TextToBoxPredictor(Words(), Squares(), TextToBox(least_score=0.1))
    prompts = PromptSet((Box((28, 4, 0), (44, 20, 1), 2, "voxel"), TextPrompt("bright", 1)),
                        (ObjectInfo(2, "drawn"), ObjectInfo(1)))
    answer = predictor.decode(predictor.encode(volume), prompts)
    assert [entry.object_id for entry in answer.objects] == [2, 1]
    assert np.array_equal(answer[2].mask, squares("dark")) and np.array_equal(answer[1].mask, squares("bright"))


def test_who_does_not_fit_is_refused():
    with pytest.raises(BundleError, match="localiser squares"):
        TextToBoxPredictor(Squares(), Squares())
    with pytest.raises(BundleError, match="segmenter words"):
        TextToBoxPredictor(Words(), Words())
    with pytest.raises(BundleError, match="settings of text to box"):
        TextToBox(most=0)
