"""The low-level branch of SPPNet: it begins by saying nothing, is added to the masks' features, and alone is tuned
beside the decoder."""
import torch

from promptzoo.networks.efficient_sam import EfficientSam
from promptzoo.networks.single_point import SinglePointSam

SIZES = {"size": 64, "hidden": 32, "student": {"widths": [8, 8, 16, 16, 16], "depths": [1, 1, 1, 1]}}


def pair():
    """The network, and the one without the branch, with the same weights."""
    torch.manual_seed(0)
    network, plain = SinglePointSam(**SIZES), EfficientSam(**SIZES)
    plain.load_state_dict({name: value for name, value in network.state_dict().items() if "low_level" not in name})
    return network.eval(), plain.eval()


def test_the_branch_adds_to_the_features_and_nothing_before_training():
    network, plain = pair()
    image = torch.rand(2, 1, 64, 64) * 2 - 1
    with torch.inference_mode():
        wanted = plain(image)
        assert torch.equal(network(image), wanted)
        torch.nn.init.ones_(network.image_encoder.low_level.pointwise[2].bias)
        assert not torch.equal(network(image), wanted)
        third = network.image_encoder(image)[2]
    assert third.shape == (2, 8, 16, 16)  # hidden / 8 features of the encoder, as many of the branch


def test_the_frozen_encoder_keeps_its_weights_and_its_statistics():
    network, _ = pair()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.tuned(), 0.1)
    network.train()
    network(torch.rand(2, 1, 64, 64)).square().mean().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert any("low_level" in name for name in moved) and any(name.startswith("mask_decoder") for name in moved)
    assert all(name.startswith(("image_encoder.low_level", "mask_decoder", "sampler", "refine")) for name in moved)
