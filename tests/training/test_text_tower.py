"""Training of the text tower: the split, the texts, and some steps."""
import numpy as np
import pytest
import torch

from promptzoo.core.seeding import generator
from promptzoo.text.lexicon import Lexicon
from promptzoo.text.lexicon.spelling import bag, stems
from promptzoo.text.towers import NgramTower
from promptzoo.text.typos import mistyped
from promptzoo.training.text_tower import contrast, split, train, view


@pytest.fixture(scope="module")
def lexicon():
    """The shipped lexicon."""
    return Lexicon.load()


@pytest.fixture(scope="module")
def parts(lexicon):
    """Its phrases, split."""
    return split(lexicon)


def test_held_out_words_are_in_no_training_phrase(lexicon, parts):
    train_bags = {bag(stems(phrase)) for phrases in parts.train.values() for phrase in phrases}
    for kind, pairs in parts.held.items():
        assert len(pairs) > 100
        for phrase, concept in pairs:
            assert phrase in getattr(lexicon.concept(concept), kind)
            assert not {bag((*stems(phrase), *side)) for side in ((), ("left",), ("right",))} & train_bags
    assert all(parts.train.values()) and set(parts.train) == {c.id for c in lexicon.concepts}
    assert parts == split(lexicon) and parts.held != split(lexicon, 1).held


def test_views_speak_of_their_concept_and_are_drawn_from_the_generator(lexicon, parts):
    concept = lexicon.concept("kidney_left")
    views = [view(concept, parts.train[concept.id], True, generator(n)) for n in range(60)]
    assert len(set(views)) > 20 and any("bean" in text for text in views)
    assert views == [view(concept, parts.train[concept.id], True, generator(n)) for n in range(60)]
    assert sum("left" in text or "sinist" in text or text in ("LK", "lk") for text in views) >= 48


def test_typing_errors_spare_sides_and_short_words():
    texts = {mistyped("left rib of the pancreas", generator(n), 2) for n in range(200)}
    assert len(texts) > 100 and all(t.startswith("left rib of the p") for t in texts)
    assert mistyped("L1 rib", generator(0)) == "l1 rib" and mistyped("Niere", generator(0), 0) == "niere"


def test_contrast_is_least_where_concepts_are_apart():
    labels = torch.tensor([0, 0, 1, 1])
    apart = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = apart[[0, 2, 1, 3]]
    assert contrast(apart, labels) < 0.01 < 1 < contrast(mixed, labels)


def test_some_steps_bring_names_together(lexicon, parts):
    losses = []
    tensors = train(lexicon, parts, steps=40, families=24, buckets=1024, width=32, hidden=32, dim=16,
                    report=lambda step, loss: losses.append(loss))
    assert losses[-1] < 0.85 * losses[0] and all(np.isfinite(losses))
    tower = NgramTower(tensors)
    assert tower(["liver", "left kidney"]).shape == (2, 16) and tensors["table"].dtype == np.float16
    again = train(lexicon, parts, steps=2, families=8, buckets=256, width=8, hidden=8, dim=8)
    same = train(lexicon, parts, steps=2, families=8, buckets=256, width=8, hidden=8, dim=8)
    np.testing.assert_array_equal(again["table"], same["table"])
