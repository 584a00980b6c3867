"""Honest small checks of text-universal-seg (families.md, section 13) on the shipped weights."""
import numpy as np
import pytest

from promptzoo.core.errors import UnclearTextError
from promptzoo.core.geometry import Grid
from promptzoo.core.seeding import generator
from promptzoo.core.volume import Volume
from promptzoo.data.anatomy import render_ct, torso
from promptzoo.evaluation.metrics import dice
from promptzoo.inference import load_predictor
from promptzoo.inference.text_universal import UniversalPredictor
from promptzoo.prompts import Box, PromptSet, TextPrompt
from promptzoo.text.towers import shipped_tower
from promptzoo.training.phrases import held_out

HELD_OUT = 740_001
"""No training uses this seed."""

ORGANS = ("liver", "lung_left", "lung_right", "heart", "spine")
LEAST_DICE = 0.6
"""Measured: 0.72."""

PLAIN = {"liver": "liver", "lung_left": "left lung", "lung_right": "right lung", "heart": "heart", "spine": "spine"}


@pytest.fixture(scope="module")
def body():
    """A torso of which no training saw the like, without a spleen, as CT."""
    made = torso(HELD_OUT, 5.0, absent=("uterus", "spleen"))
    data = render_ct(made.tissue, generator(HELD_OUT))
    return Volume(data, Grid(data.shape, np.diag([*made.spacing_mm, 1.0]))), made


@pytest.fixture(scope="module")
def states():
    """Encoded bodies by bundle."""
    return {}


@pytest.fixture
def ask(bundle, predictor, body, states):
    """What a text finds in the body."""
    state = states.setdefault(bundle.name, predictor.encode(body[0]))
    return lambda *prompts: predictor.decode(state, PromptSet(tuple(prompts))).objects[0]


def test_names_find_their_organs(ask, body):
    """Mean Dice of five large structures on a phantom that was not trained on."""
    assert np.mean([dice(ask(TextPrompt(PLAIN[name])).mask, body[1].mask(name)) for name in ORGANS]) > LEAST_DICE


def test_another_name_moves_the_mask(ask, body):
    """Each organ's own name finds it better than any other organ's name does."""
    table = np.array([[dice(ask(TextPrompt(PLAIN[asked])).mask, body[1].mask(name)) for name in ORGANS]
                      for asked in ORGANS])
    assert (table.argmax(0) == np.arange(len(ORGANS))).all()


def test_sides(ask, body):
    """The other side's name moves the mask to the other side."""
    right, left = (np.argwhere(ask(TextPrompt(f"{side} lung")).mask)[:, 0].mean() for side in ("right", "left"))
    assert right > body[0].grid.shape[0] / 2 > left


def test_absent_organ(ask):
    """What was taken out, or belongs to another part of the body, is empty and said to be not found."""
    for text in ("patella", "left eye", "left hippocampus"):
        answer = ask(TextPrompt(text))
        assert not answer.mask.any() and answer.info["reason"].startswith("not found"), text


@pytest.mark.xfail(strict=True, reason="weights 0.1.0: of an organ taken out of a torso something is still found (72 "
                                       "ml for the spleen, at 0.78); only other parts of the body are not")
def test_organ_taken_out(ask):
    assert not ask(TextPrompt("spleen")).mask.any()


def _told(predictor, vectors):
    """The same predictor with other text vectors."""
    other = UniversalPredictor(predictor.encoder, predictor.head, vectors, predictor.classes, predictor.settings)
    other._known = predictor._known
    return other


def test_held_out_synonyms(bundle, predictor, body, states, ask):
    """Words that the network never saw in training: read by the lexicon they are the name; their own text vectors,
    given to the network as they are, find most of what the name finds."""
    words = {"liver": "iecur", "lung_right": "right lung field", "lung_left": "left breathing organ"}
    vectors = predictor.vectors.copy()
    for name, word in words.items():
        assert held_out(word)
        assert np.array_equal(ask(TextPrompt(word)).mask, ask(TextPrompt(PLAIN[name])).mask)
        vectors[predictor.classes.index(name)] = shipped_tower()([word])[0]
    raw, state = _told(predictor, vectors), states[bundle.name]
    found = [dice(raw.decode(state, PromptSet((TextPrompt(PLAIN[name]),))).objects[0].mask, body[1].mask(name))
             for name in words]
    assert np.mean(found) > 0.6, found


def test_permuted_text_vectors(bundle, predictor, body, states, ask):
    """With the text vectors of other classes the organs are lost: the network listens to them."""
    mixed = _told(predictor, np.roll(predictor.vectors, 17, 0))
    state = states[bundle.name]
    ours, theirs = ([dice(answers(TextPrompt(PLAIN[name])).mask, body[1].mask(name)) for name in ORGANS]
                    for answers in (ask, lambda prompt: mixed.decode(state, PromptSet((prompt,))).objects[0]))
    assert np.mean(theirs) < 0.4 * np.mean(ours)


def test_box_beside_a_name(ask, body):
    """A box restricts what a name finds."""
    at = np.argwhere(body[1].mask("liver"))
    low, high = at.min(0), (at.min(0) + at.max(0)) // 2
    mask = ask(TextPrompt("liver"), Box(tuple(low), tuple(high), 1, "voxel")).mask
    inside = tuple(slice(a, b) for a, b in zip(low, high))
    assert mask.any() and mask.sum() == mask[inside].sum()


def test_unclear_text_is_asked_back(ask):
    with pytest.raises(UnclearTextError) as caught:
        ask(TextPrompt("the thing over there"))
    assert str(caught.value)


def test_one_hot_control(bundle, body):
    """DoDNet: one number per class in the place of its text finds the same structures; other numbers lose them."""
    numbered = load_predictor(bundle.path, "torch", variant="dodnet")
    assert np.array_equal(numbered.vectors, np.eye(len(numbered.classes)))
    mixed, state = _told(numbered, np.roll(numbered.vectors, 17, 0)), numbered.encode(body[0])
    ours, theirs = ([dice(one.decode(state, PromptSet((TextPrompt(PLAIN[name]),))).objects[0].mask, body[1].mask(name))
                     for name in ORGANS] for one in (numbered, mixed))
    assert np.mean(ours) > 0.55, ours
    assert np.mean(theirs) < 0.4 * np.mean(ours), theirs


def test_text_and_box_and_a_second_look(bundle, predictor, body):
    """SegVol: a name and a box together say more than either alone; what is small is looked at again on smaller voxels.
    """
    zoomed = load_predictor(bundle.path, "torch", variant="segvol")
    state, plain, found = zoomed.encode(body[0]), predictor.encode(body[0]), []
    for name in ("kidney_right", "heart", "gallbladder", "urinary_bladder"):
        mask, text = body[1].mask(name), TextPrompt(name.replace("_", " "))
        at = np.argwhere(mask)
        box = Box(tuple(at.min(0)), tuple(at.max(0) + 1), 1, "voxel")
        answers = [zoomed.decode(state, PromptSet(told)).objects[0] for told in ((text,), (text, box), (box,))]
        found.append([dice(answer.mask, mask) for answer in answers])
        assert answers[1].info["zoomed"], name
        if name == "heart":
            once = predictor.decode(plain, PromptSet((text, box))).objects[0]
            assert found[-1][1] > dice(once.mask, mask) + 0.05
    text, both, box = np.mean(found, 0)
    assert both > 0.62 and both > text + 0.2 and both > box, found
