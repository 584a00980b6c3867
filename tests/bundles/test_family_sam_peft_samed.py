"""Honest small checks of samed (sam-peft) on its shipped delta."""
from pathlib import Path

import numpy as np
import pytest
import torch

from promptzoo.core.bundles import get_bundle
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.inference import load_predictor
from promptzoo.inference.classes import slice_view, slice_window
from promptzoo.inference.loader import load_network
from promptzoo.networks.deltas import read_file
from promptzoo.networks.promptless_sam import TUNED
from promptzoo.networks.sam import PromptableSam
from promptzoo.prompts import ClassPrompt, PromptSet
from promptzoo.prompts.encoders.tokens import DENSE_CHANNELS, TOKENS
from promptzoo.training.organs import ORGANS, nearest, torso

from .conftest import dice

HELD_OUT, STEP, WINDOW = 880_007, 3, 192
"""No training uses this seed; every third slice is asked, in windows of this many pixels."""


@pytest.fixture(scope="module")
def case():
    """Slices of a torso and the organs on them."""
    data, labels, spacing = torso(HELD_OUT)
    some = np.ascontiguousarray(data[:, :, ::STEP])
    return Volume(some, Grid(some.shape, np.diag([*spacing[:2], STEP * spacing[2], 1.0]))), labels[:, :, ::STEP]


def test_all_organs_come_from_one_pass_without_a_prompt(case):
    """Measured: 0.770, spleen 0.23, the others 0.74 to 0.95."""
    predictor = load_predictor(get_bundle("sam_peft_organs").path, engine="torch", variant="samed")
    volume, labels = case
    passes, run = [], predictor.network
    predictor.network = lambda images: passes.append(len(images)) or run(images)
    state = predictor.encode(volume)
    answer = predictor.decode(state, PromptSet(tuple(ClassPrompt(name, n + 1) for n, name in enumerate(ORGANS))))
    assert sum(passes) == volume.data.shape[2]
    scores = {name: dice(answer[n + 1].mask, labels == n + 1) for n, name in enumerate(ORGANS)}
    print(np.mean(list(scores.values())), {name: round(float(s), 2) for name, s in scores.items()})
    assert np.mean(list(scores.values())) > 0.65, scores
    alone = predictor.decode(state, PromptSet((ClassPrompt("liver", 1),)))[1].mask
    assert np.array_equal(alone, answer[1].mask) and sum(passes) == volume.data.shape[2]


def test_no_prompt_tells_the_base_nothing(case):
    """Of the base's masks without a prompt the best, chosen with the truth, on the slice where an organ is largest."""
    base, _ = load_network(get_bundle("sam_box_finetune"))
    volume, labels = case
    best = []
    for n in range(len(ORGANS)):
        k = int((labels == n + 1).sum((0, 1)).argmax())
        window = slice_window(labels.shape[:2], volume.grid.spacing_mm[:2], WINDOW)
        image = torch.from_numpy(slice_view(volume.data[:, :, k], window, True))[None, None]
        empty = torch.zeros(1, TOKENS, 2), torch.full((1, TOKENS), -1.0)
        with torch.inference_mode():
            dense = torch.zeros(1, len(DENSE_CHANNELS), WINDOW // 2, WINDOW // 2)
            masks = base.eval().decode(*base.image_encoder(image), *empty, dense)[2][0] > 0
        wanted = nearest(window, labels[:, :, k] == n + 1)[2::4, 2::4]
        best.append(max(dice(mask.numpy(), wanted) for mask in masks))
    print(np.round(best, 2))
    assert np.mean(best) < 0.4, best


def test_the_base_is_back_without_the_updates():
    """Bit for bit: low-rank updates off, and the base's tensors where they were tuned."""
    base, _ = load_network(get_bundle("sam_box_finetune"))
    network, parser = load_network(get_bundle("sam_peft_organs"), "samed")
    state, told = read_file(Path(parser.get_parsed_content("weights")))
    assert told["base"] == "sam_box_finetune/models/model.pt"
    assert all("lora_" in name or name.startswith(TUNED) for name in state)
    image = torch.randn(1, 1, 128, 128).clamp(-1, 1)
    with torch.inference_mode():
        assert not torch.equal(network.image_encoder(image)[0], base.image_encoder(image)[0])
        for module in network.modules():
            if hasattr(module, "enable_adapters"):
                module.enable_adapters(False)
        network.load_state_dict({**network.state_dict(), **{
            name: value for name, value in base.state_dict().items() if name.startswith(TUNED)}})
        assert torch.equal(PromptableSam.forward(network, image), base(image))
