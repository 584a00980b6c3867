"""Honest small checks of auto-prompt-sam (families.md, section 9) on the shipped heads: held-out procedural nuclei."""
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptzoo.cli.app import app
from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.evaluation.automatic import automatic, oracle, procedural_scenes
from promptzoo.evaluation.instances import f1
from promptzoo.inference import load_predictor
from promptzoo.prompts import Box, ClassPrompt, Point, PromptSet

COUNT, SIZE = 3, 128
LEAST_DICE, MOST_GAP, LEAST_F1, MOST_FALSE = 0.85, 0.06, 0.8, 1
LEAST_BY_SYSTEM = {"un-sam": 0.3, "glatt-tda": 0.3}


@pytest.fixture(scope="module")
def scenes():
    return procedural_scenes(COUNT, SIZE)


@pytest.fixture(scope="module")
def large():
    """An image that is not magnified, which the detector's sizes are meant for."""
    return procedural_scenes(1, 256)


@pytest.fixture(scope="module")
def variant():
    """Function ``(bundle, name) -> predictor``, each loaded once."""
    loaded = {}

    def load(bundle, name):
        if name not in loaded:
            loaded[name] = load_predictor(bundle.path, engine="torch", variant=name)
        return loaded[name]

    return load


def _all(predictor, state, *others):
    return predictor.decode(state, PromptSet((ClassPrompt("nuclei"), *others))).objects[0]


def test_automatic_prompts_come_close_to_the_oracle(bundle, predictor, scenes):
    """Measured on 4 images (docs/results.json): Dice 0.931, with the oracle's boxes 0.935; F1 0.927."""
    ours, best = automatic(predictor, scenes, "nuclei"), oracle(predictor, scenes)
    gap = np.mean(best.dice) - np.mean(ours.dice)
    assert np.mean(ours.dice) > LEAST_DICE and gap < MOST_GAP, (np.round(ours.dice, 3), np.round(best.dice, 3))
    assert f1(ours.counts) > LEAST_F1, ours.counts


def test_little_is_found_where_nothing_is(bundle, predictor):
    blank = automatic(predictor, procedural_scenes(4, SIZE, empty=True), "nuclei")
    assert sum(found > 0 for found in blank.found) <= MOST_FALSE, blank.found


def test_a_flat_image_gives_an_empty_answer_with_the_reason(bundle, predictor):
    flat = Volume(np.full((96, 96, 1), 7.0, np.float32), Grid((96, 96, 1), np.eye(4)))
    answer = _all(predictor, predictor.encode(flat))
    assert not answer.mask.any() and answer.info["reason"] == "nothing found" and answer.info["instances"] == 0


def test_generated_prompts_are_editable_widgets(bundle, variant, scenes):
    """They decode to the same places, and without an automatic positive point the mask is another one."""
    predictor, scene = variant(bundle, "segment-any-cell"), scenes[0]
    state = predictor.encode(scene.volume)
    answer, proposed = _all(predictor, state), predictor.propose(state, "nuclei")
    told = PromptSet.from_json(json.loads(answer.info["generated"]))
    assert len(told.objects) == answer.info["instances"] == len(proposed.objects) > 3
    number = next(o.object_id for o in proposed.objects if len(proposed.for_object(o.object_id)) > 3)
    own = proposed.for_object(number)
    first = next(p for p in own.of("point") if p.positive)
    fewer = PromptSet(tuple(p for p in own.prompts if p is not first))
    with_it, without = (predictor.decode(state, prompts).objects[0] for prompts in (own, fewer))
    assert with_it.mask.any() and (with_it.mask != without.mask).any()


