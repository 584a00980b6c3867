"""Honest small checks of efficient-promptable (families.md, section 22) on the shipped weights."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from promptzoo.core.bundles import get_bundle
from promptzoo.core.optional import available
from promptzoo.core.seeding import generator
from promptzoo.data.phantoms import torso_ct
from promptzoo.inference import load_predictor
from promptzoo.inference.loader import load_network
from promptzoo.prompts import Box, Point, PromptSet
from promptzoo.prompts.simulators import clicks

from .conftest import dice
from .scenes import box_of, dice_of_kidneys, scenes

COUNT = 16
GAP = 0.04
"""Most mean Dice of a box that the student may be behind its teacher."""
SCANS = ("promamba", "axialmamba-selfprompt")


@pytest.fixture(scope="module")
def held_out():
    """Images that neither training saw."""
    return scenes(COUNT)


@pytest.fixture(scope="module")
def teacher(held_out):
    """Mean Dice of a box with the bundle that the student was distilled from."""
    return _boxed(load_predictor("sam_box_finetune", engine="torch"), held_out)


def _boxed(predictor, held_out):
    """Mean Dice of tight boxes."""
    return np.mean([dice(predictor.decode(predictor.encode(volume), box_of(mask)).objects[0].mask, mask)
                    for volume, mask in held_out])


def _cost(bundle, variant=None):
    """Parameters and floating-point operations of an encoder on a window."""
    encoder = load_network(bundle, variant)[0].image_encoder
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.zeros(1, 1, 256, 256))
    return np.array([sum(p.numel() for p in encoder.parameters()), counter.get_total_flops()], float)


def test_the_encoder_is_cheaper(bundle):
    student, teacher = _cost(bundle), _cost(get_bundle("sam_box_finetune"))
    assert (student / teacher <= (0.6, 0.35)).all(), np.round(student / teacher, 3)


def test_the_gap_to_the_teacher_is_small(bundle, predictor, teacher, held_out):
    found = _boxed(predictor, held_out)
    assert teacher - found <= GAP, f"{found:.3f} against {teacher:.3f}"


def test_int8_costs_little(bundle, predictor, held_out):
    """int8 of the encoder in OpenVINO against fp32 in torch."""
    if not (available("openvino") and available("nncf")):
        pytest.skip("openvino and nncf are in the export extra")
    small = load_predictor(bundle.path, engine="openvino", precision="int8")
    assert "int8" in small.engine
    found, wanted = (_boxed(p, held_out) for p in (small, predictor))
    assert wanted - found <= 0.02, f"{found:.3f} against {wanted:.3f}"


def test_prompts_mean_what_they_mean_to_the_teacher(bundle, predictor):
    """A box on another organ returns that organ."""
    for name, own, other in dice_of_kidneys(predictor):
        assert own > 0.7 and other < 0.05, name


def test_corrections_help(bundle, predictor, held_out):
    """A click on the largest error after the box raises Dice on average."""
    before, after = [], []
    for volume, mask in held_out:
        state, prompts = predictor.encode(volume), box_of(mask)
        first = predictor.decode(state, prompts)
        mine = first.objects[0].mask
        before.append(dice(mine, mask))
        found = clicks.next_click((mask & ~mine)[..., 0], (mine & ~mask)[..., 0], generator(1, 0))
        if found is None:  # nothing is wrong
            after.append(before[-1])
            continue
        more = PromptSet((*prompts.prompts, Point((*map(float, found[0]), 0.0), bool(found[1]), 1, "voxel")))
        after.append(dice(predictor.decode(state, more, first).objects[0].mask, mask))
    assert np.mean(after) >= np.mean(before) + 0.01, (np.mean(before), np.mean(after))


@pytest.mark.parametrize("system", SCANS)
def test_scan_encoders_are_distilled_too(bundle, teacher, held_out, system):
    """Selective scans are in the encoder, and its box answers stay near the teacher's."""
    network = load_network(bundle, system)[0]
    assert any(type(m).__name__ == "ScanBlock" for m in network.image_encoder.modules())
    found = _boxed(load_predictor(bundle.path, engine="torch", variant=system), held_out)
    assert teacher - found <= 0.06, f"{found:.3f} against {teacher:.3f}"


