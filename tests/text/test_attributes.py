"""Captions with attributes: template, cloze, questions, caches, lint; networks of transformers at random."""
import json

import numpy as np
import pytest

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import NotFoundError, PromptZooError
from promptzoo.text.attributes.answers import PictureStatistics, QuestionNetwork
from promptzoo.text.attributes.builder import Caption, PromptBuilder, caption, lint
from promptzoo.text.attributes.knowledge import CountCloze, MaskedLanguageCloze, concept_of, concepts
from promptzoo.text.attributes.sorting import relevance, sorted_captions

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "typical", "color", "of", "is", "white", "blood", "cell",
         "purple", "red", "round", "shape", "what", "these", ".", "?", "where", "this", "located"]


def spotted(colour, at=(20, 10)):
    """A picture 64 x 80 of light grey with a disc."""
    rows, columns = np.indices((64, 80))
    picture = np.full((64, 80, 3), 0.85, np.float32)
    picture[(rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= 64] = colour
    return picture


def test_template_has_the_order_of_the_paper():
    told = {"location": "left", "shape": "round", "colour": "purple", "size": "large"}
    assert caption("cell", told) == "large purple round cell at the left"
    assert caption("cell", {}) == "cell"


def test_concepts_are_found_by_any_name_the_longest_first():
    assert concept_of("two WBCs here").name == "white blood cell"
    assert concept_of("a malignant melanoma").name == "melanoma" and concept_of("xyzzy") is None
    assert {"red blood cell", "platelet", "polyp"} <= {one.name for one in concepts()}


def test_a_file_with_a_wrong_attribute_is_refused(tmp_path):
    file = tmp_path / "own.json"
    body = {"aliases": [], "noun": "cell", "manual": {"colour": "round"}, "sentences": []}
    file.write_text(json.dumps({"concepts": {"x": body}}))
    with pytest.raises(PromptZooError, match="colour of x"):
        concepts(str(file))
    with pytest.raises(NotFoundError):
        concepts(str(tmp_path / "none.json"))


def test_the_cloze_counts_and_takes_no_word_from_the_name_itself():
    cloze = CountCloze()
    colours = dict(cloze.fill("colour", "white blood cell", 3))
    assert max(colours, key=colours.get) == "purple" and "white" not in colours
    assert sum(colours.values()) <= 1 + 1e-9 and len(cloze.fill("colour", "white blood cell", 1)) == 1
    assert cloze.fill("colour", "xyzzy", 3) == []


@pytest.mark.parametrize("colour, word", [((0.85, 0.1, 0.1), "red"), ((0.45, 0.2, 0.6), "purple"),
                                          ((0.2, 0.3, 0.8), "blue")])
def test_statistics_tell_colour_shape_place_and_size(colour, word):
    ask = PictureStatistics().ask
    picture = spotted(colour)
    assert ask(picture, "colour", "thing", None, 1)[0][0] == word
    assert ask(picture, "shape", "thing", None, 1)[0][0] == "round"
    assert {w for w, _ in ask(picture, "location", "thing", None, 3)} == {"left", "upper"}
    assert ask(picture, "size", "thing", None, 1)[0][0] == "medium"


def test_statistics_look_where_they_are_told_and_are_silent_on_nothing():
    picture = spotted((0.85, 0.1, 0.1))
    picture[40:60, 60:76] = (0.1, 0.2, 0.85)
    assert PictureStatistics().ask(picture, "colour", "x", np.array([[58, 38, 78, 62]]), 1)[0][0] == "blue"
    assert PictureStatistics().ask(np.full((32, 32, 3), 0.5), "colour", "x", None, 3) == []


def test_modes():
    picture = spotted((0.45, 0.2, 0.6))
    text = "white blood cell"
    assert PromptBuilder("none").captions(text) == [Caption(text)]
    assert PromptBuilder("noun").captions(text)[0].text == "cell"
    assert PromptBuilder("manual").captions(text)[0].text == "large purple round cell"
    assert PromptBuilder("manual", lay_noun=False).captions(text)[0].text == "large purple round white blood cell"
    assert "purple" in PromptBuilder("mlm").captions(text)[0].text
    assert PromptBuilder("vqa").captions(text, picture)[0].text.startswith("purple round cell at the ")
    hybrid = PromptBuilder("hybrid", 2, True).captions(text, picture)
    assert hybrid[0].text.startswith("large purple round cell") and hybrid[-1].text == text and len(hybrid) <= 3


def test_what_a_person_says_is_kept():
    assert PromptBuilder("manual").captions("small blue wbc")[0].text == "small blue round cell"
    assert PromptBuilder("manual").captions("xyzzy")[0].text == "xyzzy"


def test_sorted_captions_are_the_most_relevant_of_all_combinations():
    """Nouns, tones and two answers of each attribute; a caption is as good as its relevance."""
    asked = []

    def fits(texts):
        asked.extend(texts)
        return [0.9 if one == "dark purple round object" else 0.5 if one == "purple round nucleus" else 0.1
                for one in texts]

    picture = spotted((0.45, 0.2, 0.6))
    made = PromptBuilder("sorted", 2).captions("nuclei", picture, fits=fits)
    assert made == [Caption("dark purple round object", 0.9), Caption("purple round nucleus", 0.5)]
    assert len(asked) == len(set(asked)) and {one.split()[-1] for one in asked} == {"nucleus", "cell", "object"}
    assert {one.split()[0] for one in asked} >= {"bright", "dark"}
    assert PromptBuilder("sorted", 1, True).captions("nuclei", picture, fits=fits)[-1] == Caption("nuclei", 0.9)


def test_sorted_captions_keep_what_was_said_once():
    asked = []
    builder = PromptBuilder("sorted", 3)
    builder.captions("dark red nuclei", spotted((0.45, 0.2, 0.6)), fits=lambda t: asked.extend(t) or [1.0] * len(t))
    assert asked and all(one.startswith("dark red") and "purple" not in one for one in asked)
    asked.clear()
    builder.captions("red blob at the left", spotted((0.45, 0.2, 0.6)),
                     fits=lambda t: asked.extend(t) or [1.0] * len(t))
    assert all(one.endswith("red blob at the left") and one.count("red") == 1 for one in asked), "not a known name"
    assert len(builder.captions("nuclei")) == 3, "without a picture tones and nouns are left"


def test_relevance_is_the_mean_of_the_surest():
    assert relevance(np.array([0.2] * 20 + [0.1] * 30)) == pytest.approx(0.2, abs=0.002)
    assert 0 < relevance(np.zeros(0)) < 0.01 and relevance(np.array([0.4])) > relevance(np.array([0.4, 0.1]))
    assert sorted_captions(["a", "b", "c"], [0.1, 0.5, 0.5], 2) == [("b", 0.5), ("c", 0.5)]


@pytest.mark.parametrize("arguments", [("often",), ("mlm", 0), ("mlm", 10)])
def test_bad_ways_are_refused(arguments):
    with pytest.raises(PromptZooError):
        PromptBuilder(*arguments)


class Counting(PictureStatistics):
    asked = 0

    def ask(self, *others):
        Counting.asked += 1
        return super().ask(*others)


def test_answers_are_kept_per_picture_and_name():
    builder, picture = PromptBuilder("vqa", answers=Counting(), cached=1), spotted((0.85, 0.1, 0.1))
    first = builder.captions("polyp", picture, "a")
    once = Counting.asked
    assert builder.captions("polyp", picture, "a") == first and Counting.asked == once
    builder.captions("polyp", spotted((0.2, 0.3, 0.8)), "b")
    assert Counting.asked == 2 * once, "another picture is asked anew"
    builder.captions("polyp", picture, "a")
    assert Counting.asked == 3 * once, "the oldest is forgotten"


def test_lint_says_what_each_word_adds():
    value = {"large purple cell": 0.8, "purple cell": 0.9, "large cell": 0.3, "large purple": 0.7}
    told = dict(lint(lambda texts: [value[t] for t in texts], "Large purple cell"))
    assert told == pytest.approx({"large": -0.1, "purple": 0.5, "cell": 0.1})
    assert lint(lambda texts: [1.0], "cell") == []


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder with a tiny random masked language model."""
    mend_imports()
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                               intermediate_size=32)).save_pretrained(folder)
    return folder


def test_a_masked_language_model_fills_the_cloze(bert):
    answers = MaskedLanguageCloze(str(bert)).fill("colour", "white blood cell", 3)
    assert {word for word, _ in answers} == {"purple", "red", "white"}
    assert [s for _, s in answers] == sorted((s for _, s in answers), reverse=True) and all(s > 0 for _, s in answers)
    caption_ = PromptBuilder("mlm", cloze=MaskedLanguageCloze(str(bert))).captions("wbc")[0].text
    assert caption_.endswith("round cell") and caption_.split()[0] in ("purple", "red", "white")


@pytest.fixture(scope="module")
def vilt(tmp_path_factory, bert):
    """A folder with a tiny random ViLT that answers with one of three words."""
    import torch
    from transformers import BertTokenizer, ViltConfig, ViltForQuestionAnswering, ViltImageProcessor, ViltProcessor

    folder = tmp_path_factory.mktemp("vilt")
    torch.manual_seed(0)
    config = ViltConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, image_size=32, patch_size=8, max_position_embeddings=40)
    config.id2label, config.label2id = {0: "red", 1: "round", 2: "purple"}, {"red": 0, "round": 1, "purple": 2}
    ViltForQuestionAnswering(config).save_pretrained(folder)
    ViltProcessor(ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8),
                  BertTokenizer.from_pretrained(str(bert))).save_pretrained(folder)
    return folder


def test_a_question_network_answers_with_words_of_the_attribute(vilt):
    answers = QuestionNetwork(str(vilt)).ask(spotted((0.9, 0.1, 0.1)), "colour", "cell", None, 3)
    assert {word for word, _ in answers} == {"red", "purple"}
    assert QuestionNetwork(str(vilt)).ask(spotted((0.9, 0.1, 0.1)), "texture", "cell", None, 3) == []


@pytest.mark.parametrize("kind", [MaskedLanguageCloze, QuestionNetwork])
def test_missing_networks_are_told(kind, tmp_path):
    with pytest.raises(NotFoundError, match="local folder"):
        kind(str(tmp_path / "nothing"))
