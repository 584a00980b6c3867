"""Text towers: ours with its shipped weights, those of other packages at random size, and the cache."""
import json
import time

import numpy as np
import pytest

from promptzoo.core.autoload import mend_imports
from promptzoo.core.errors import BundleError, MissingDependencyError, NotFoundError, PromptZooError
from promptzoo.text.lexicon import Lexicon, resolve
from promptzoo.text.towers import CachedTower, NgramTower, TextTower, load_tower, shipped_tower
from promptzoo.text.towers.ngrams import WEIGHTS, features

RESULTS = json.loads((WEIGHTS.parent / "results.json").read_text(encoding="utf-8"))


class Counting:
    """A tower that counts what it is asked."""

    name, dim = "counting", 2

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(list(texts))
        return np.array([[1, 0] if "left" in text else [0, 1] for text in texts], np.float32)


# ours

def test_the_shipped_tower_is_small_quick_and_deterministic():
    tower = shipped_tower()
    assert isinstance(tower, TextTower) and tower.dim == 128 and WEIGHTS.stat().st_size <= 3_000_000
    texts = ["left kidney", "Kidney, LEFT", "windpipe", "", "…"]
    first, again = tower(texts), NgramTower.load(WEIGHTS)(texts)
    assert first.shape == (5, 128) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(np.linalg.norm(first[:3], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(first[0], first[1], atol=1e-5)  # neither order nor case counts
    assert not first[3:].any()
    np.testing.assert_allclose(tower(["windpipe"])[0], first[2], atol=1e-5)  # nor what else is asked
    tower(["spleen"])
    started = time.perf_counter()
    for n in range(100):
        tower([f"vertebra {n}"])
    assert time.perf_counter() - started < 0.1 * 3  # 1 ms each, thrice for a busy machine


def test_left_is_not_right():
    lexicon, tower = Lexicon.load(), shipped_tower()
    pairs = [lexicon.sides(c) for c in lexicon.concepts if lexicon.sides(c)]
    cosines = [float(np.dot(*tower([left.name, right.name]))) for left, right in pairs]
    assert len(pairs) > 200 and max(cosines) < RESULTS["tower"]["sides"]["cosine_max"] + 0.02 <= 0.85


def test_names_are_nearer_to_their_synonyms_than_to_others():
    tower = shipped_tower()
    groups = [("liver", "hepatic organ", "livr"), ("left kidney", "left renal organ", "lft kidny"),
              ("trachea", "windpipe", "wind pipe"), ("spleen", "lienal organ", "splene")]
    vectors = [tower(group) for group in groups]
    for n, own in enumerate(vectors):
        others = np.concatenate([v for m, v in enumerate(vectors) if m != n])
        assert (own @ own.T).min() > (own @ others.T).max()


def test_numbers_of_the_shipped_weights_are_reproduced():
    """0.02: typing errors are drawn anew when the lexicon grows."""
    from promptzoo.cli.maintain.tower import measure

    told, found = RESULTS["tower"], measure(shipped_tower(), RESULTS["held_out"])
    for kind in ("held_out_synonyms", "held_out_everyday_words", "names_with_one_typing_error"):
        assert found[kind]["top1"] >= told[kind]["top1"] - 0.02, kind
        assert told[kind]["top1"] >= RESULTS["untrained_ngrams"][kind]["top1"] + 0.15, kind
    stated = {p.lower() for c in Lexicon.load().concepts for p in c.phrases}
    assert {p.lower() for held in RESULTS["held_out"].values() for p in held} <= stated


def test_features_depend_on_words_and_not_on_their_order():
    assert sorted(features("Left kidneys", 8192)) == sorted(features("kidney left", 8192))
    assert features("left", 8192) != features("right", 8192) and features("?!", 8192) == []
    assert len(features("liver " * 500, 8192)) == 64 * len(features("liver", 8192))


def test_damaged_weights():
    with pytest.raises(BundleError, match="weights of the text tower"):
        NgramTower({"table": np.zeros((2, 2))})
    with pytest.raises(BundleError, match="shapes of the text tower"):
        NgramTower({"table": np.zeros((4, 2)), "hidden.weight": np.zeros((3, 3)), "hidden.bias": np.zeros(3),
                    "out.weight": np.zeros((2, 3)), "out.bias": np.zeros(2)})


def test_a_tower_reads_what_the_lexicon_does_not_state():
    """A word held out of training and, here, of the lexicon."""
    lexicon = Lexicon.load()
    held = [(p, i) for p, i in RESULTS["held_out"]["synonyms"].items() if i == "trachea" or i == "gallbladder"]
    less = Lexicon([type(c)(**{**c.__dict__, "synonyms": (), "everyday": ()}) for c in lexicon.concepts])
    for text, concept in held:
        assert concept in [m.concept.id for m in resolve(text, less, tower=shipped_tower()).candidates] or \
            [m.concept.id for m in resolve(text, less, tower=shipped_tower()).wanted] == [concept]
    found = resolve("flurb xqzt", tower=shipped_tower())
    assert found.question and not found.wanted


# cache

def test_the_cache_asks_once_and_forgets_the_oldest():
    tower = Counting()
    cached = CachedTower(tower, 2)
    assert isinstance(cached, TextTower) and (cached.name, cached.dim) == ("counting", 2)
    np.testing.assert_array_equal(cached(["left", "b", "left"]), [[1, 0], [0, 1], [1, 0]])
    assert tower.asked == [["left", "b"]]
    cached(["left"])
    cached(["c"])
    cached(["left", "b"])
    assert tower.asked == [["left", "b"], ["c"], ["b"]] and len(cached) == 2
    assert (cached.hits, cached.misses) == (3, 4) and cached([]).shape == (0, 2)
    with pytest.raises(PromptZooError, match="size of the text cache"):
        CachedTower(tower, 0)


@pytest.mark.parametrize("spec", ["clip", "transformers:", "promptzoo:x", ""])
def test_unknown_towers(spec):
    with pytest.raises(PromptZooError, match="text tower: got .*allowed: promptzoo, transformers:FOLDER"):
        load_tower(spec)


def test_our_tower_by_name():
    np.testing.assert_array_equal(load_tower()(["liver"]), shipped_tower()(["liver"]))


# transformers and open_clip

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "left", "right", "kidney", "liver", "lung")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny random text models as folders: BERT, CXR-BERT, CLIP."""
    mend_imports()
    import torch
    import transformers
    from safetensors.torch import save_file

    from promptzoo.text.towers.cxr_bert import CxrBert

    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("towers")
    size = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "initializer_range": 0.5}
    bert = transformers.BertConfig(**size)
    transformers.BertModel(bert).save_pretrained(place / "bert")
    (place / "cxr").mkdir()
    save_file(CxrBert(bert, 8).state_dict(), place / "cxr" / "model.safetensors")
    told = {**bert.to_dict(), "model_type": "cxr-bert", "projection_size": 8}
    (place / "cxr" / "config.json").write_text(json.dumps(told))
    clip = transformers.CLIPTextConfig(**size, projection_dim=6, bos_token_id=2, eos_token_id=3, pad_token_id=0)
    transformers.CLIPTextModelWithProjection(clip).save_pretrained(place / "clip")
    tokenizer = transformers.BertTokenizerFast(vocab={word: n for n, word in enumerate(WORDS)})
    for name in ("bert", "cxr", "clip"):
        tokenizer.save_pretrained(place / name)
    return place


@pytest.mark.parametrize("kind, dim", [("bert", 16), ("cxr", 8), ("clip", 6)])
def test_text_models_from_a_folder(folders, kind, dim):
    tower = load_tower(f"transformers:{folders / kind}")
    vectors = tower(["left kidney", "right kidney", "liver", "left kidney"])
    assert vectors.shape == (4, dim) == (4, tower.dim) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    alone = load_tower(f"transformers:{folders / kind}")(["liver"])[0]
    np.testing.assert_allclose(alone, vectors[2], atol=1e-4)  # padding changes nothing but rounding


def test_ways_of_pooling(folders):
    from promptzoo.text.towers.transformers_tower import TransformersTower

    cls, mean = (TransformersTower.load(folders / "bert", pool)(["left kidney"]) for pool in ("cls", "mean"))
    assert np.abs(cls - mean).max() > 1e-3
    with pytest.raises(PromptZooError, match="projection; allowed: cls, mean or auto"):
        TransformersTower.load(folders / "bert", "projection")
    with pytest.raises(PromptZooError, match="pooling of the text tower: got best"):
        TransformersTower.load(folders / "bert", "best")


def test_missing_models(folders, tmp_path):
    with pytest.raises(NotFoundError, match="text model: got .*allowed: a folder with config.json"):
        load_tower(f"transformers:{tmp_path}")
    broken = tmp_path / "cxr"
    broken.mkdir()
    for file in (folders / "cxr").iterdir():
        if file.name != "model.safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    with pytest.raises(NotFoundError, match="weights: got .*model.safetensors"):
        load_tower(f"transformers:{broken}")


def test_open_clip_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingDependencyError, match=r"A text tower of open_clip needs .*promptzoo\[models\]"):
        load_tower("open_clip:ViT-B-16")


def test_a_tower_around_an_open_clip_model():
    """The interface that open_clip's models have, at random size: ``encode_text`` and a tokenizer of lists."""
    import torch

    from promptzoo.text.towers.open_clip_tower import OpenClipTower

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(256, 4)

        def encode_text(self, tokens):
            return self.table(tokens).sum(1)

    tower = OpenClipTower(Model(), lambda texts: torch.tensor([[ord(c) for c in t.ljust(20)] for t in texts]), "x")
    vectors = tower([f"liver {n}" for n in range(70)])
    assert vectors.shape == (70, 4) and tower.dim == 4
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
