"""Training of the question answerer: questions and answers of scenes, items, a step that learns."""
from types import SimpleNamespace

import numpy as np
import torch
from torch.utils.data import default_collate

from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.attribute_questions import (
    ANSWERS,
    ASKED,
    HELD_OUT_WAYS,
    WAYS,
    asked_name,
    commonest,
    question,
)
from promptzoo.data.synthesis.attribute_words import GROUPS, Described, group_of, tokens
from promptzoo.networks.open_vocabulary import OpenVocabularyDetector
from promptzoo.training.questions import QuestionDataset, QuestionUpdate, question_head


def test_questions_do_not_hold_their_answers_and_shares_are_those_of_the_objects():
    seen = [Described((0.0, 0.0, 9.0, 9.0), frozenset({colour, "round", "object", "cell"}), frozenset())
            for colour in ("red", "red", "blue")]
    told = {}
    for number in range(200):
        asked = question(generator(number), seen)
        if asked is not None:
            attribute, name, shares = asked
            assert not any(group_of(word) == attribute for word in tokens(name)) and abs(shares.sum() - 1) < 1e-9
            told[attribute, name] = {ANSWERS[n]: shares[n] for n in np.flatnonzero(shares)}
    assert told["colour", "cell"] == {"red": 2 / 3, "blue": 1 / 3} and {a for a, _ in told} == {"colour", "shape"}
    assert commonest(np.array([0.5, 0.5, 0])).tolist() == [True, True, False]
    assert asked_name("white blood cells", "colour") == "blood cells" and asked_name("red", "colour") == "red"
    assert not set(WAYS) & set(HELD_OUT_WAYS) and set(ASKED) <= set(GROUPS)


def test_items_repeat_and_a_few_steps_learn():
    torch.manual_seed(0)
    detector = OpenVocabularyDetector(64, (8, 8, 16, 16, 16), 16, 16, 64)
    data = QuestionDataset(detector, 64, 6, 64, 4)
    first = data[5]
    assert np.array_equal(first["objects"], QuestionDataset(detector, 64, 6, 64, 4)[5]["objects"])
    assert first["there"].any() and abs(first["target"].sum() - 1) < 1e-6 and first["objects"].shape[1] == 16 + 5
    network = question_head(detector)
    batch, losses = default_collate([data[n] for n in range(16)]), []
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    engine = SimpleNamespace(network=network, optimizer=optimizer, state=SimpleNamespace(device="cpu", iteration=1),
                             fire_event=lambda event: None)
    for _ in range(25):
        losses.append(QuestionUpdate()(engine, batch)["loss"])
    assert losses[-1] < 0.8 * losses[0]
