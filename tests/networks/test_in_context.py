"""The network that finished cases prompt."""
import pytest
import torch

from promptzoo.networks.example_selector import Selector
from promptzoo.networks.in_context import InContextNet, Likeness, inside_outside
from promptzoo.prompts.encoders.context import CONTEXT_CHANNELS

CHANNEL = {name: n for n, name in enumerate(CONTEXT_CHANNELS)}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return InContextNet(channels=(8, 8, 16, 16, 16), hidden=32, fine=4, width=32, blocks=1).eval()


def told(*places):
    """Prompt maps ``[1, N, 9, 64, 64]`` of whole masks with one square each."""
    maps = torch.zeros(1, len(places), len(CONTEXT_CHANNELS), 64, 64)
    maps[:, :, CHANNEL["dense"]] = 1
    for n, (row, column) in enumerate(places):
        maps[0, n, CHANNEL["previous"], row:row + 16, column:column + 16] = 1
    return maps


def test_any_number_of_examples_in_any_order(network):
    """One query beside 1 and 3 examples; their order does not matter, what they show does."""
    torch.manual_seed(5)
    images = torch.randn(4, 1, 64, 64)
    with torch.inference_mode():
        maps = network.image_encoder(images)
        query, shown = [one[:1] for one in maps], told((8, 8), (24, 24), (40, 8))
        asked = torch.zeros(1, len(CONTEXT_CHANNELS), 64, 64)

        def ask(order, prompts):
            return network.decode(query, asked, [one[1:][order][None] for one in maps], prompts)

        first = ask([0, 1, 2], shown)
        assert first.shape == (1, 1, 32, 32) == ask([0], shown[:, :1]).shape
        assert torch.allclose(first, ask([2, 0, 1], shown[:, [2, 0, 1]]), atol=1e-4)
        assert (first - ask([0, 1, 2], told((40, 40), (0, 0), (8, 40)))).abs().max() > 1e-3


def test_prompts_tell_inside_and_outside():
    """A mask says both everywhere; a box says what lies beyond it; a click says a spot; nothing says nothing."""
    maps = torch.zeros(4, len(CONTEXT_CHANNELS), 8, 8)
    maps[0, CHANNEL["previous"], 2:4, 2:4] = maps[0, CHANNEL["dense"]] = 1
    maps[1, CHANNEL["box"], 2:6, 2:6] = maps[1, CHANNEL["box_shape"], 3:5, 3:5] = 1
    maps[2, CHANNEL["point+"], 4, 4] = 1
    inside, outside = (one[:, 0] for one in inside_outside(maps))
    assert (inside[0] + outside[0] == 1).all() and inside[0].sum() == 4
    assert inside[1].sum() == 4 and outside[1].sum() == 64 - 16
    assert inside[2].sum() == 1 and not outside[2].any() and not inside[3].any() and not outside[3].any()


def test_likeness_finds_what_looks_the_same():
    """A feature that only the marked cells of the examples have is found elsewhere in the query."""
    query, template = torch.randn(1, 4, 6, 6) * 0.1, torch.randn(1, 2, 4, 6, 6) * 0.1
    query[0, 0, 4:, 4:], template[0, :, 0, :2, :2] = 3, 3
    inside = torch.zeros(1, 2, 1, 6, 6)
    inside[..., :2, :2] = 1
    with torch.inference_mode():
        anywhere = Likeness()(query, template, inside, 1 - inside)[0, 0]
    assert anywhere[4:, 4:].min() > 0.8 and anywhere[:4, :4].max() < 0.2


def test_selector_starts_without_a_preference():
    scores = Selector()(torch.randn(3, 16, 4, 4), torch.randn(3, 16, 4, 4), torch.rand(3, 1, 4, 4))
    assert scores.shape == (3, 1) and not scores.any()


def test_what_is_trained(network):
    """Encoder and selector stay as they are while masks are learned."""
    tuned = {id(one) for one in network.tuned()}
    for part in (network.image_encoder, network.selector):
        assert not tuned & {id(one) for one in part.parameters()}
    assert network(torch.randn(2, 1, 64, 64)).shape == (2, 1, 32, 32)
