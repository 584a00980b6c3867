"""Prompt-ResUNet: an encoder of the image alone, and a prompt branch beside it."""
import pytest
import torch

from promptzoo.networks.interactive_unet import FusedForward, InteractiveUNet
from promptzoo.networks.prompt_resunet import PromptResUNet
from promptzoo.networks.warm_start import adapted, start_from
from promptzoo.prompts.encoders import PROMPT_CHANNELS

SMALL = (8, 16, 24)
P = len(PROMPT_CHANNELS)


def window(dims, side=32, batch=2):
    torch.manual_seed(5)
    shape = (side,) * dims
    return torch.rand(batch, 1, *shape) * 2 - 1, torch.rand(batch, P, *shape)


@pytest.mark.parametrize("dims, side", [(2, 32), (3, 32), (3, 24)])
def test_shapes(dims, side):
    image, prompts = window(dims, side)
    net = PromptResUNet(dims, SMALL).eval()
    logits, quality = net(image, prompts, with_quality=True)
    assert logits.shape == image.shape and quality.shape == (2, 1)
    assert torch.equal(net(image), net(image, torch.zeros_like(prompts)))
    assert not torch.allclose(net(image), logits)


def test_image_features_do_not_know_the_prompts():
    """``image_encoder`` takes the image alone; what it gives is the same whatever is prompted, and it is used."""
    image, prompts = window(3)
    net, seen = PromptResUNet(3, SMALL).eval(), []
    net.image_encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))
    for given in (prompts, torch.zeros_like(prompts), None):
        net(image, given)
    assert len(seen) == 3
    for inputs, output in seen:
        assert inputs[0].shape[1] == 1
        assert all(torch.equal(a, b) for a, b in zip(output, seen[0][1]))


def test_prompts_reach_every_level():
    net = PromptResUNet(3, SMALL).eval()
    image, prompts = window(3)
    told, untold = net.features(torch.cat([image, prompts], 1)), net.features(torch.cat([image, 0 * prompts], 1))
    assert len(told) == len(SMALL)
    assert all(not torch.allclose(a, b) for a, b in zip(told, untold))


def test_size():
    assert sum(p.numel() for p in PromptResUNet(3).parameters()) <= 5.0e6


def test_prompt_branch_is_light():
    net = PromptResUNet(3)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    assert count["prompt_branch"] < 0.05 * count["image_encoder"]


def test_takes_the_weights_of_the_base(tmp_path):
    """More than 95 % of the weights come from the base; the two stems together are the fused stem."""
    torch.manual_seed(1)
    base = InteractiveUNet(3, (24, 48, 80, 112, 144))
    net = PromptResUNet(3)
    source, own = net.inherited(base.state_dict()), net.state_dict()
    taken = sum(v.numel() for k, v in own.items() if k in source and adapted(k, source[k], v) is not None)
    assert taken > 0.95 * sum(v.numel() for v in own.values())
    torch.save(base.state_dict(), tmp_path / "base.pt")
    start_from(net, str(tmp_path / "base.pt"))
    image, prompts = window(3, 16)
    with torch.inference_mode():
        parts = net.image_encoder.stem(image) + net.prompt_branch.stem(prompts)
        assert torch.allclose(parts, base.image_encoder.stem(torch.cat([image, prompts], 1)), atol=1e-5)


def test_takes_its_own_weights(tmp_path):
    torch.manual_seed(1)
    net = PromptResUNet(3, SMALL)
    torch.save(net.state_dict(), tmp_path / "own.pt")
    other = start_from(PromptResUNet(3, SMALL), str(tmp_path / "own.pt"))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_fused_forward():
    net = PromptResUNet(3, SMALL).eval()
    image, prompts = window(3)
    logits, estimate = FusedForward(net)(torch.cat([image, prompts], 1))
    assert torch.equal(logits, net(image, prompts)) and (0 <= estimate).all() and (estimate <= 1).all()
