"""Scenes for text-driven networks: same item, same scene; labels, positions and known classes agree."""
import numpy as np
import pytest
import torch

from promptzoo.core.errors import PromptZooError
from promptzoo.core.seeding import generator
from promptzoo.data.anatomy.names import ALL_STRUCTURES
from promptzoo.training.anatomy_scenes import AnatomyScenes, boxed, seen
from promptzoo.training.anatomy_sources import phantom, structure_of
from promptzoo.training.phrases import Phrases, held_out, mistyped, phrases_of
from promptzoo.training.text_universal import DenseNames, KnownClassLoss

SIZE = (32, 28, 24)


@pytest.fixture(scope="module")
def scenes():
    return AnatomyScenes(40, Phrases(ALL_STRUCTURES, "onehot"), 6, seed=2, size=SIZE, procedural_share=0.0)


def test_same_item_same_scene(scenes):
    first, second = scenes[3], scenes[3]
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_item(scenes):
    """Labels are those of the drawn voxels; one-hot texts name them; boxes hold their structure."""
    item = scenes[5]
    count = len(item["chosen"])
    assert item["image"].shape[0] == 4 and all(n % 16 == 0 for n in item["image"].shape[1:])
    assert item["label"].shape == (6, count) and item["spatial"].shape == (6, 1, count)
    assert item["image"][0].abs().max() <= 1 and torch.isfinite(item["image"]).all()
    for text, label in zip(item["text"], item["label"]):
        if text.any():
            number = 1 + int(text.argmax())
            assert torch.equal(label > 0, item["classes"] == number)


def test_targets(scenes):
    """Some classes are not there, most are."""
    sizes = torch.cat([scenes[n]["label"].sum(1) for n in range(4)])
    assert 0 < (sizes == 0).float().mean() < 0.6


def test_positions():
    """The position channels grow to the right, front and head, and tell the voxel size."""
    view = seen(phantom("knee", 1), generator(4), SIZE)
    for axis in range(3):
        steps = np.diff(view.image[1 + axis], axis=axis)
        assert (steps >= 0).all() and steps.max() > 0


def test_drawn_voxels_stand_for_all(scenes):
    """Voxels are drawn more densely in small structures, and their weights make up for it."""
    part = AnatomyScenes(40, scenes.phrases, 6, seed=2, size=SIZE, procedural_share=0.0, voxels=3000)
    whole, drawn = scenes[5], part[5]
    assert len(drawn["chosen"]) < 0.6 * len(whole["chosen"])
    assert float(drawn["weight"].sum()) == pytest.approx(len(whole["chosen"]), rel=0.1)
    there = whole["label"].sum(1) > 50
    assert torch.allclose((drawn["label"] * drawn["weight"]).sum(1)[there], whole["label"].sum(1)[there], rtol=0.35)


def test_box():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:12, 6:15, 8:12] = True
    inside = boxed(mask, generator(1)) > 0
    assert mask[inside].sum() > 0.7 * mask.sum() and inside.sum() < 3 * mask.sum()


@pytest.mark.parametrize("label, name", [
    ("kidney right", "kidney_right"), ("lung upper lobe left", "lung_left"), ("vertebrae L3", "spine"),
    ("rib left 9", "rib"), ("left caudate", "caudate_nucleus_left"), ("iliac vena right", "common_iliac_vein_right"),
    ("3rd ventricle", "third_ventricle"), ("left cerebellum cortex", "cerebellum_left")])
def test_labels(label, name):
    assert structure_of(label) == name and name in ALL_STRUCTURES


def test_phrases():
    """Held-out synonyms are not among those for training; typing errors keep most letters."""
    for name in ("liver", "kidney_left", "gallbladder"):
        ours, kept = phrases_of(name)
        assert not set(ours) & set(kept) and all(held_out(p) for p in kept) and ours[0] == name.replace(
            "kidney_left", "left kidney")
    assert {len(mistyped("gallbladder", generator(n))) for n in range(20)} == {10, 11, 12}


def test_loss_of_absent_class():
    """An empty target is paid for where something is found; a voxel's weight counts."""
    loss, ones = KnownClassLoss(), torch.ones(50)
    nothing, something = torch.full((1, 50), -8.0), torch.full((1, 50), 3.0)
    empty = torch.zeros(1, 50)
    assert loss(nothing, empty, ones) < 0.1 < loss(something, empty, ones)
    half = torch.cat([torch.full((1, 25), 8.0), torch.full((1, 25), -8.0)], 1)
    assert loss(half, torch.ones(1, 50), torch.cat([ones[:25], 0.01 * ones[25:]])) < loss(half, torch.ones(1, 50), ones)


def test_unknown_voxels_do_not_count():
    """Where no label is known, the second task has no say."""
    second, features = DenseNames(4, 3), torch.randn(4, 6)
    known = torch.tensor([0, 1, 2, -1, -1, -1])
    changed = features.clone()
    changed[:, 3:] += 5
    assert torch.allclose(second(features, known, torch.ones(6)), second(changed, known, torch.ones(6)))


def test_no_scenes():
    with pytest.raises(PromptZooError, match="scenes and targets"):
        AnatomyScenes(0, Phrases(ALL_STRUCTURES, "onehot"))