def test_clicks_edit_the_answer(bundle, predictor, scenes):
    state = predictor.encode(scenes[0].volume)
    before = _all(predictor, state)
    one = predictor.instances(state, "nuclei").objects[0]
    inside = np.argwhere(one.mask)
    centre = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()]
    after = _all(predictor, state, Point(tuple(centre), False, 1, "voxel"))
    assert before.mask[tuple(centre)] and not after.mask[tuple(centre)]
    assert after.info["instances"] == before.info["instances"] - 1
    empty = np.argwhere(scenes[0].labels[..., 0] + before.mask[..., 0] == 0)[0]
    added = _all(predictor, state, Point((*empty, 0), True, 1, "voxel"))
    assert added.mask[(*empty, 0)]
    half = _all(predictor, state, Box((0, 0, 0), (SIZE // 2, SIZE, 1), 1, "voxel"))
    assert 0 < half.info["instances"] < before.info["instances"]


def test_the_command_line_hands_out_the_prompts(bundle, scenes, tmp_path, monkeypatch):
    """The class in one command; its prompts, given back, mark every nucleus with a value of its own."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scenes[0].volume.data[..., 0].T.astype(np.uint8)).save("nuclei.png")
    common = ["segment", "nuclei.png", "--bundle", str(bundle.path), "--engine", "torch"]
    first = CliRunner().invoke(app, [*common, "--class", "nuclei", "--out", "all.png"])
    assert first.exit_code == 0, first.output
    made = PromptSet.from_json(json.loads((tmp_path / "all_prompts_1.json").read_text()))
    assert len(made.objects) > 3
    second = CliRunner().invoke(app, [*common, "--prompts", "all_prompts_1.json", "--out", "each.png"])
    assert second.exit_code == 0, second.output
    masks = [np.asarray(Image.open(name)) for name in ("all.png", "each.png")]
    assert set(np.unique(masks[0])) == {0, 1} and len(np.unique(masks[1])) > 3


def test_other_classes_and_places_are_refused(bundle, predictor, scenes):
    state = predictor.encode(scenes[0].volume)
    with pytest.raises(PromptError, match="mitosis.*nuclei"):
        predictor.decode(state, PromptSet((ClassPrompt("mitosis"),)))
    deep = Volume(np.zeros((40, 40, 20), np.float32), Grid((40, 40, 20), np.eye(4)))
    with pytest.raises(PromptError, match="20 slices"):
        predictor.decode(predictor.encode(deep), PromptSet((ClassPrompt("nuclei"),)))


def test_drawn_prompts_are_answered_as_by_the_base(bundle, predictor, scenes):
    base = load_predictor(bundle.path.parent / "sam_box_finetune", engine="torch")
    volume = scenes[0].volume
    prompts = PromptSet((Box((20, 30, 0), (60, 66, 1), 1, "voxel"), Point((100, 90, 0), True, 2, "voxel")))
    ours, theirs = (p.decode(p.encode(volume), prompts) for p in (predictor, base))
    for one, other in zip(ours.objects, theirs.objects, strict=True):
        assert np.allclose(one.full_probability(), other.full_probability(), atol=1e-6)


@pytest.mark.parametrize("name, kinds", (
    ("self-prompt-sam", {"box", "point"}), ("lusam", {"box", "mask"}), ("segment-any-cell", {"point"}),
    ("un-sam", {"mask"}), ("uepg", {"point", "mask"}), ("glatt-tda", {"point"}), ("shaharabany-sparse-sam", {"point"})))
def test_every_system_prompts_in_its_own_way(bundle, variant, scenes, name, kinds):
    predictor, scene = variant(bundle, name), scenes[0]
    state = predictor.encode(scene.volume)
    proposed, answer = predictor.propose(state, "nuclei"), _all(predictor, state)
    assert proposed.kinds == kinds
    truth = scene.labels > 0
    dice = 2 * (answer.mask & truth).sum() / (answer.mask.sum() + truth.sum())
    assert dice > LEAST_BY_SYSTEM.get(name, 0.5), f"{dice:.3f}"


def test_the_own_mask_fed_back_changes_the_answer(bundle, scenes):
    predictor = load_predictor(bundle.path, engine="torch", variant="shaharabany-sparse-sam")
    state, finder = predictor.encode(scenes[0].volume), predictor.finder
    assert finder.settings.loops == 1
    twice = _all(predictor, state).mask
    finder.settings = replace(finder.settings, loops=0)
    assert (_all(predictor, predictor.encode(scenes[0].volume)).mask != twice).any()


@pytest.mark.parametrize("name, kinds, least_f1", (
    ("cervical-yosa", {"box"}, 0.4), ("apg-sam", {"box", "point"}, 0.45), ("centersam", {"point"}, 0.1)))
def test_predicted_centres_and_boxes_prompt_at_the_images_own_scale(bundle, variant, large, name, kinds, least_f1):
    """Measured on two images of 256 pixels: docs/results.json."""
    predictor = variant(bundle, name)
    assert predictor.propose(predictor.encode(large[0].volume), "nuclei").kinds == kinds
    found = automatic(predictor, large, "nuclei")
    assert np.mean(found.dice) > 0.6 and f1(found.counts) > least_f1, (np.round(found.dice, 3), found.counts)
