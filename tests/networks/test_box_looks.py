"""A token looks into its own box: at nothing outside, alike at every size, alike in any batch."""
import pytest
import torch

from promptzoo.networks.box_looks import BoxLooks
from promptzoo.networks.open_vocabulary import EXTRA, TokenEncoder


@pytest.fixture(scope="module")
def looks():
    torch.manual_seed(0)
    part = BoxLooks(8, 6, hidden=16).eval()
    torch.nn.init.normal_(part.tell.weight)
    return part


def boxes(*one):
    """The same box for every token of a map of 2 x 3."""
    return torch.tensor(one, dtype=torch.float32).view(1, 4, 1, 1).expand(1, 4, 2, 3)


@pytest.mark.parametrize("box", [(30, 20, 50, 40), (0, 0, 64, 60), (-20, 40, 30, 90)])
def test_what_lies_outside_the_box_does_not_matter(looks, box):
    torch.manual_seed(1)
    image = torch.randn(1, 3, 128, 128)
    margin = 28  # the grid is wider than the box, and the field's kernels reach further
    x0, y0, x1, y1 = (max(0, v - margin) if n < 2 else v + margin for n, v in enumerate(box))
    outside, inside = torch.randn_like(image), image.clone()
    outside[..., y0:y1, x0:x1] = image[..., y0:y1, x0:x1]
    inside[..., max(0, box[1]):box[3], max(0, box[0]):box[2]] += 1
    with torch.inference_mode():
        first, other, changed = (looks(one, boxes(*box)) for one in (image, outside, inside))
    assert first.shape == (1, 8, 2, 3) and torch.allclose(first, other, atol=1e-5)
    assert not torch.allclose(first, changed, atol=1e-2)


def test_the_same_thing_twice_as_large_looks_the_same(looks):
    """The colours alone, without the learned field: a half red, half green box on grey."""
    part = BoxLooks(8, 6, hidden=16).eval()
    part.load_state_dict(looks.state_dict())
    for layer in (part.field[4].weight, part.field[4].bias):
        torch.nn.init.zeros_(layer)
    part.look[0].weight.data[:, -2:] = 0  # the sides of the box
    image = torch.zeros(1, 3, 192, 192)
    image[0, 0, 32:64, 32:48], image[0, 1, 32:64, 48:64] = 1, 1
    image[0, 0, 96:160, 96:128], image[0, 1, 96:160, 128:160] = 1, 1
    with torch.inference_mode():
        small, large, turned = (part(one, boxes(*box)) for one, box in (
            (image, (32, 32, 64, 64)), (image, (96, 96, 160, 160)), (image.transpose(2, 3), (32, 32, 64, 64))))
    assert (small - large).abs().max() < 0.3 * (small - turned).abs().max()


def test_a_batch_does_not_mix_and_a_grown_network_starts_as_it_was(looks):
    torch.manual_seed(2)
    image, box = torch.randn(2, 3, 64, 64), torch.cat([boxes(10, 10, 30, 30), boxes(20, 5, 60, 40)])
    with torch.inference_mode():
        both = looks(image, box)
        assert torch.allclose(both[1:], looks(image[1:], box[1:]), atol=1e-5)
    grown = TokenEncoder((8, 8, 16, 16, 16), 16, 8, looks=6).eval()
    plain = TokenEncoder((8, 8, 16, 16, 16), 16, 8).eval()
    plain.load_state_dict({k: v for k, v in grown.state_dict().items() if not k.startswith("looks.")})
    with torch.inference_mode():
        assert torch.equal(grown(image), plain(image)) and grown(image).shape[1] == EXTRA + 8
