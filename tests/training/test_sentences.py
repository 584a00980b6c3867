"""Scenes with sentences: what a sentence names is what is marked."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.chest import Opacity
from promptzoo.text.reports import CELLS, bank, check_sentence
from promptzoo.training.sentences import SentenceScenes, ask, report_of, truth_of


@pytest.fixture
def opacities():
    """One opacity of 4 pixels in each of three parts of the lungs."""
    found = []
    for n, (zone, side) in enumerate((("upper", "left"), ("lower", "left"), ("middle", "right"))):
        mask = np.zeros((16, 16), bool)
        mask[4 * n:4 * n + 2, :2] = True
        found.append(Opacity(mask, zone, side))
    return found


def test_every_sentence_can_be_read_and_names_its_parts(opacities):
    rng, seen = generator(1, 0), set()
    for _ in range(120):
        text, cells = ask(opacities, rng)
        assert text == "" or check_sentence(text)
        named = [one for one in opacities if (one.zone, one.side) in cells]
        assert truth_of(opacities, cells, 16).sum() == 4 * len(named)
        for side, other in (("left", "right"), ("right", "left")):
            if side in text.split() and other not in text.split() and "clear" not in text:
                assert {place[1] for place in cells} == {side}, text
        seen.add(len(named))
    assert seen == {0, 1, 2, 3}, "whole, part and nothing are asked for"


def test_the_report_names_what_is_there(opacities):
    assert report_of(opacities).clauses == ("Bilateral pulmonary infection", "three medium infected areas",
                                            "upper left lung and lower left lung and middle right lung")
    assert report_of(opacities, [("upper", "right")]).sentence.startswith("No pulmonary")


def test_items():
    scenes = SentenceScenes(2, 3, 64, 128, 12, seed=9)
    first, again = scenes[1], scenes[1]
    assert first["image"].shape == (1, 1, 64, 64) and first["bags"].shape == (3, 12, 128)
    assert first["label"].shape == (3, 1, 64, 64) and first["whole"].any() == (int(first["report"]) > 0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(bank()[int(first["report"])].cells) <= len(CELLS)
    with pytest.raises(IndexError):
        scenes[2]
    with pytest.raises(PromptZooError):
        SentenceScenes(0)
