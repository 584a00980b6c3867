"""Networks that a record drives."""
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.networks.attribute_film import HEADS, AttributeFilm
from promptzoo.networks.temporal_prompted import TemporalPrompted
from promptzoo.text.ngrams import bags
from promptzoo.text.records import CLASSES, LENGTH, temporal_sentence

SMALL = {"channels": (8, 8, 8, 8, 8), "hidden": 32, "fine": 8}


@pytest.mark.parametrize("inject", ["film", "dynamic"])
def test_records_and_clicks_change_the_answer(inject):
    torch.manual_seed(0)
    network = AttributeFilm(**SMALL, width=32, inject=inject).eval()
    with torch.inference_mode():
        maps = network.image_encoder(torch.rand(1, 1, 64, 64))[:3]
        none, record, click = torch.zeros(1, 1, 16, 16), torch.eye(LENGTH)[:1], torch.zeros(1, 1, 16, 16)
        click[..., 3, 5] = 1
        plain = network.decode(record, none, *maps)
        assert plain.shape == (1, 1, 32, 32)
        assert not torch.allclose(plain, network.decode(torch.eye(LENGTH)[1:2], none, *maps))
        assert not torch.allclose(plain, network.decode(record, click, *maps))
    assert all("image_encoder" not in name for name, p in network.named_parameters() if p.requires_grad)


def test_the_default_record_is_that_of_the_likeliest_study():
    network = AttributeFilm(**SMALL, width=32)
    told = [torch.zeros(1, count) for count in HEADS]
    told[0][0, 1] = 50.0
    record = network.default_record(told)
    assert record.shape == (1, LENGTH) and record[0, CLASSES.index("liver lesion")] > 0.99
    start = len(CLASSES) + 2
    assert torch.allclose(record[0, start:start + 8], torch.full((8,), 1 / 8)) and record.sum() < 2.01


def test_unknown_injection():
    with pytest.raises(PromptZooError, match="film, dynamic"):
        AttributeFilm(**SMALL, inject="concat")


def test_sentences_of_positions():
    torch.manual_seed(0)
    network = TemporalPrompted(**SMALL, width=32, buckets=64, length=16).eval()
    said = torch.from_numpy(bags([temporal_sentence("stomach", p).split() for p in (0.1, 0.9)], 16, 64))
    with torch.inference_mode():
        maps = network.image_encoder(torch.rand(1, 1, 64, 64))[:3]
        one, two = (network.decode(said[n:n + 1], *maps) for n in (0, 1))
        told = network.attributes(*maps)
    assert not torch.allclose(one, two) and [len(one[0]) for one in told] == list(HEADS)
    assert torch.isclose(told[3].exp().sum(), torch.tensor(1.0), atol=1e-2)
