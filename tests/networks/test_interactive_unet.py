"""The network of the interactive-refinement family and the options that build its variants."""
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.interactive_unet import FusedForward, InteractiveUNet, PromptAttention
from promptzoo.prompts.encoders import PROMPT_CHANNELS

SHIPPED = (24, 48, 80, 112, 144)
SMALL = (8, 16, 24)
P = len(PROMPT_CHANNELS)


def window(dims, side=32, batch=2, channels=P):
    torch.manual_seed(5)
    shape = (side,) * dims
    return torch.rand(batch, 1, *shape) * 2 - 1, torch.rand(batch, channels, *shape)


def network(dims, **options):
    torch.manual_seed(3)
    return InteractiveUNet(dims, SMALL, **options).eval()


@pytest.mark.parametrize("dims", [2, 3])
def test_shapes(dims):
    image, prompts = window(dims)
    net = network(dims)
    logits, quality = net(image, prompts, with_quality=True)
    assert logits.shape == image.shape and quality.shape == (2, 1)
    assert net(image, prompts).shape == image.shape
    assert torch.isfinite(logits).all() and torch.isfinite(quality).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_no_prompt_is_empty_prompts(dims):
    image, prompts = window(dims)
    net = network(dims)
    assert torch.equal(net(image), net(image, torch.zeros_like(prompts)))


def test_prompts_matter():
    image, prompts = window(2)
    net = network(2)
    assert not torch.allclose(net(image, prompts), net(image))


def test_even_sides_are_enough():
    image, prompts = window(2, side=36)
    assert network(2, prompt_attention=True)(image, prompts).shape == image.shape


@pytest.mark.parametrize("dims, most", [(2, 2.0e6), (3, 5.0e6)])
def test_size(dims, most):
    """About 1–2 M parameters in 2D and at most 5 M in 3D, all options included."""
    assert sum(p.numel() for p in InteractiveUNet(dims, SHIPPED).parameters()) <= most
    everything = InteractiveUNet(dims, SHIPPED, prompt_attention=True, prior_channels=2)
    assert sum(p.numel() for p in everything.parameters()) <= most


@pytest.mark.parametrize("sizes", [(4, SMALL), (2, (8,)), (3, (8, 12))])
def test_unusable_sizes(sizes):
    with pytest.raises(BundleError, match="InteractiveUNet sizes"):
        InteractiveUNet(*sizes)


def test_quality_does_not_train_the_network():
    """The gradient of the estimated Dice ends at the head."""
    image, prompts = window(2)
    net = network(2)
    net(image, prompts, with_quality=True)[1].sum().backward()
    reached = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"quality"}


def test_fused_forward():
    """What engines compile gives the logits and the estimate after its sigmoid."""
    image, prompts = window(2)
    net = network(2)
    logits, estimate = FusedForward(net).eval()(torch.cat([image, prompts], 1))
    wanted, quality = net(image, prompts, with_quality=True)
    assert torch.equal(logits, wanted) and torch.equal(estimate, torch.sigmoid(quality))


@pytest.mark.parametrize("dims", [2, 3])
def test_fresh_attention_changes_nothing(dims):
    """PE-MED starts as the base network: the same bits."""
    image, prompts = window(dims)
    base, gated = network(dims), network(dims, prompt_attention=True)
    gated.load_state_dict(base.state_dict(), strict=False)
    assert torch.equal(gated(image, prompts), base(image, prompts))


def test_trained_attention_follows_the_prompts():
    """With other than zero weights the gate differs between places, by the prompts there, and stays within 0 … 2."""
    gate = PromptAttention(2, P, 8, 2)
    torch.nn.init.normal_(gate.mix[-1].weight)
    feature, (_, prompts) = torch.ones(2, 8, 16, 16), window(2)
    there, nowhere = gate(feature, prompts), gate(feature, torch.zeros_like(prompts))
    assert there.std() > 0.01 and nowhere.std(dim=(2, 3)).max() < 1e-6
    assert 0 <= there.min() and there.max() <= 2


@pytest.mark.parametrize("dims", [2, 3])
def test_no_prior_is_an_empty_prior(dims):
    """Without prior channels the network takes prompt maps alone; that means that no prior is known."""
    image, prompts = window(dims)
    net = network(dims, prior_channels=2)
    empty = torch.zeros_like(prompts[:, :2])
    assert torch.equal(net(image, prompts), net(image, torch.cat([prompts, empty], 1)))
    assert not torch.allclose(net(image, prompts), net(image, torch.cat([prompts, empty + 1], 1)))


def test_wrong_number_of_channels():
    image, prompts = window(2)
    with pytest.raises(BundleError, match="prompt channels"):
        network(2, prior_channels=2)(image, torch.cat([prompts, prompts[:, :1]], 1))
    with pytest.raises(BundleError, match="prompt channels"):
        network(2)(image, prompts[:, :-1])
