"""Guided decoder: what no text means, what the gate does, order of words."""
import pytest
import torch

from promptzoo.networks.attribute_gated import AttributeGated
from promptzoo.networks.text_guided import TextGuided
from promptzoo.text.ngrams import bags


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return TextGuided((8, 8, 8, 8, 8), 32, 8, 32, 64, 6).eval()


def told(*sentences):
    return torch.from_numpy(bags([text.split() for text in sentences], 6, 64))


def test_order_of_words_and_words_count(small):
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        one, two, three = (small(image, told(text)) for text in ("upper left lung", "left upper lung", "right lung"))
    assert one.shape == (1, 1, 32, 32)
    assert not torch.allclose(one, two) and not torch.allclose(one, three)


def test_without_text_the_gate_lets_nothing_through(small):
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        plain, text = small(image), small(image, told("left lung"))
        assert not torch.allclose(plain, text)
        assert torch.equal(plain, small(image, torch.zeros(1, 6, 64)))
        scales = [guide.scale.clone() for guide in small.guides]
        for guide in small.guides:
            guide.scale.zero_()
        assert torch.allclose(small(image), small(image, told("left lung")))
        for guide, scale in zip(small.guides, scales):
            guide.scale.copy_(scale)


def test_only_what_is_not_the_encoder_is_trained(small):
    assert all("image_encoder" not in name for name, p in small.named_parameters() if p.requires_grad)
    assert small.seen(*small.image_encoder(torch.rand(2, 1, 64, 64))[:3]).shape == (2, 3, 32)


def test_attributes_gate_the_channels():
    torch.manual_seed(0)
    network = AttributeGated((8, 8, 8, 8, 8), 32, 8, 16).eval()
    maps = network.image_encoder(torch.rand(1, 1, 64, 64))[:3]
    with torch.inference_mode():
        few, many = (network.decode(torch.eye(7)[n:n + 1] + torch.eye(7)[5:6], *maps) for n in (1, 2))
    assert few.shape == (1, 1, 32, 32) and not torch.allclose(few, many)
