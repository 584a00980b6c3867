"""Which prompt a bundle's own study advises."""
import json

import pytest

from promptzoo.core.advice import organ_name, read_advice, recommend
from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import BundleError


def told(prompt, dice, n=9):
    """An entry of an advice file."""
    return {"n": n, "recommended": {"condition": f"a {prompt}", "prompt": prompt, "count": 1, "clicks": 2,
                                    "margin": 0.05, "dice": dice, "band": [0, 1], "n": n, "negative": 0, "missed": 0.0}}


@pytest.fixture
def info(tmp_path):
    """A bundle with advice."""
    (tmp_path / "docs").mkdir()
    few = {"n": 2, "reason": "too few cases: 2, at least 5 are needed"}
    (tmp_path / "docs" / "advice.json").write_text(json.dumps({
        "all": told("box", 0.7), "modality": {"CT": told("point", 0.6), "X-ray": told("box", 0.5), "MR": few},
        "organ": {"lung": told("box", 0.9), "liver": few}}))
    return BundleInfo("b", tmp_path, {"promptzoo": {"prompts": ["box", "point"]}})


def test_the_narrowest_group_that_was_measured_counts(info):
    assert recommend(info).group == "all objects"
    assert recommend(info, "CT").prompt == "point" and recommend(info, "ct").group == "modality CT"
    assert recommend(info, "CT", "Left lung").expected_dice == 0.9
    assert recommend(info, "CT", "liver").group == "modality CT", "too few livers"
    assert recommend(info, "MR", "liver").group == recommend(info, "US").group == "all objects"
    assert recommend(info, "DX").group == recommend(info, "CR", "hand").group == "modality X-ray"
    found = recommend(info, "CT", "lung")
    assert (found.bundle, found.clicks, found.margin, found.n) == ("b", 2, 0.05, 9)


def test_only_prompts_that_the_bundle_takes(info):
    points = BundleInfo("b", info.path, {"promptzoo": {"prompts": ["point"]}})
    assert recommend(points, "CT").prompt == "point" and recommend(points, "X-ray") is None


def test_without_advice(tmp_path, info):
    bare = BundleInfo("b", tmp_path / "no", {"promptzoo": {"prompts": ["box"]}})
    assert read_advice(bare) == {} and recommend(bare, "CT", "lung") is None
    (info.path / "docs" / "advice.json").write_text("[1]")
    with pytest.raises(BundleError, match="a JSON object"):
        recommend(info)


@pytest.mark.parametrize("label, organ", [
    ("Lung upper lobe left", "lung"), ("rib right 7", "rib"), ("lungs", "lung"), ("vertebrae L2", "vertebrae"),
    ("Precentral L", "precentral"), ("kidney_left", "kidney"), ("left ventricle cavity", "ventricle cavity"),
])
def test_organs_without_sides_and_numbers(label, organ):
    assert organ_name(label) == organ
