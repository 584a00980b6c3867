"""Task decoders beside a frozen generalist: nothing is forgotten, the gate decides."""
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.sam3d import PromptableVolume
from promptzoo.networks.volume_experts import VolumeExperts
from promptzoo.networks.warm_start import start_from

SMALL = {"channels": (8, 8, 8, 8, 8), "hidden": 16}


@pytest.fixture
def pair(tmp_path):
    """A generalist, and the same with two experts."""
    torch.manual_seed(0)
    general = PromptableVolume(**SMALL).eval()
    torch.save(general.state_dict(), tmp_path / "model.pt")
    return general, start_from(VolumeExperts(**SMALL), str(tmp_path / "model.pt")).eval()


def prompts():
    """A click in a window of 64 voxels."""
    points, labels = torch.full((1, 16, 3), 9.0), torch.full((1, 16), -1.0)
    labels[0, 0] = 1
    return points, labels, torch.rand(1, 12, 32, 32, 32)


def prefer(network, which):
    """Let the gate be sure of one decoder."""
    torch.nn.init.zeros_(network.gate[-1].weight)
    with torch.no_grad():
        network.gate[-1].bias.copy_(torch.tensor([20.0 if n == which else 0.0 for n in range(3)]))


def test_experts_begin_as_the_generalist(pair):
    general, network = pair
    image, told = torch.randn(1, 1, 64, 64, 64), prompts()
    with torch.inference_mode():
        wanted = general.decode(*general.image_encoder(image), *told)[0]
        for which in range(3):
            prefer(network, which)
            assert torch.equal(network.decode(*network.image_encoder(image), *told)[0], wanted)


def test_what_the_generalist_knew_is_kept_bit_for_bit(pair):
    """After training the experts answer otherwise; where the gate trusts the generalist, nothing has changed."""
    general, network = pair
    image, told = torch.randn(1, 1, 64, 64, 64), prompts()
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    network.train()
    logits, _, gate = network.by_task(torch.tensor([1]), *network.image_encoder(image), *told)
    (logits.square().mean() + gate.square().mean()).backward()
    optimizer.step()
    network.eval()
    trained = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert trained == {"experts", "gate"}
    assert not network.experts[1].blocks[0].conv1.conv.weight.grad.any(), "another task's decoder learns nothing"
    with torch.inference_mode():
        wanted = general.decode(*general.image_encoder(image), *told)
        prefer(network, 0)
        kept = network.decode(*network.image_encoder(image), *told)
        prefer(network, 1)
        expert = network.decode(*network.image_encoder(image), *told)[0]
    assert torch.equal(kept[0], wanted[0]) and torch.equal(kept[1], wanted[1])
    assert not torch.equal(expert, wanted[0])


def test_an_expert_answers_only_from_the_threshold_on(pair):
    _, network = pair
    for parameter in network.experts[0].parameters():
        torch.nn.init.normal_(parameter)
    image, told = torch.randn(1, 1, 64, 64, 64), prompts()
    torch.nn.init.zeros_(network.gate[-1].weight)
    answers = []
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        network.gate[-1].bias.copy_(torch.tensor([-9.0, 0.5, 0.4]))
        for threshold in (0.5, 0.6):
            network.threshold = threshold
            answers.append(network.decode(*encoded, *told)[0])
        prefer(network, 0)
        general = network.decode(*encoded, *told)[0]
    assert not torch.equal(answers[0], general) and torch.equal(answers[1], general)


@pytest.mark.parametrize("wrong", [{"experts": 0}, {"threshold": 1.0}, {"threshold": 0.0}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(BundleError, match="task decoders"):
        VolumeExperts(**SMALL, **wrong)
