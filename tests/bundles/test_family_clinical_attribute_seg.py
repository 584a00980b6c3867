"""Honest small checks of clinical-attribute-seg (families.md, section 17) on the shipped weights."""
import json

import numpy as np
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.data.synthesis.clinical import STUDIES, scenes
from promptzoo.evaluation.clinical import asked, flat, measure_records
from promptzoo.inference import load_predictor
from promptzoo.inference.clinical_inferer import ClinicalInferer
from promptzoo.prompts import AttributePrompt, ClassPrompt, Point, PromptSet, TextPrompt

COUNT = 12
BRAIN, LIVER, ABDOMEN, SLIDE = STUDIES


def variant(name):
    """The predictor of a variant."""
    return load_predictor("clinical_attribute_seg", "torch", variant=name)


@pytest.fixture(scope="module")
def brains():
    """Means of the variant aepl."""
    return measure_records(variant("aepl"), BRAIN, COUNT)


def test_the_grade_moves_the_parts_the_right_way(bundle, brains):
    """Overwriting the grade with high brings an enhancing part and shrinks the core."""
    assert brains["enhancing, high"] > 0.015 and brains["enhancing, high"] > 4 * brains["enhancing, low"], brains
    assert brains["core, low"] > 1.12 * brains["core, high"], brains


def test_other_grades_lower_dice(bundle, brains):
    """Measured on 20 scenes: 0.76 under the true grade, 0.68 under another scene's, 0.56 under the wrong one."""
    assert brains["true"] > 0.65, brains
    assert brains["permuted"] < brains["true"] - 0.03 and brains["wrong"] < brains["true"] - 0.12, brains


@pytest.mark.xfail(strict=True, reason="weights 0.1.0: the grade is right in 0.65 of 20 scenes, too often low, and "
                                       "Dice under it is 0.60, less than under another scene's (0.68)")
def test_the_predicted_grade_is_of_use(bundle, brains):
    assert brains["predicted"] > brains["permuted"] + 0.02, brains


def test_the_position_removes_what_is_out_of_range(bundle):
    """Told the slice's position, organs that are not in it are not marked; told another slice's, they are; the
    predicted position lies between. Measured on 20 scenes: Dice 0.53, 0.15, 0.44; out of range 0.00, 0.25, 0.08."""
    found = measure_records(load_predictor(bundle.path, "torch"), ABDOMEN, COUNT)
    assert found["true"] > 0.42 and found["permuted"] < 0.6 * found["true"], found
    assert found["permuted"] < found["predicted"] < found["true"], found
    assert found["out of range, true"] < 0.04 < 0.08 < found["out of range, permuted"], found


def test_superpixels_and_a_promptable_network(bundle):
    """Region prompts: what stands out in the segment becomes boxes, which a SAM-like network fills; another segment's
    number loses the lesions. Measured on 20 scenes: 0.34, 0.15 under another scene's segment, region 0.66."""
    predictor = variant("lyu-couinaud-sam")
    found = measure_records(predictor, LIVER, COUNT)
    assert found["region"] > 0.55 and found["true"] > 0.2, found
    assert found["permuted"] < 0.7 * found["true"] and found["elsewhere"] < 0.15, found
    told = []
    for scene in scenes(3, LIVER):
        state = predictor.encode(flat(scene.image))
        told += [str(asked(predictor, state, "liver lesion", segment=n).info["boxes"]) for n in ("2", "4", "7", "8")]
    assert len(set(told)) > 4, "boxes depend on the segment"


@pytest.mark.xfail(strict=True, reason="weights 0.1.0: the decoder by itself marks no lesion of a segment (Dice 0.00 "
                                       "on 20 scenes); it knows the segments (0.66): lyu-couinaud-sam works with them")
def test_the_segment_says_which_lesion(bundle, predictor):
    scene = scenes(1, LIVER)[0]
    assert asked(predictor, predictor.encode(flat(scene.image)), "liver lesion", **scene.record).mask.any()


def test_a_request_and_a_click_say_what_is_meant(bundle):
    """PFPs: other words, or another click, on the same slide give another mask. Measured on 20 scenes: the clicked
    part 0.59, without the click 0.24; structures 0.37 to 0.59, asked for in other words 0.15."""
    found = measure_records(variant("pfps"), SLIDE, COUNT)
    assert min(found["glomerulus"], found["tubules"]) > 0.45 and found["nuclei"] > 0.25, found
    assert found["another request"] < 0.25, found
    clicked, unclicked = found["clicked part"], found["clicked part, without the click"]
    assert clicked > 0.45 and clicked > unclicked + 0.2, found


def test_an_edit_costs_the_decoder_alone(bundle, predictor, monkeypatch):
    """The image is encoded once; what was predicted is shown, edited and given back."""
    calls, parts = [], predictor.parts
    monkeypatch.setattr(predictor, "parts", type(parts)(lambda image: calls.append(1) or parts.encode(image),
                                                        parts.attributes, parts.decode))
    state = predictor.encode(flat(scenes(1, BRAIN)[0].image))
    itself = asked(predictor, state, "tumour core")
    told = PromptSet.from_json(json.loads(itself.info["generated"]))
    assert {p.name: p.value for p in told.of("attribute")} == itself.info["attributes"]
    assert np.array_equal(predictor.decode(state, told).objects[0].mask, itself.mask)
    assert itself.info["source"] == "predicted" and "grade" in itself.info["predicted"]
    other = "low" if itself.info["attributes"]["grade"] == "high" else "high"
    told = PromptSet((ClassPrompt("tumour core"), AttributePrompt("grade", other)))
    edited = predictor.decode(state, told).objects[0]
    assert edited.info["source"] == "given" and (edited.mask != itself.mask).any()
    assert len(calls) == 1


def test_words_and_fields_say_the_same(bundle, predictor):
    state = predictor.encode(flat(scenes(1, BRAIN)[0].image))
    words = asked(predictor, state, text="enhancing tumor, high grade")
    fields = asked(predictor, state, "enhancing tumour", grade="IV")
    assert np.array_equal(words.mask, fields.mask) and words.info["attributes"] == {"grade": "high"}


def test_what_does_not_fit_is_named(bundle, predictor):
    state = predictor.encode(flat(scenes(1, BRAIN)[0].image))
    with pytest.raises(PromptError, match="attribute of stomach"):
        asked(predictor, state, "stomach", grade="high")
    with pytest.raises(PromptError, match="grade"):
        asked(predictor, state, "tumour core", grade="purple")
    with pytest.raises(UnclearTextError, match="Which structure"):
        predictor.decode(state, PromptSet((TextPrompt("zzz qqq"),)))
    with pytest.raises(UnclearTextError, match="does not know"):
        one = ClinicalInferer(studies=[BRAIN]).predictor(predictor.parts)
        one.decode(state, PromptSet((TextPrompt("stomach"),)))
    with pytest.raises(PromptError, match="point"):
        predictor.decode(state, PromptSet((Point((5.0, 5.0, 0.0), space="voxel"),)))
