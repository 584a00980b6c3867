"""Sentences of typical attributes: single words, what is held out, a vocabulary that covers everything."""
import pytest

from promptzoo.text.attributes.facts import (
    HELD_OUT_WAYS,
    KINDS,
    WAYS,
    Fact,
    cloze_way,
    facts,
    plain_sentences,
    single_words,
    vocabulary,
)


@pytest.fixture(scope="module")
def known():
    return facts()


@pytest.mark.parametrize("attribute, values, words", [
    ("colour", ("dark red", "pink"), ("red", "pink")), ("colour", ("bright on CT",), ("bright",)),
    ("shape", ("tube", "thin layer", "small round"), ("tube", "round")), ("size", ("fist sized",), ())])
def test_a_value_becomes_one_word(attribute, values, words):
    assert single_words(attribute, values) == words


def test_facts_are_those_of_the_lexicon(known):
    told = {(f.name, f.attribute): f.words for f in known if f.concept == "white_blood_cell"}
    assert told["white blood cell", "colour"][0] == "purple" and told["leukocyte", "size"] == ("large",)
    assert {f.attribute for f in known} == set(KINDS)


def test_some_names_are_held_out_but_never_a_concepts_own(known):
    others = [f for f in known if not f.first]
    assert not any(f.held_out for f in known if f.first)
    assert 0.12 < sum(f.held_out for f in others) / len(others) < 0.28
    assert not set(HELD_OUT_WAYS) & {*WAYS, *(cloze_way(attribute) for attribute in KINDS)}


def test_facts_are_spoken_and_every_word_is_in_the_vocabulary(known):
    fact = Fact("x", "small knot", True, "colour", ("red",))
    assert fact.said(WAYS[0], "[MASK]") == "The color of small knot is [MASK]."
    assert fact.said(cloze_way("colour"), "red") == "The typical color of small knot is red."
    plain = plain_sentences(known)
    assert "leukocyte is another name of white blood cell." in plain
    words = vocabulary(known, plain)
    assert len(set(words)) == len(words) < 3000 and words[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert {"purple", "leukocyte", "doctors", "usually", "say", "upper", "."} <= set(words)
