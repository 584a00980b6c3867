import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.adapted_sam import tuned_share
from promptzoo.networks.prompt_tuned_sam import PromptTunedSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.stacked_sam import StackedSam
from promptzoo.networks.warm_start import start_from

SMALL = {"size": 64, "channels": (8, 16, 16, 24, 32), "hidden": 32, "fine": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    network, file = PromptableSam(**SMALL).eval(), tmp_path_factory.mktemp("base") / "model.pt"
    torch.save({"model": network.state_dict()}, file)
    return network, file


def stacked(base, **options):
    torch.manual_seed(1)
    return start_from(StackedSam(3, **options, **SMALL), base[1]).eval()


@pytest.mark.parametrize("hyper", [True, False])
def test_it_starts_as_the_base_on_the_middle_slice(base, hyper):
    stack = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        network = stacked(base, hyper=hyper)
        for found, wanted in zip(network.image_encoder(stack), base[0].image_encoder(stack[:, 1:2])):
            assert torch.allclose(found, wanted, atol=1e-5)
        assert torch.allclose(network(stack), base[0](stack[:, 1:2]), atol=1e-4)
        assert torch.allclose(network(stack[:, :1]), base[0](stack[:, :1]), atol=1e-4), "a lone slice stands for all"


def woken(network):
    """The network with adapters that add something."""
    for name, parameter in network.named_parameters():
        if "adapter" in name and (".up." in name or name.endswith(".gate")):
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_only_the_attention_brings_neighbours_in(base):
    stack = torch.randn(1, 3, 64, 64)
    other = stack.clone()
    other[:, 2] += 1
    with torch.inference_mode():
        across, within = (woken(stacked(base, across=across)) for across in (True, False))
        assert not torch.allclose(across(stack), across(other), atol=1e-4)
        assert torch.allclose(within(stack), within(other), atol=1e-4)
        assert not torch.allclose(within(stack), base[0](stack[:, 1:2]), atol=1e-3)
        across.image_encoder.adapted = False
        assert torch.equal(across(stack), base[0](stack[:, 1:2])), "off: the base, adapter of the prompt included"


def test_the_adapter_of_the_decoder_is_made_from_the_prompt(base):
    network = woken(stacked(base))
    embedding = torch.randn(1, 32, 4, 4)
    with torch.inference_mode():
        first, second = (network.prompt_adapter(embedding, torch.randn(1, 1, 16, 32)) - embedding for _ in range(2))
    assert first.abs().max() > 0 and not torch.allclose(first, second)


def test_stacks_are_odd_and_little_is_tuned():
    with pytest.raises(BundleError, match="odd"):
        StackedSam(4, **SMALL)
    assert tuned_share(StackedSam(3)) < 0.05 and tuned_share(PromptTunedSam()) < 0.01


def test_learned_prompts_start_at_the_base_s_encoder_and_can_be_taken_away(base):
    network = start_from(PromptTunedSam(tokens=4, **SMALL), base[1]).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.image_encoder(image)[0], base[0].image_encoder(image)[0])
        torch.nn.init.normal_(network.image_encoder.prompts[2])
        assert not torch.equal(network.image_encoder(image)[0], base[0].image_encoder(image)[0])
        assert not torch.equal(network(image), base[0](image))
        network.image_encoder.prompted = False
        assert torch.equal(network(image), base[0](image))