def test_the_coarse_mask_is_fed_back(bundle, held_out):
    """The self-prompting variant looks again, at its own mask: that changes answers and costs no Dice on average."""
    looping, once = (load_predictor(bundle.path, engine="torch", variant="axialmamba-selfprompt") for _ in range(2))
    once.segmenter.settings = replace(once.segmenter.settings, self_loops=0)
    gains, changed = [], 0
    for volume, mask in held_out[:10]:
        second, first = (p.decode(p.encode(volume), box_of(mask)).objects[0] for p in (looping, once))
        assert len(second.info["windows"][0]) == len(first.info["windows"][0]) + 1
        changed += not np.array_equal(first.mask, second.mask)
        gains.append(dice(second.mask, mask) - dice(first.mask, mask))
    assert changed >= 5 and np.mean(gains) >= -0.01, (changed, np.mean(gains))


def test_everything_first_then_the_prompt_picks(bundle):
    """FastSAM: the network runs once per slice, then each box and click picks another of the masks."""
    volume, labels, names = torso_ct(1, (128, 96, 40), (3.0, 3.0, 6.0))
    values = {name: value for value, name in names.items()}
    k = int(np.argmax((labels == values["liver"]).sum((0, 1))))
    picker = load_predictor(bundle.path, variant="fastsam", engine="torch")
    parts, calls = picker.segmenter.parts, []
    picker.segmenter.network = lambda *inputs: calls.append(len(inputs[0])) or parts.decode(*inputs)
    state = picker.encode(volume)
    for name in ("liver", "stomach"):
        organ = labels[:, :, k] == values[name]
        at = np.argwhere(organ)
        box = Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), float(k + 1)), 1, "voxel")
        found = picker.decode(state, PromptSet((box,))).objects[0].mask[:, :, k]
        assert dice(found, organ) > 0.65, f"{name}: {dice(found, organ):.3f}"
    assert sum(calls) == 100, "one click of the grid each, and none for the second box"


def test_everything_first_on_torsos_that_its_settings_were_not_chosen_on(bundle):
    """Measured: liver and stomach of three torsos 0.74 (0.51 to 0.85), the network asked itself 0.76; organs smaller
    than the grid's spacing are missed, see docs/variants.md."""
    picker, scores = load_predictor(bundle.path, variant="fastsam", engine="torch"), []
    for seed in (21, 22, 23):
        volume, labels, names = torso_ct(seed, (128, 96, 40), (3.0, 3.0, 6.0))
        values = {name: value for value, name in names.items()}
        k = int(np.argmax((labels == values["liver"]).sum((0, 1))))
        state, organs = picker.encode(volume), [labels[:, :, k] == values[name] for name in ("liver", "stomach")]
        for n, organ in enumerate(organs):
            at = np.argwhere(organ)
            box = Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), float(k + 1)), 1, "voxel")
            found = picker.decode(state, PromptSet((box,))).objects[0].mask[:, :, k]
            scores.append(dice(found, organ))
            assert scores[-1] > dice(found, organs[1 - n]) + 0.2
    assert np.mean(scores) > 0.65, np.round(scores, 3)


def test_a_smaller_decoder_beside_the_light_encoder(bundle, teacher, held_out):
    """SwiftMedSAM: image encoder and mask decoder both smaller, boxes near the teacher's; measured 0.675, the bundle
    with the whole decoder 0.680."""
    small, whole = (sum(p.numel() for p in load_network(bundle, name)[0].mask_decoder.parameters())
                    for name in ("swiftmedsam", None))
    assert small < 0.7 * whole and _cost(bundle, "swiftmedsam")[1] == _cost(bundle)[1]
    found = _boxed(load_predictor(bundle.path, engine="torch", variant="swiftmedsam"), held_out)
    assert teacher - found <= 0.05, f"{found:.3f} against {teacher:.3f}"
