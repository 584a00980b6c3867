"""Adapters, low-rank updates and heads on a frozen SAM-like network."""
import pytest
import torch

from promptzoo.networks.adapted_sam import AdaptedSam, SqueezeAdapter, tuned_share
from promptzoo.networks.promptless_sam import HeadSam, LowRankSam
from promptzoo.networks.sam import PromptableSam
from promptzoo.networks.warm_start import start_from

SMALL = {"size": 64, "channels": (8, 16, 16, 24, 24), "hidden": 32, "fine": 4}


@pytest.fixture
def base(tmp_path):
    """A small base and its weights in a bundle's place."""
    torch.manual_seed(0)
    network = PromptableSam(**SMALL).eval()
    file = tmp_path / "base" / "models" / "model.pt"
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return network, str(file)


def test_an_adapter_adds_nothing_before_it_is_trained():
    features = torch.randn(2, 16, 8, 8)
    assert torch.equal(SqueezeAdapter(16)(features), features)


def test_adapters_can_be_taken_away_bit_for_bit(base):
    network, file = base
    adapted = start_from(AdaptedSam(**SMALL), file).eval()
    for parameter in adapted.tuned():
        if parameter.dim() == 4:
            torch.nn.init.normal_(parameter, std=0.2)
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert not torch.equal(adapted(image), network(image))
        adapted.image_encoder.adapted = False
        assert torch.equal(adapted(image), network(image))


def test_what_is_tuned():
    adapted, whole = AdaptedSam(**SMALL), AdaptedSam(**SMALL, tune="all")
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert names and all(".adapters." in name or name.endswith("token.weight") or "mask_tokens" in name
                         for name in names)
    assert tuned_share(whole) == 1.0 and tuned_share(AdaptedSam(reduction=2)) < 0.05


@pytest.mark.parametrize("make", [lambda: LowRankSam(3, rank=2, **SMALL),
                                  lambda: HeadSam(3, SMALL["channels"], SMALL["hidden"], SMALL["fine"], 16)])
def test_all_classes_without_a_prompt(base, make):
    """Background and three classes at a quarter of the resolution; what is not tuned is the base's."""
    network, file = base
    classes = start_from(make(), file).eval()
    with torch.inference_mode():
        assert classes(torch.zeros(2, 1, 64, 64)).shape == (2, 4, 16, 16)
    own = classes.inherited(network.state_dict()) if hasattr(classes, "inherited") else network.state_dict()
    tuned = {name for name, p in classes.named_parameters() if p.requires_grad}
    for name, value in classes.state_dict().items():
        assert name in tuned or torch.equal(value, own[name]), name


def test_low_rank_updates_start_at_the_base(base):
    network, file = base
    classes = start_from(LowRankSam(3, rank=2, **SMALL), file).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        for ours, theirs in zip(classes.image_encoder(image), network.image_encoder(image)):
            assert torch.equal(ours, theirs)
    assert tuned_share(LowRankSam(8)) < 0.05 and tuned_share(HeadSam(8)) < 0.05
