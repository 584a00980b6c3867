"""The open-vocabulary detector: shapes, boxes, vectors of phrases."""
import pytest
import torch

from promptzoo.networks.open_vocabulary import EXTRA, OpenVocabularyDetector, boxes_of, phrase_logits
from promptzoo.networks.phrase_encoder import MOST_WORDS, PhraseEncoder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return OpenVocabularyDetector(64).eval()


def test_size_and_outputs(network):
    assert sum(p.numel() for p in network.parameters()) < 5e6
    picture = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        tokens = network(picture)
        texts = network.text_encoder(["red cell", "blue star"])
        logits = network(picture, texts)
    assert tokens.shape == (2, EXTRA + 128, 8, 12) and logits.shape == (2, 2, 8, 12)
    assert torch.allclose(logits, phrase_logits(tokens, texts.expand(2, -1, -1)), atol=1e-4)


def test_boxes_lie_around_their_tokens():
    tokens = torch.zeros(1, EXTRA + 4, 2, 3)
    tokens[0, 1:EXTRA, 1, 2] = torch.log(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    boxes = boxes_of(tokens)
    assert boxes[0, :, 1, 2].tolist() == pytest.approx([20 - 8, 12 - 16, 20 + 24, 12 + 32])
    assert boxes[0, :, 0, 0].tolist() == pytest.approx([-4, -4, 12, 12])


def test_phrases_are_unit_vectors_that_do_not_depend_on_their_neighbours():
    torch.manual_seed(1)
    encoder = PhraseEncoder(32, 64).eval()
    texts = ["Large purple cell", "cell", "", "large PURPLE, cell!", "a " * (MOST_WORDS + 5)]
    with torch.inference_mode():
        together, alone = encoder(texts), torch.cat([encoder([text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 1, 1], abs=1e-5)
    assert torch.equal(together[0], together[3]) and not torch.allclose(together[0], together[1], atol=1e-2)
