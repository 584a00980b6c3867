"""Honest small checks of sam-peft (families.md, section 3) on the shipped deltas."""
from pathlib import Path

import numpy as np
import pytest
import torch

from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.networks.adapted_sam import tuned_share
from promptzoo.networks.deltas import read_file
from promptzoo.prompts import Box, ClassPrompt, PromptSet
from promptzoo.training.organs import ORGANS, torso
from promptzoo.training.radiographs import RadiographWindows

HELD_OUT = 880_007
"""No training uses this seed."""


def _promptable(bundle):
    if "box" not in bundle.prompts:
        pytest.skip("this check is about boxes")


def _by_class(bundle):
    if "class" not in bundle.prompts:
        pytest.skip("this check is about classes")


@pytest.fixture
def organs(bundle, predictor):
    """The predictor of all classes."""
    _by_class(bundle)
    return predictor


def test_few_parameters_differ_from_the_base(bundle):
    """Less than 5 % is trained, and the delta holds nothing else."""
    for variant in (None, *(name for name, state in bundle.systems.items() if state == "works")):
        network, parser = load_network(bundle, variant)
        assert tuned_share(network) < 0.05, variant
        state, told = read_file(Path(parser.get_parsed_content("weights")))
        assert told["base"] == "sam_box_finetune/models/model.pt"
        assert sum(value.numel() for value in state.values()) == sum(p.numel() for p in network.tuned()), variant


def test_the_base_is_back_when_the_adapters_are_off(bundle):
    """Bit for bit, on encoder outputs and masks."""
    _promptable(bundle)
    network, _ = load_network(bundle)
    base, _ = load_network(type(bundle)("sam_box_finetune", bundle.path.parent / "sam_box_finetune", {}))
    image = RadiographWindows(1, 1, 128, seed=HELD_OUT)[0]["image"]
    network.load_state_dict({**network.state_dict(), **{
        name: value for name, value in base.state_dict().items() if name.endswith(("token.weight", "tokens.weight"))}})
    with torch.inference_mode():
        assert not torch.equal(network(image), base(image))
        network.image_encoder.adapted = False
        assert torch.equal(network(image), base(image))


def test_adapters_help_where_they_were_trained(bundle, predictor, dice):
    """Boxes on held-out procedural radiographs, beside the base with the same boxes."""
    _promptable(bundle)
    base = load_predictor(bundle.path.parent / "sam_box_finetune", engine="torch")
    found = {"base": [], "adapted": []}
    windows = RadiographWindows(10, 3, 128, seed=HELD_OUT)
    for n in range(len(windows)):
        for image, label in zip(windows[n]["image"], windows[n]["label"]):
            mask = label[0].numpy()[..., None]
            at = np.argwhere(mask)
            prompts = PromptSet((Box(tuple(map(float, at.min(0))), tuple(map(float, at.max(0) + 1)), 1, "voxel"),))
            volume = Volume(100 * image[0].numpy()[..., None], Grid(mask.shape, np.eye(4)))
            for name, one in (("base", base), ("adapted", predictor)):
                found[name].append(dice(one.decode(one.encode(volume), prompts).objects[0].mask, mask))
    gain = np.mean(found["adapted"]) - np.mean(found["base"])
    assert gain > 0.0, f"{np.mean(found['adapted']):.3f} against {np.mean(found['base']):.3f}"


def test_organs_are_found_without_prompts(bundle, organs, dice):
    """On a torso that no training saw: mean Dice of the organs; right and left are not mixed up."""
    data, labels, spacing = torso(HELD_OUT)
    volume = Volume(data, Grid(data.shape, np.diag([*spacing, 1.0])))
    state = organs.encode(volume)
    asked = PromptSet(tuple(ClassPrompt(name, n + 1) for n, name in enumerate(ORGANS)))
    answer = organs.decode(state, asked)
    scores = {name: dice(answer[n + 1].mask, labels == n + 1) for n, name in enumerate(ORGANS)
              if (labels == n + 1).any()}
    assert np.mean(list(scores.values())) > 0.5, scores
    right, left = (ORGANS.index(f"lung {side}") + 1 for side in ("right", "left"))
    assert dice(answer[right].mask, labels == left) < 0.1 and dice(answer[left].mask, labels == right) < 0.1


def test_the_class_alone_decides(bundle, organs):
    """The same class gives the same mask whatever else is asked for, in whatever order."""
    data, _, spacing = torso(HELD_OUT)
    state = organs.encode(Volume(data, Grid(data.shape, np.diag([*spacing, 1.0]))))
    alone = organs.decode(state, PromptSet((ClassPrompt("liver", 1),)))
    among = organs.decode(state, PromptSet((ClassPrompt("spleen", 4), ClassPrompt("liver", 1))), alone)
    assert np.array_equal(alone[1].probability, among[1].probability)
