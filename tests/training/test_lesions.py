"""Slices with an organ and its lesion, and the step that answers both boxes from one encoding."""
from types import SimpleNamespace

import numpy as np
import torch

from promptzoo.networks.sam import PromptableSam
from promptzoo.training.annotator import WindowAnnotator
from promptzoo.training.dataset import concatenate
from promptzoo.training.lesions import BoxesUpdate, LesionSlices, lesion_in
from promptzoo.training.sam import SamLoss


def test_the_lesion_lies_in_the_organ_and_is_seen():
    slices = LesionSlices(2, 128, seed=3)
    for n in range(2):
        item, again = slices[n], slices[n]
        organ, lesion = item["label"][:, 0]
        assert torch.equal(item["image"], again["image"]) and item["image"].shape == (1, 1, 128, 128)
        assert lesion.any() and bool((organ | ~lesion).all()) and organ.sum() > lesion.sum()
        values = item["image"][0, 0]
        assert abs(float(values[lesion].median() - values[organ & ~lesion].median())) > 0.02


def test_lesions_vary_with_the_draw():
    organ = np.zeros((64, 64), bool)
    organ[10:50, 12:56] = True
    sizes = [lesion_in(organ, np.random.default_rng(n)).sum() for n in range(8)]
    assert len(set(sizes)) > 4 and max(sizes) < organ.sum() / 2


def test_both_boxes_are_answered_from_one_encoding_and_the_decoder_alone_learns():
    torch.manual_seed(0)
    network = PromptableSam(size=64, channels=(8, 8, 16, 16, 16), hidden=32)
    calls = []
    network.image_encoder.register_forward_hook(lambda _module, inputs, _out: calls.append(len(inputs[0])))
    rng, items = np.random.default_rng(0), []
    for _ in range(2):
        organ = np.zeros((64, 64), bool)
        organ[8:50, 10:54] = True
        lesion = lesion_in(organ, rng)
        image = (organ * 0.4 + lesion * 0.4 - 0.5).astype(np.float32)
        items.append({"image": torch.from_numpy(image)[None, None],
                      "label": torch.from_numpy(np.stack([organ, lesion])[:, None])})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tuned = [p for name, p in network.named_parameters() if p.requires_grad_(name.startswith("mask_dec")).requires_grad]
    engine = SimpleNamespace(network=network, loss_function=SamLoss(), fire_event=lambda _: None,
                             optimizer=torch.optim.AdamW(tuned, 3e-3),
                             state=SimpleNamespace(device=torch.device("cpu"), iteration=1))
    update = BoxesUpdate(WindowAnnotator(first=(1.0, 0.0, 0.0, 0.0, 0.0)), amp=False)
    losses = []
    for n in range(12):
        engine.state.iteration = n + 1
        answer = update(engine, concatenate(items))
        losses.append(answer["loss"])
    assert calls == [2] * 12 and answer["pred"].shape == (4, 1, 64, 64) and len(answer["dice_per_round"]) == 2
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("mask_decoder") for name in moved)
