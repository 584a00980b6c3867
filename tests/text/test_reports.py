"""Sentences on opacities: form, bank, attributes, and words that mean nothing."""
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.text.ngrams import bags, grams
from promptzoo.text.reports import CELLS, Report, bank, check_sentence, clause_bank, from_attributes, words_of


def test_sentences_go_from_coarse_to_fine():
    report = Report((("upper", "left"), ("lower", "right")))
    assert report.sentence == ("Bilateral pulmonary infection, two infected areas, upper left lung and lower right "
                               "lung")
    assert Report(CELLS[:3], "small", 2).sentence == \
        "Unilateral pulmonary infection, two small infected areas, all left lung"
    assert Report().sentence == "No pulmonary infection, no infected areas, clear lungs"


def test_the_bank_names_each_report_once():
    scales, index = clause_bank()
    assert len(bank()) == len(index) == len({report.sentence for report in bank()}) == 57
    for report, places in zip(bank(), index):
        assert report.clauses == tuple(scales[n][place] for n, place in enumerate(places))


@pytest.mark.parametrize("text", ["upper left lung", "bilaterel infiltrates", "Opacity, right base"])
def test_words_of_reports_are_known(text):
    assert check_sentence(text)


@pytest.mark.parametrize("text", ["zzz", "the bright ellipse", "12 34"])
def test_other_words_are_asked_back(text):
    with pytest.raises(UnclearTextError, match="Which side"):
        check_sentence(text)


def test_exceptions_are_asked_back():
    with pytest.raises(UnclearTextError, match="without"):
        check_sentence("left lung without the upper zone")


def test_attributes():
    assert from_attributes({"side": "left", "lobe": "upper"}).cells == (("upper", "left"),)
    start = Report((("upper", "left"), ("lower", "right")))
    assert from_attributes({"side": "right"}, start).cells == (("lower", "right"),)
    assert from_attributes({"lobe": "middle"}, start).cells == (("middle", "left"), ("middle", "right"))
    assert from_attributes({"count": "2", "size": "large"}, start).clauses[1] == "two large infected areas"
    with pytest.raises(PromptError, match="side, lobe, count, size"):
        from_attributes({"grade": "3"})
    with pytest.raises(PromptError, match="left, right, both"):
        from_attributes({"side": "up"})


def test_a_typing_error_keeps_most_of_a_word():
    assert words_of("Upper left lung, one") == ["upper", "left", "lung", ",", "one"]
    found = bags([["bilateral"], ["bilaterel"], ["right"]], 4, 1024)[:, 0]
    assert found.sum(1) == pytest.approx([1, 1, 1]) and not bags([["left"]], 4, 1024)[0, 1:].any()
    near, far = found[0] @ found[1], found[0] @ found[2]
    assert near > 5 * far and grams("left", 1024) == grams("left", 1024)
