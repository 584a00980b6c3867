"""Text-driven heads: text, box and image each move the answer; windows in a batch answer as one by one."""
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.networks.text_universal import TEXT, TextUniversal, resumed

SMALL = {"channels": (8, 8, 16, 16), "features": 8}


def inputs(count=2, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    text = torch.nn.functional.normalize(torch.randn(count, TEXT, generator=generator), dim=1)
    return torch.randn(1, 4, side, side, side, generator=generator), text, torch.zeros(count, 1, side, side, side)


@pytest.fixture(params=["dynamic", "query"])
def network(request):
    torch.manual_seed(1)
    return TextUniversal(head=request.param, **SMALL).eval()


def test_what_counts(network):
    """Other words, a box, another image: another answer; a class does not depend on its neighbours."""
    image, text, box = inputs()
    with torch.inference_mode():
        both = network(image, text, box)
        assert both.shape == (2, 1, 16, 16, 16) and not torch.allclose(both[0], both[1], atol=1e-4)
        assert torch.allclose(network(image, text[1:], box[1:]), both[1:], atol=1e-5)
        box[0, 0, 4:8, 4:8, 4:8] = 1
        inside = network(image, text, box) - both
        assert inside[0, 0, 4:8, 4:8, 4:8].abs().min() > 0 and not inside[1].any()
        assert not torch.allclose(network(inputs(seed=3)[0], text, 0 * box), both, atol=1e-3)


def test_batch_of_windows(network):
    """Engines run one class per window, several windows at once."""
    image, text, box = inputs()
    images = torch.cat([image, inputs(seed=5)[0]])
    with torch.inference_mode():
        together = network(images, text, box)
        apart = torch.cat([network(images[n:n + 1], text[n:n + 1], box[n:n + 1]) for n in range(2)])
    assert torch.allclose(together, apart, atol=1e-4)


def test_drawn_voxels(network):
    """A head gives the same for some voxels as for all."""
    image, text, box = inputs()
    chosen = torch.tensor([5, 900, 4000])
    with torch.inference_mode():
        voxels, *scales = network.image_encoder(image)
        some = network.head(text, box.flatten(2)[:, :, chosen][..., None, None],
                            voxels.flatten(2)[:, :, chosen][..., None, None], *scales)
        assert torch.allclose(some.flatten(1), network(image, text, box).flatten(2)[:, 0, chosen], atol=1e-4)


def test_resumed_encoder_alone(tmp_path):
    """Another head starts on the encoder of an earlier run."""
    first = TextUniversal(**SMALL)
    torch.save(first.state_dict(), tmp_path / "model.pt")
    second = resumed(TextUniversal(head="query", frozen_encoder=True, **SMALL), str(tmp_path / "model.pt"), False)
    assert torch.equal(first.image_encoder.stem.weight, second.image_encoder.stem.weight)
    assert not any(p.requires_grad for p in second.image_encoder.parameters())


def test_unknown_head():
    with pytest.raises(PromptZooError, match="head"):
        TextUniversal(head="prophet")


def test_organ_features_are_told_apart():
    """The loss of the dual-prompt head is least when voxels lie nearest to their own organ's row; name and row both
    count."""
    torch.manual_seed(2)
    head = TextUniversal(head="dual", head_options={"classes": 3, "size": 8}, **SMALL).head
    features, classes = torch.randn(8, 60), torch.arange(60) % 3 + 1
    features[0] += 3.0 * (classes - 2)
    optimiser = torch.optim.Adam(head.parameters(), 0.02)
    first = float(head.own_loss(features, classes).detach())
    for _ in range(40):
        optimiser.zero_grad()
        loss = head.own_loss(features, classes)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.7 * first and not head.own_loss(features, 0 * classes)
    text = torch.nn.functional.normalize(torch.randn(1, TEXT), dim=1)
    told = [head.read(torch.cat([text, torch.eye(3)[n:n + 1]], 1)) for n in (0, 1)]
    parts = (torch.zeros(1, 1, 4, 4, 4), torch.randn(1, 8, 4, 4, 4), torch.randn(1, 16, 2, 2, 2))
    other = torch.cat([-told[0][:, :TEXT], told[0][:, TEXT:]], 1)
    with torch.inference_mode():
        answers = [head(one, *parts) for one in (*told, other)]
    assert not torch.allclose(answers[0], answers[1]) and not torch.allclose(answers[0], answers[2])
