"""Honest small checks of efficient-promptable (families.md, section 22) on the shipped weights."""
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

from .scenes import box_of, scenes

COUNT = 24
GAP = 0.04
"""Most mean Dice of a box that the student may be behind its teacher."""
SCANS = ("promamba", "axialmamba-selfprompt")


@pytest.fixture(scope="module")
def held_out():
    """Images that neither training saw."""
    return scenes(COUNT)


@pytest.fixture(scope="module")
def teacher():
    """The bundle that the student was distilled from."""
    return load_predictor("sam_box_finetune", engine="torch")


def _boxed(predictor, held_out, dice):
    return np.array([dice(predictor.decode(predictor.encode(volume), box_of(mask)).objects[0].mask, mask)
                     for volume, mask in held_out])


def _cost(bundle, variant=None):
    """Parameters and floating-point operations of an encoder on a window."""
    encoder = load_network(bundle, variant)[0].image_encoder
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(torch.zeros(1, 1, 256, 256))
    return np.array([sum(p.numel() for p in encoder.parameters()), counter.get_total_flops()], float)


def test_the_encoder_is_cheaper(bundle):
    student, teacher = _cost(bundle), _cost(get_bundle("sam_box_finetune"))
    assert (student / teacher <= (0.6, 0.3)).all(), np.round(student / teacher, 3)


def test_the_gap_to_the_teacher_is_small(bundle, predictor, teacher, held_out, dice):
    found, wanted = (_boxed(p, held_out, dice).mean() for p in (predictor, teacher))
    assert wanted - found <= GAP, f"{found:.3f} against {wanted:.3f}"


def test_int8_costs_little(bundle, held_out, dice):
    """int8 of the encoder against fp32, in OpenVINO."""
    if not (available("openvino") and available("nncf")):
        pytest.skip("openvino and nncf are in the export extra")
    exact, small = (load_predictor(bundle.path, engine="openvino", precision=p) for p in ("fp32", "int8"))
    assert "int8" in small.engine
    found, wanted = (_boxed(p, held_out, dice).mean() for p in (small, exact))
    assert wanted - found <= 0.02, f"{found:.3f} against {wanted:.3f}"


def test_prompts_mean_what_they_mean_to_the_teacher(bundle, predictor, dice):
    """A box on another organ returns that organ."""
    volume, labels, names = torso_ct(1, (128, 96, 40), (3.0, 3.0, 6.0))
    values = {name: value for value, name in names.items()}
    masks = {name: labels == values[name] for name in ("kidney left", "kidney right")}
    k = int(np.argmax(np.minimum(*(mask.sum((0, 1)) for mask in masks.values()))))
    state = predictor.encode(volume)
    for name, mask in masks.items():
        at = np.argwhere(mask[:, :, k])
        box = Box((*map(float, at.min(0)), float(k)), (*map(float, at.max(0) + 1), float(k + 1)), 1, "voxel")
        found = predictor.decode(state, PromptSet((box,))).objects[0].mask[:, :, k]
        other = next(m for n, m in masks.items() if n != name)[:, :, k]
        assert dice(found, mask[:, :, k]) > 0.7 and dice(found, other) < 0.05, name


def test_corrections_help(bundle, predictor, held_out, dice):
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
def test_scan_encoders_are_distilled_too(bundle, teacher, held_out, dice, system):
    """Selective scans are in the encoder, and its box answers stay near the teacher's."""
    network = load_network(bundle, system)[0]
    assert any(type(m).__name__ == "ScanBlock" for m in network.image_encoder.modules())
    found = _boxed(load_predictor(bundle.path, engine="torch", variant=system), held_out, dice).mean()
    wanted = _boxed(teacher, held_out, dice).mean()
    assert wanted - found <= 0.06, f"{found:.3f} against {wanted:.3f}"


def test_the_coarse_mask_is_fed_back(bundle):
    """The self-prompting variant looks once more at its own mask; the answer changes."""
    volume, mask = scenes(1)[0]
    looping = load_predictor(bundle.path, engine="torch", variant="axialmamba-selfprompt")
    assert looping.segmenter.settings.self_loops == 1
    first = looping.decode(looping.encode(volume), box_of(mask)).objects[0]
    calls = [len(window) for window in first.info["windows"]]
    looping.segmenter.settings = type(looping.segmenter.settings)(
        **{**vars(looping.segmenter.settings), "self_loops": 0})
    once = looping.decode(looping.encode(volume), box_of(mask)).objects[0]
    assert calls[0] == len(once.info["windows"][0]) + 1
    assert not np.array_equal(first.full_probability(), once.full_probability())


def test_everything_first_then_the_prompt_picks(bundle, dice):
    """FastSAM: the network runs once per slice, then each box and click picks another of the masks."""
    volume, labels, names = torso_ct(1, (128, 96, 40), (3.0, 3.0, 6.0))
    values = {name: value for value, name in names.items()}
    k = int(np.argmax((labels == values["liver"]).sum((0, 1))))
    picker = load_predictor(bundle.path, variant="fastsam", engine="torch")
    parts, calls = picker.segmenter.parts, []
    picker.segmenter.network = lambda *inputs: calls.append(len(inputs[0])) or parts.decode(*inputs)
    state, asked = picker.encode(volume), []
    for shift in (0.0, 2.0):
        at = np.argwhere(labels[:, :, k] == values["liver"])
        box = Box((*(at.min(0) - shift), float(k)), (*(at.max(0) + 1.0 + shift), float(k + 1)), 1, "voxel")
        asked.append(picker.decode(state, PromptSet((box,))).objects[0])
    assert sum(calls) == 100, "one click of the grid each, and none for the second box"
    assert np.array_equal(asked[0].mask, asked[1].mask)
    assert dice(asked[0].mask[:, :, k], labels[:, :, k] == values["liver"]) > 0.5
