"""The SAM-like network: shapes, prompts, candidates, window sizes, and what it inherits."""
import pytest
import torch

from promptzoo.core.errors import BundleError
from promptzoo.networks.interactive_unet import InteractiveUNet
from promptzoo.networks.sam import PromptableSam, sample_features
from promptzoo.networks.warm_start import start_from

SMALL = {"size": 64, "channels": (8, 16, 16, 24, 24), "hidden": 32}


@pytest.fixture(scope="module")
def network():
    """A small network in eval mode."""
    torch.manual_seed(0)
    return PromptableSam(**SMALL).eval()


def prompt(batch=2, side=64, labels=((2, 3),)):
    """Points, labels and an empty dense map."""
    told = torch.full((batch, 16), -1.0)
    points = torch.zeros(batch, 16, 2)
    for row, given in zip(range(batch), [*labels] * batch):
        told[row, :len(given)] = torch.tensor(given, dtype=torch.float32)
        points[row, :len(given)] = torch.rand(len(given), 2) * side
    return points, told, torch.zeros(batch, 12, side // 2, side // 2)


@pytest.mark.parametrize("side", [64, 96])
def test_shapes_also_in_windows_of_other_sizes(network, side):
    image = torch.randn(2, 1, side, side)
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        logits, iou, masks, ious = network.decode(*encoded, *prompt(side=side))
    assert [tuple(e.shape) for e in encoded] == [(2, 32, side // 16, side // 16), (2, 8, side // 8, side // 8),
                                                 (2, 4, side // 4, side // 4), (2, 12, side // 2, side // 2)]
    assert logits.shape == (2, 1, side, side) and masks.shape == (2, 4, side // 4, side // 4)
    assert iou.shape == (2, 1) and ious.shape == (2, 4) and bool(((ious >= 0) & (ious <= 1)).all())


def test_a_lone_click_takes_the_best_candidate_and_other_prompts_the_first(network):
    image = torch.randn(3, 1, 64, 64)
    points, labels, dense = prompt(3, labels=((1,), (2, 3), (1, 0)))
    with torch.inference_mode():
        _, iou, _, ious = network.decode(*network.image_encoder(image), points, labels, dense)
    assert torch.equal(iou[0, 0], ious[0, 1:].max()) and torch.equal(iou[1:, 0], ious[1:, 0])
    dense[0, 0] = 0.1  # a previous mask leaves no doubt
    with torch.inference_mode():
        _, iou, _, ious = network.decode(*network.image_encoder(image), points, labels, dense)
    assert torch.equal(iou[0, 0], ious[0, 0])


def test_padding_says_nothing_about_where(network):
    image = torch.randn(1, 1, 64, 64)
    points, labels, dense = prompt(1)
    moved = points.clone()
    moved[:, 2:] = 33.0
    with torch.inference_mode():
        encoded = network.image_encoder(image)
        one, other = (network.decode(*encoded, p, labels, dense)[0] for p in (points, moved))
        elsewhere = network.decode(*encoded, points.flip(2), labels, dense)[0]
    assert torch.equal(one, other) and not torch.equal(one, elsewhere)


def test_features_at_points():
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    at = torch.tensor([[[1.0, 2.0], [1.5, 2.0], [-3.0, 0.0], [3.0, 9.0]]])
    assert sample_features(features, at)[0, :, 0].tolist() == [9.0, 9.5, 0.0, 15.0]


def test_the_encoder_of_an_early_fusion_network_is_a_start(tmp_path):
    relative = InteractiveUNet(2, SMALL["channels"])
    torch.save(relative.state_dict(), tmp_path / "model.pt")
    network = start_from(PromptableSam(**SMALL), str(tmp_path / "model.pt"))
    theirs, ours = relative.image_encoder.state_dict(), network.image_encoder.state_dict()
    assert torch.equal(ours["stem.weight"], theirs["stem.weight"][:, :1])
    shared = [name for name in theirs if name.startswith(("levels", "middle"))]
    assert shared and all(torch.equal(ours[name], theirs[name]) for name in shared)


@pytest.mark.parametrize("sizes", [{"size": 60}, {"channels": (8, 8, 8)}, {"hidden": 40}])
def test_sizes_that_do_not_fit(sizes):
    with pytest.raises(BundleError, match="sizes of PromptableSam"):
        PromptableSam(**{**SMALL, **sizes})
