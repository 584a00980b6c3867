"""Honest small checks of song-laryngo-sam (sam-prompt-study): prompts that follow from a glottis found by itself."""
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from promptzoo.cli.app import app
from promptzoo.core.bundles import get_bundle
from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.data.synthesis.larynx import larynx
from promptzoo.inference import load_predictor
from promptzoo.inference.larynx import find_glottis, fold_prompts
from promptzoo.prompts import Box, ClassPrompt, PromptSet

from .conftest import dice

SEEDS = range(1000, 1008)
ASKED = PromptSet((ClassPrompt("glottis", 1), ClassPrompt("vocal folds", 2)))


@pytest.fixture(scope="module")
def predictor():
    return load_predictor(get_bundle("sam_prompt_study").path, engine="torch", variant="song-laryngo-sam")


def frame(seed, **kind):
    image, labels = larynx(seed, **kind)
    return Volume(100 * image[..., None], Grid((*image.shape, 1), np.eye(4))), labels[..., None]


@pytest.fixture(scope="module")
def answered(predictor):
    """Per frame: Dice of glottis and folds by class, and by the true boxes of all three."""
    found = []
    for seed in SEEDS:
        volume, labels = frame(seed)
        state = predictor.encode(volume)
        answer, boxes = predictor.decode(state, ASKED), []
        for value in (1, 2, 3):
            at = np.argwhere(labels == value)
            boxes.append(Box(tuple(map(float, at.min(0))), tuple(map(float, at.max(0) + 1)), value, "voxel"))
        true = predictor.decode(state, PromptSet(tuple(boxes)))
        folds = (true[2].mask | true[3].mask) & ~true[1].mask
        found.append([dice(answer[1].mask, labels == 1), dice(answer[2].mask, labels >= 2),
                      dice(true[1].mask, labels == 1), dice(folds, labels >= 2)])
    return np.array(found)


def test_automatic_prompts_are_as_good_as_true_boxes(answered):
    """Measured on ten frames: glottis 0.78 (true box 0.77), folds 0.74 (0.74)."""
    glottis, folds, true_glottis, true_folds = answered.mean(0)
    assert glottis > 0.68 and folds > 0.62, answered.mean(0).round(3)
    assert glottis > true_glottis - 0.04 and folds > true_folds - 0.04, answered.mean(0).round(3)


def test_closed_folds_are_told(predictor):
    volume, _ = frame(7, open_glottis=False)
    answer = predictor.decode(predictor.encode(volume), ASKED)
    assert not answer[1].mask.any() and not answer[2].mask.any() and "glottis" in answer[2].info["reason"]


def test_prompts_can_be_edited(predictor):
    """What was made comes back as prompts; a fold whose box is left out is gone."""
    volume, labels = frame(1000)
    state = predictor.encode(volume)
    answer = predictor.decode(state, ASKED)
    made = predictor.propose(state, "vocal folds")
    assert PromptSet.from_json(json.loads(answer[2].info["generated"])) == made
    assert len(made.objects) == 2 and made.kinds == {"box", "point"}
    one = predictor.decode(state, made.for_object(made.objects[0].object_id)).objects[0].mask
    shares = [(one & (labels == value)).sum() / (labels == value).sum() for value in (2, 3)]
    assert max(shares) > 0.5 and min(shares) < 0.15
    with pytest.raises(PromptError, match="nothing else"):
        predictor.decode(state, PromptSet((ClassPrompt("glottis", 1), *made.for_object(1).prompts)))
    with pytest.raises(PromptError, match="vocal folds"):
        predictor.propose(state, "epiglottis")


def test_the_command_line_takes_the_classes_of_a_variant(tmp_path, monkeypatch):
    """The bundle itself takes no class prompts."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray((255 * larynx(1000)[0]).astype(np.uint8)).save("frame.png")
    common = ["segment", "frame.png", "--bundle", "sam_prompt_study", "--engine", "torch", "--class", "vocal folds"]
    found = CliRunner().invoke(app, [*common, "--variant", "song-laryngo-sam", "--out", "folds.png"])
    assert found.exit_code == 0, found.output
    assert np.asarray(Image.open("folds.png")).any() and (tmp_path / "folds_prompts_1.json").is_file()
    refused = CliRunner().invoke(app, [*common, "--out", "none.png"])
    assert refused.exit_code != 0 and "got class" in refused.output


def test_the_recipe_needs_no_network():
    """The slit is found where it is, not in the dark around the field of view; clicks lie on the folds."""
    for seed in range(2000, 2012):
        image, labels = larynx(seed)
        glottis = find_glottis(image)
        assert glottis is not None and dice(glottis, labels == 1) > 0.7, seed
        for fold in fold_prompts(image, glottis):
            assert all(labels[tuple(np.rint(place).astype(int))] >= 2 for place in fold.positive), seed
        assert find_glottis(larynx(seed, open_glottis=False)[0]) is None, seed
    assert find_glottis(np.zeros((64, 64))) is None
