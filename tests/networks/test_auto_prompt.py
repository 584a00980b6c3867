"""The head over a SAM-like encoder, and what it is trained towards."""
import numpy as np
import torch

from promptzoo.networks.auto_prompt import AutoPromptSam
from promptzoo.networks.sam import PromptableSam

SMALL = {"size": 64, "channels": [8, 8, 16, 16, 16], "hidden": 32}


def test_the_head_adds_maps_and_changes_nothing_else():
    torch.manual_seed(0)
    ours, base = AutoPromptSam(width=8, **SMALL).eval(), PromptableSam(**SMALL).eval()
    base.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith("prompt_head")})
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(ours(image), base(image)) and ours.maps(image).shape == (2, 4, 32, 32)


def test_gradients_reach_the_head_alone():
    network = AutoPromptSam(width=8, **SMALL)
    network.maps(torch.randn(1, 1, 64, 64)).sum().backward()
    with_gradient = {name for name, p in network.named_parameters() if p.grad is not None}
    assert with_gradient and all(name.startswith("prompt_head") for name in with_gradient)


def test_an_untrained_head_finds_nothing():
    maps = AutoPromptSam(width=8, **SMALL).maps(torch.randn(1, 1, 64, 64))
    assert torch.sigmoid(maps[0, 1]).max() < 0.1 and np.isclose(maps[0, 2:].exp().mean().item(), np.exp(3), rtol=0.01)
