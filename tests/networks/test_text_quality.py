"""The judge of masks: what it listens to, and what it leaves alone."""
import pytest
import torch

from promptzoo.networks.text_quality import TextQuality, begun
from promptzoo.networks.text_universal import TextUniversal

SMALL = {"channels": (8, 8, 16, 16), "features": 8}


@pytest.fixture
def judge():
    torch.manual_seed(4)
    return TextQuality(**SMALL).eval()


def given(network, seed=0):
    """Texts, masks, weights, grey values and features of one window."""
    draw = torch.Generator().manual_seed(seed)
    image = torch.randn(1, 4, 16, 16, 16, generator=draw)
    mask = torch.zeros(2, 1, 16, 16, 16)
    mask[:, 0, 2:10, 2:10, 2:10] = 1
    text = torch.nn.functional.normalize(torch.randn(2, 128, generator=draw), dim=1)
    with torch.inference_mode():
        return [text, mask, torch.ones(1, 1, 16, 16, 16), image[:, :1],
                torch.randn(2, 1, 16, 16, 16, generator=draw), *network.image_encoder(image)]


def test_what_counts(judge):
    """Another name, another mask, another image: another estimate; voxels of no weight do not count."""
    with torch.inference_mode():
        parts = given(judge)
        first, opinion = judge.quality(*parts)
        assert first.shape == (2, 1) and opinion.shape == (2, 1, 16, 16, 16) and first[0] != first[1]
        smaller = parts[1].clone()
        smaller[:, :, 5:] = 0
        assert (judge.quality(parts[0], smaller, *parts[2:])[0] != first).all()
        assert (judge.quality(*parts[:3], parts[3] + 1, *parts[4:])[0] != first).all()
        parts[2][..., 12:] = 0
        outside = parts[1].clone()
        outside[..., 12:] = 1
        assert torch.equal(judge.quality(parts[0], outside, *parts[2:])[0], judge.quality(*parts)[0])


def test_drawn_voxels_stand_for_others(judge):
    """Half of the voxels, each standing for two, give nearly the same estimate."""
    with torch.inference_mode():
        text, mask, weight, grey, told, voxels, *scales = given(judge)
        chosen = torch.randperm(4096, generator=torch.Generator().manual_seed(1))[:2048]

        def some(value):
            return value.flatten(2)[:, :, chosen][..., None, None]

        drawn = judge.quality(text, some(mask), 2 * some(weight), some(grey), some(told), some(voxels), *scales)[0]
        assert torch.allclose(drawn, judge.quality(text, mask, weight, grey, told, voxels, *scales)[0], atol=0.05)


def test_the_judged_network_stays(judge, tmp_path):
    """Only the judge is trained; the rest is the network that it judges."""
    torch.manual_seed(5)
    base = TextUniversal(**SMALL)
    torch.save(base.state_dict(), tmp_path / "model.pt")
    begun(judge, str(tmp_path / "model.pt"))
    assert torch.equal(judge.head.controller[0].weight, base.head.controller[0].weight)
    assert {name.split(".")[0] for name, p in judge.named_parameters() if p.requires_grad} == {"quality"}
