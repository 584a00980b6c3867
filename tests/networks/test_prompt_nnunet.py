"""Prompt-nnUNet: plain blocks of DynUNet, early fusion, and a prompt gate at the bottleneck."""
import pytest
import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetUpBlock
from torch import nn

from promptzoo.core.errors import BundleError
from promptzoo.networks.interactive_unet import FusedForward, InteractiveUNet
from promptzoo.networks.prompt_nnunet import PromptGate, PromptNNUNet
from promptzoo.networks.warm_start import adapted, start_from
from promptzoo.prompts.encoders import PROMPT_CHANNELS

SMALL = (8, 16, 24)
P = len(PROMPT_CHANNELS)


def window(dims, side=32, batch=2):
    torch.manual_seed(5)
    shape = (side,) * dims
    return torch.rand(batch, 1, *shape) * 2 - 1, torch.rand(batch, P, *shape)


def network(dims=3):
    torch.manual_seed(2)
    return PromptNNUNet(dims, SMALL).eval()


@pytest.mark.parametrize("dims, side", [(2, 32), (3, 32), (3, 48)])
def test_shapes(dims, side):
    image, prompts = window(dims, side, 1)
    net = network(dims)
    logits, quality = net(image, prompts, with_quality=True)
    assert logits.shape == image.shape and quality.shape == (1, 1)
    assert torch.equal(net(image), net(image, torch.zeros_like(prompts)))
    assert not torch.allclose(net(image), logits)


def test_backbone_is_the_one_of_nnunet():
    """Plain blocks without residual path, instance norm, transposed convolutions; the first block halves."""
    net = PromptNNUNet(3)
    assert all(isinstance(block, UnetBasicBlock) for block in net.image_encoder.levels)
    assert all(isinstance(block, UnetUpBlock) for block in net.decoder)
    norms = {type(m) for m in (*net.image_encoder.modules(), *net.decoder.modules()) if "Norm" in type(m).__name__}
    assert norms == {nn.InstanceNorm3d}
    features = net.image_encoder(torch.zeros(1, 1 + P, 32, 32, 32))
    assert [f.shape[-1] for f in features] == [16, 8, 4, 2]


def test_fresh_gate_changes_nothing():
    gate = PromptGate(3, P, 24, 8)
    feature, (_, prompts) = torch.randn(2, 24, 4, 4, 4), window(3)
    assert torch.equal(gate(feature, prompts), feature)


def test_gate_weighs_channels_and_places_by_the_prompts():
    gate = PromptGate(3, P, 24, 8)
    feature, (_, prompts) = torch.ones(2, 24, 4, 4, 4), window(3)
    prompts[:, :, :16] = 0
    prompts[:, :, 16:, :16] *= 0.5
    nn.init.normal_(gate.channel[-1].weight, std=0.5)
    by_channel = gate(feature, prompts)
    assert by_channel.std(dim=1).min() > 0.01 and by_channel.std(dim=(2, 3, 4)).max() < 1e-6
    nn.init.zeros_(gate.channel[-1].weight)
    nn.init.normal_(gate.place[-1].weight, std=0.5)
    by_place = gate(feature, prompts)
    assert by_place.std(dim=1).max() < 1e-6 and by_place[:, :, :2].std(dim=(2, 3, 4)).max() < 1e-6
    assert by_place[:, :, 2:].std(dim=(2, 3, 4)).min() > 0.01


def test_gate_is_at_the_bottleneck():
    """The gate changes the deepest features, and through them the mask."""
    net, (image, prompts) = network(), window(3)
    before = net(image, prompts)
    nn.init.constant_(net.gate.place[-1].bias, -3.0)
    assert not torch.allclose(net(image, prompts), before)


def test_size():
    assert sum(p.numel() for p in PromptNNUNet(3).parameters()) <= 5.0e6


def test_nothing_is_stored_twice():
    """DynUNet keeps its blocks under two names; a weights file must not."""
    net = PromptNNUNet(3)
    assert sum(v.numel() for v in net.state_dict().values()) == sum(p.numel() for p in net.parameters())


def test_wrong_sides_and_sizes():
    with pytest.raises(BundleError, match="multiples of 8"):
        network()(torch.zeros(1, 1, 36, 36, 36))
    with pytest.raises(BundleError, match="PromptNNUNet sizes"):
        PromptNNUNet(3, (8, 16))


def test_takes_the_convolutions_of_the_base(tmp_path):
    """More than 95 % of the weights come from the base; by hand for one decoder step."""
    torch.manual_seed(1)
    base, net = InteractiveUNet(3, (24, 48, 80, 112, 144)), PromptNNUNet(3)
    source, own = net.inherited(base.state_dict()), net.state_dict()
    taken = sum(v.numel() for k, v in own.items() if k in source and adapted(k, source[k], v) is not None)
    assert taken > 0.95 * sum(v.numel() for v in own.values())
    torch.save(base.state_dict(), tmp_path / "base.pt")
    start_from(net, str(tmp_path / "base.pt"))
    deep, skip = torch.randn(1, 48, 4, 4, 4), torch.randn(1, 24, 8, 8, 8)
    with torch.inference_mode():
        lifted = net.decoder[-1].transp_conv(deep)
        flat = torch.nn.functional.conv3d(deep, base.reduce[0].weight)
        wanted = torch.nn.functional.interpolate(flat, scale_factor=2.0, mode="nearest")
        assert torch.allclose(lifted, wanted, atol=1e-5)
        both = net.decoder[-1].conv_block.conv1(torch.cat([lifted, skip], 1))
        assert torch.allclose(both, base.decoder[0].conv1(lifted + skip), atol=1e-4)


def test_takes_its_own_weights(tmp_path):
    net = network()
    torch.save(net.state_dict(), tmp_path / "own.pt")
    other = start_from(PromptNNUNet(3, SMALL), str(tmp_path / "own.pt"))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_fused_forward():
    net = network()
    image, prompts = window(3)
    logits, estimate = FusedForward(net)(torch.cat([image, prompts], 1))
    assert torch.equal(logits, net(image, prompts)) and (0 <= estimate).all() and (estimate <= 1).all()
