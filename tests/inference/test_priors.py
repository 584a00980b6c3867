"""Masks of other structures as input: objects named prior:<name> help the others and get no mask of their own."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference.monai_inferer import InteractiveInferer
from promptzoo.prompts import MaskPrompt, Point, PromptSet
from promptzoo.prompts.encoders import PROMPT_CHANNELS
from promptzoo.prompts.types import ObjectInfo

GRID = Grid((20, 18, 16), np.diag([1.0, 1.0, 2.0, 1.0]))
POINT = Point((9, 9, 8), True, 1, "voxel")
KNOWN = len(PROMPT_CHANNELS) + 1


class Ear:
    """Stands for a compiled network: keeps what it hears."""

    def __init__(self):
        self.heard = []

    def __call__(self, fused):
        self.heard.append(fused)
        return fused[:, :1], np.full((len(fused), 1), 0.5, np.float32)


def mask(low=4, high=12):
    found = np.zeros(GRID.shape, bool)
    found[low:high, low:high, low:high] = True
    return found


def listen(prompts, dimensions=3, **options):
    ear = Ear()
    inferer = InteractiveInferer(dimensions, {"window": 16, "min_side_px": 16, "max_passes": 1}, **options)
    predictor = inferer.predictor(ear)
    volume = Volume(np.random.default_rng(0).normal(0, 1, GRID.shape), GRID)
    return predictor.decode(predictor.encode(volume), prompts), ear.heard


def named(*names):
    """A click on object 1 and, for each name, an object of that name with a mask."""
    prompts = [POINT] + [MaskPrompt(mask(), GRID, n) for n, _ in enumerate(names, 2)]
    return PromptSet(tuple(prompts), (ObjectInfo(1, "ctv"), *(ObjectInfo(n, name) for n, name in enumerate(names, 2))))


def test_priors_fill_their_channels():
    answer, heard = listen(named("prior:avoid"), priors=["target", "avoid"])
    assert [entry.object_id for entry in answer.objects] == [1]
    assert all(fused.shape[1] == KNOWN + 2 for fused in heard)
    assert not any(fused[:, KNOWN].any() for fused in heard)
    assert 0 < heard[0][:, KNOWN + 1].mean() < 1 and heard[0][:, KNOWN + 1].max() == 1


def test_order_is_that_of_the_network():
    first = listen(named("prior:target", "prior:avoid"), priors=["target", "avoid"])[1]
    second = listen(named("prior:avoid", "prior:target"), priors=["target", "avoid"])[1]
    assert np.array_equal(first[0], second[0])


def test_two_masks_of_one_prior_are_united():
    set_ = PromptSet((POINT, MaskPrompt(mask(2, 6), GRID, 2), MaskPrompt(mask(10, 14), GRID, 3)),
                     (ObjectInfo(1), ObjectInfo(2, "prior:avoid"), ObjectInfo(3, "prior:avoid")))
    heard = listen(set_, priors=["avoid"], )[1]
    single = PromptSet((POINT, MaskPrompt(mask(2, 6) | mask(10, 14), GRID, 2)),
                       (ObjectInfo(1), ObjectInfo(2, "prior:avoid")))
    assert np.array_equal(heard[0], listen(single, priors=["avoid"])[1][0])


def test_without_priors_the_channels_are_empty():
    answer, heard = listen(PromptSet((POINT,)), priors=["target", "avoid"])
    assert len(answer.objects) == 1 and not any(fused[:, KNOWN:].any() for fused in heard)


def test_a_bundle_without_priors_segments_every_object():
    """The base bundle knows no prior: such a name is a name like others, and no channel is added."""
    answer, heard = listen(named("prior:target"))
    assert [entry.object_id for entry in answer.objects] == [1, 2]
    assert all(fused.shape[1] == KNOWN for fused in heard)


def test_slices_see_their_part():
    """In a 2D bundle the prior is cut along with the image."""
    plane = mask()
    plane[..., 8] = False
    prompts = PromptSet((POINT, MaskPrompt(plane, GRID, 2)), (ObjectInfo(1), ObjectInfo(2, "prior:avoid")))
    assert not any(fused[:, KNOWN:].any() for fused in listen(prompts, 2, priors=["avoid"])[1])
    assert listen(named("prior:avoid"), 2, priors=["avoid"])[1][0][:, KNOWN].max() == 1


@pytest.mark.parametrize("prompts, word", [
    (named("prior:liver"), "prior:target"),
    (PromptSet((POINT, Point((3, 3, 3), True, 2, "voxel")), (ObjectInfo(1), ObjectInfo(2, "prior:target"))), "mask")])
def test_unusable_priors(prompts, word):
    with pytest.raises(PromptError, match=word):
        listen(prompts, priors=["target"])


def test_prior_matters_to_a_network():
    """Through the inferer of ``configs/inference.json``, with a network that has prior channels."""
    from promptzoo.networks.interactive_unet import InteractiveUNet

    torch.manual_seed(0)
    network = InteractiveUNet(3, (8, 16), prior_channels=1)
    inferer = InteractiveInferer(3, {"window": 16, "min_side_px": 16, "max_passes": 1}, priors=["target"])
    from promptzoo.inference.monai_inferer import TorchNetwork

    predictor = inferer.predictor(TorchNetwork(network))
    state = predictor.encode(Volume(np.random.default_rng(0).normal(0, 1, GRID.shape), GRID))
    with_, without = (predictor.decode(state, p) for p in (named("prior:target"), PromptSet((POINT,))))
    assert not np.allclose(with_[1].full_probability(), without[1].full_probability())
