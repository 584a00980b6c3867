"""Honest small checks of medical-sam-adapter (sam-peft) on its shipped delta: the neighbouring slices matter."""
import numpy as np
import pytest
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.training.stacks import OrganStacks

from .stacks import click_on, middle_slices, prompted

HELD_OUT = 880_007
"""No training uses this seed."""


@pytest.fixture(scope="module")
def pairs():
    """Organs on thin slices of which the asked one lost a band."""
    return middle_slices(OrganStacks(3, 3, 96, 3, seed=HELD_OUT))


def test_the_neighbouring_slices_tell_what_a_slice_lost(pairs):
    """One click on the middle slice."""
    predictor = load_predictor(get_bundle("sam_peft").path, engine="torch", variant="medical-sam-adapter")
    own, none, others = (prompted(predictor, pairs, n, click_on).mean() for n in ("own", "none", "others"))
    print(own, none, others)
    assert own > none + 0.05 and own > others + 0.02, np.round((own, none, others), 3)


def test_the_base_is_back_without_the_adapters():
    network, _ = load_network(get_bundle("sam_peft"), "medical-sam-adapter")
    plain, _ = load_network(get_bundle("sam_box_finetune"))
    stack = OrganStacks(1, 1, 96, 3, seed=HELD_OUT)[0]["image"]
    network.load_state_dict({**network.state_dict(), **{
        name: value for name, value in plain.state_dict().items() if "token" in name}})
    with torch.inference_mode():
        assert not torch.equal(network(stack), plain(stack[:, 1:2]))
        network.image_encoder.adapted = False
        assert torch.equal(network(stack), plain(stack[:, 1:2]))
