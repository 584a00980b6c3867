"""Honest small checks of text-localised-lesion-seg (families.md, section 16) on the shipped weights."""
import json

import numpy as np
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.evaluation.metrics import dice
from promptzoo.evaluation.sentences import answer, measure_attributes, measure_sentences, sentence_scenes, swapped
from promptzoo.inference import load_predictor
from promptzoo.prompts import AttributePrompt, ClassPrompt, ObjectInfo, PromptSet, TextPrompt
from promptzoo.text.reports import Report

COUNT = 16


@pytest.fixture(scope="module")
def measured():
    """Mean Dice by what was asked, on radiographs that no training saw; most hold opacities that are not asked for."""
    predictor = load_predictor("text_localised_lesion_seg", "torch")
    return {name: float(np.mean(values)) for name, values in measure_sentences(
        predictor, sentence_scenes(COUNT)).items()}


@pytest.fixture(scope="module")
def scene():
    """One radiograph."""
    return sentence_scenes(1)[0]


def test_the_sentence_says_which(bundle, measured):
    """A sentence finds its opacities among others; one without a place finds them worse, by what it adds."""
    assert measured["all"] > 0.68 and measured["part"] > 0.58, measured
    assert measured["part"] - measured["part, no place named"] > 0.25, measured


def test_retrieved_is_nearly_as_good_as_given(bundle, measured):
    """The sentence that the bundle finds by itself, beside one that somebody wrote with full knowledge."""
    assert measured["retrieved"] > measured["all"] - 0.12, measured
    assert measured["retrieved sides"] > 0.75 and measured["retrieved places"] > 0.35, measured


def test_left_and_right(bundle, measured):
    """The swapped sentence leaves the place, and goes to the other side where something is."""
    assert measured["part, left and right swapped"] < 0.5 * measured["part"], measured
    assert measured["swapped, other side"] > 0.25, measured


def test_contradiction(bundle, measured):
    """A sentence on a part of the lungs without opacity does not find the others."""
    assert measured["part, elsewhere"] < 0.3 * measured["part"], measured


def test_mirrored_images(bundle, measured):
    """Sides are those of the patient, not of what anatomy looks like: the mirrored image answers the swapped words."""
    assert measured["mirrored"] > measured["part"] - 0.15, measured


def test_an_edit_costs_the_decoder_alone(bundle, predictor, scene, monkeypatch):
    """The image is encoded once; what was retrieved is shown, edited and given back."""
    calls = []
    encode = predictor.parts.encode
    monkeypatch.setattr(predictor, "parts", type(predictor.parts)(
        lambda image: calls.append(1) or encode(image), predictor.parts.decode, predictor.parts.score))
    state = predictor.encode(scene.volume)
    itself = predictor.decode(state, PromptSet((ClassPrompt("pulmonary infection"),))).objects[0]
    edited = PromptSet.from_json(json.loads(itself.info["generated"]))
    assert edited.of("text")[0].text == itself.info["sentence"] and itself.info["source"] == "retrieved"
    again = predictor.decode(state, edited).objects[0]
    assert np.array_equal(again.mask, itself.mask) and again.info["source"] == "given"
    predictor.decode(state, PromptSet((TextPrompt("lower left lung"),)))
    assert len(calls) == 1


def test_attributes_make_the_sentence(bundle, predictor, scene):
    """A side and a part of the lung as attributes say what the sentence says; unknown ones are named."""
    state = predictor.encode(scene.volume)
    zone, side = scene.asked[0]
    wanted = PromptSet((AttributePrompt("side", side), AttributePrompt("lobe", zone), AttributePrompt("count", "1")))
    one = predictor.decode(state, wanted).objects[0]
    assert one.info["sentence"] == Report(((zone, side),), count=1).sentence
    assert np.array_equal(one.mask, answer(predictor, state, one.info["sentence"]).mask)
    with pytest.raises(PromptError, match="colour"):
        predictor.decode(state, PromptSet((AttributePrompt("colour", "red"),)))


def test_unclear_text_is_asked_back(bundle, predictor, scene):
    state = predictor.encode(scene.volume)
    with pytest.raises(UnclearTextError, match="Which side"):
        predictor.decode(state, PromptSet((TextPrompt("zzz qqq"),)))


def test_a_typing_error_changes_little(bundle, predictor, scene, dice):
    state = predictor.encode(scene.volume)
    zone, side = scene.asked[0]
    right = answer(predictor, state, f"{zone} {side} lung").mask
    assert dice(right, answer(predictor, state, f"{zone}r {side} lung").mask) > 0.6
    assert dice(right, answer(predictor, state, f"{zone} {side}t lung").mask) > 0.6


def test_given_text_only(bundle, scene):
    """The variant after Ariadne's Thread needs a sentence and says so."""
    predictor = load_predictor(bundle.path, "torch", variant="ariadne-thread")
    state = predictor.encode(scene.volume)
    assert predictor.decode(state, PromptSet()).objects == ()
    with pytest.raises(PromptError, match="no text"):
        predictor.decode(state, PromptSet((), (ObjectInfo(1),)))
    named = predictor.decode(state, PromptSet((ClassPrompt("pulmonary infection"),))).objects[0]
    assert named.info["sentence"] == "pulmonary infection" and named.info["source"] == "given"
    assert answer(predictor, state, Report(scene.asked).sentence).mask.any()


def test_attributes_are_predicted_shown_and_overwritten(bundle, scene):
    """The variant after TGANet: predicted values are right more often than a guess, and a larger size marks more."""
    predictor = load_predictor(bundle.path, "torch", variant="tganet")
    found = {name: float(np.mean(values)) for name, values in measure_attributes(
        predictor, sentence_scenes(COUNT, numbers=(1, 3))).items()}
    assert found["predicted"] > 0.6 and found["size"] > 0.5 and found["number"] > 0.6, found
    assert found["none"] < found["predicted"] - 0.05 and found["large"] > 1.2 * found["small"], found
    state = predictor.encode(scene.volume)
    itself = predictor.decode(state, PromptSet()).objects[0]
    edited = PromptSet.from_json(json.loads(itself.info["generated"]))
    assert {p.name: p.value for p in edited.prompts} == itself.info["attributes"]
    with pytest.raises(PromptError, match="text"):
        predictor.decode(state, PromptSet((TextPrompt("left lung"),)))


def test_coarse_to_fine(bundle, scene):
    """The variant after Han et al.: the coarsest scale is told the sides, the next one everything; what is said at
    either scale counts."""
    predictor = load_predictor(bundle.path, "torch", variant="han-multiscale-text")
    found = {}
    for one in sentence_scenes(COUNT):
        state = predictor.encode(one.volume)
        for name, cells, truth in (("all", one.there, one.there), ("part", one.asked, one.asked),
                                   ("swapped", swapped(one.asked), one.asked)):
            told = answer(predictor, state, Report(cells).sentence)
            found.setdefault(name, []).append(dice(told.mask, one.truth(truth)))
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert means["all"] > 0.68 and means["part"] > 0.55 and means["swapped"] < 0.5 * means["part"], means
    assert told.info["scales"][0] in ("left lung", "right lung", "left lung and right lung")
    state, other = predictor.encode(scene.volume), load_predictor(bundle.path, "torch", variant="ariadne-thread")
    text = Report(scene.asked).sentence
    plain = answer(other, other.encode(scene.volume), text)
    assert not np.array_equal(plain.probability, answer(predictor, state, text).probability)
