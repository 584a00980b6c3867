"""Networks that start from the weights of a relative."""
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.interactive_unet import InteractiveUNet
from promptzoo.networks.warm_start import adapted, start_from
from promptzoo.prompts.encoders import PROMPT_CHANNELS

SMALL = (8, 16, 24)
P = len(PROMPT_CHANNELS)


def network(dims, seed=3, **options):
    torch.manual_seed(seed)
    return InteractiveUNet(dims, SMALL, **options).eval()


@pytest.fixture
def flat(tmp_path):
    """A 2D network and the file of its weights."""
    net = network(2)
    torch.save(net.state_dict(), tmp_path / "flat.pt")
    return net, str(tmp_path / "flat.pt")


def test_no_weights_leave_the_network_alone():
    net = network(2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    assert start_from(net, "") is net
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_same_network_takes_all(flat):
    net, file = flat
    other = start_from(network(2, seed=8), file)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_missing_file(tmp_path):
    with pytest.raises(BundleError, match="Train that bundle first"):
        start_from(network(2), str(tmp_path / "none.pt"))


def test_strangers(tmp_path):
    torch.save({"somebody.weight": torch.ones(3)}, tmp_path / "s.pt")
    with pytest.raises(BundleError, match="related network"):
        start_from(network(2), str(tmp_path / "s.pt"))


def test_half_precision(flat, tmp_path):
    """A float16 file becomes the network's own precision."""
    torch.save({k: v.half() for k, v in flat[0].state_dict().items()}, tmp_path / "half.pt")
    net = start_from(network(2, seed=8), str(tmp_path / "half.pt"))
    assert {v.dtype for v in net.state_dict().values()} == {torch.float32}


def test_adapted_kernels():
    """By hand: repetition over 4 with a quarter of the weight each; new input channels zero; the rest refused."""
    kernel = torch.tensor([[[[8.0]]]])
    grown = adapted("", kernel, torch.empty(1, 1, 4, 1, 1))
    assert grown.flatten().tolist() == [2.0] * 4
    wider = adapted("", torch.ones(2, 1, 3, 3), torch.full((2, 3, 3, 3), 7.0))
    assert torch.equal(wider[:, 0], torch.ones(2, 3, 3)) and not wider[:, 1:].any()
    assert adapted("", torch.ones(2, 3, 3, 3), torch.empty(2, 1, 3, 3)) is None
    assert adapted("", torch.ones(3, 1, 3, 3), torch.empty(2, 1, 3, 3)) is None
    assert adapted("", torch.ones(2, 1, 3, 3), torch.empty(2, 1, 3, 5, 5)) is None


def test_inflated_stem_is_the_flat_stem(flat):
    """On a volume that is constant along the first axis, the stem gives the 2D answer (inside, away from padding)."""
    net, file = flat
    volume = start_from(network(3, seed=8), file)
    picture = torch.rand(1, 1 + P, 16, 16)
    stacked = picture[:, :, None].expand(-1, -1, 16, -1, -1)
    with torch.inference_mode():
        wanted, got = net.image_encoder.stem(picture), volume.image_encoder.stem(stacked)
    for index in range(1, 7):
        assert torch.allclose(got[:, :, index], wanted, atol=1e-5)


def test_inflated_network_is_nearly_the_flat_network(flat):
    """The whole network too, in the middle of a tall volume; norms over depth and padding leave a small difference."""
    net, file = flat
    volume = start_from(network(3, seed=8), file)
    torch.manual_seed(0)
    picture = torch.rand(1, 1 + P, 32, 32)
    stacked = picture[:, :, None].expand(-1, -1, 64, -1, -1)
    with torch.inference_mode():
        wanted, got = net.decode(picture)[0], volume.decode(stacked)[0][:, :, 32]
        other = network(3, seed=8).decode(stacked)[0][:, :, 32]
    pairs = [torch.corrcoef(torch.stack([wanted.flatten(), x.flatten()]))[0, 1] for x in (got, other)]
    assert pairs[0] > 0.95 and pairs[0] > pairs[1]


def test_priors_start_without_effect(tmp_path):
    """Khor CTV starts as the base network, whatever its priors say: their input weights are zero."""
    base = network(3)
    torch.save(base.state_dict(), tmp_path / "base.pt")
    grown = start_from(network(3, seed=8, prior_channels=2), str(tmp_path / "base.pt"))
    assert not grown.image_encoder.stem.weight[:, -2:].any() and not grown.full[0].weight[:, -2:].any()
    torch.manual_seed(1)
    image, prompts, priors = torch.rand(2, 1, 32, 32, 32), torch.rand(2, P, 32, 32, 32), torch.ones(2, 2, 32, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(grown(image, torch.cat([prompts, priors], 1)), base(image, prompts), atol=1e-5)


def test_attention_starts_without_effect(flat):
    """PE-MED starts as the base network, bit for bit."""
    net, file = flat
    gated = start_from(network(2, seed=8, prompt_attention=True), file)
    image, prompts = torch.rand(2, 1, 32, 32), torch.rand(2, P, 32, 32)
    with torch.inference_mode():
        assert torch.equal(gated(image, prompts), net(image, prompts))


def test_some_tensors_may_stay_fresh(flat):
    net, file = flat
    fresh = network(2, seed=8)
    begun = {name: value.clone() for name, value in fresh.state_dict().items()}
    start_from(fresh, file, ("image_encoder.stem.",))
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, begun[name] if name.startswith("image_encoder.stem.") else net.state_dict()[name])
