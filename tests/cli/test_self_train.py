"""``promptzoo self-train``: from pictures without labels to a bundle folder of its own."""
import json

import numpy as np
import pytest
from PIL import Image

from promptzoo.core.bundles import get_bundle
from promptzoo.core.seeding import generator
from promptzoo.data.synthesis.nuclei import ProceduralNuclei
from promptzoo.inference import load_predictor


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with two pictures of procedural nuclei and a file that is none."""
    folder, source = tmp_path_factory.mktemp("pictures"), ProceduralNuclei(128, 5)
    for n in range(2):
        shown = source.sample(generator(77, n), empty=False, bright=True)[0]
        Image.fromarray((255 * shown).astype(np.uint8)).save(folder / f"{n}.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_the_result_is_a_bundle_that_detects(run, pictures, tmp_path):
    out = tmp_path / "own" / "nuclei"
    told = json.loads(run("self-train", pictures, "--text", "nucleus", "--out", out, "--iterations", "2", "--json")
                      .stdout)
    assert told["pictures"] == 2 and told["boxes"] > 0 and told["teacher"] == "attriprompter"
    assert json.loads((out / "docs" / "self_training.json").read_text())["boxes"] == told["boxes"]
    shipped = get_bundle("grounded_attribute_detection")
    loaded = load_predictor(out, "torch")
    metadata = json.loads((out / "configs" / "metadata.json").read_text())
    assert metadata["version"] == f"{shipped.version}+self" and loaded.prompt_kinds == {"text"}
    assert list(out.parent.iterdir()) == [out], "nothing half-made stays"
    found = json.loads(run("detect", pictures / "0.png", "--bundle", out, "--text", "nucleus", "--engine", "torch",
                           "--out", tmp_path / "boxes.json", "--json").stdout)
    assert found["boxes"] and (tmp_path / "boxes.json").exists()
    own = out / str(shipped.weights["file"])
    assert own.read_bytes() != (shipped.path / str(shipped.weights["file"])).read_bytes()


@pytest.mark.parametrize("arguments, told", [
    (("--text", "nucleus", "--threshold", "1.5"), "between 0 and 1"), (("--text", "xqzzy"), "no word of 'xqzzy'"),
    (("--text", "nucleus", "--threshold", "0.99"), "lower --threshold")])
def test_what_cannot_be_is_told_and_leaves_nothing(run, pictures, tmp_path, arguments, told):
    out = tmp_path / "own"
    assert told in run("self-train", pictures / "0.png", "--out", out, *arguments, code=2).stderr
    assert not out.exists()


def test_a_bundle_of_another_task_is_told(run, pictures, tmp_path):
    told = run("self-train", pictures, "--text", "nucleus", "--bundle", "sam_box_finetune", "--out", tmp_path / "own",
               code=5).stderr
    assert "detection" in told


def test_a_folder_that_exists_or_holds_no_picture_is_told(run, pictures, tmp_path):
    told = run("self-train", pictures, "--text", "nucleus", "--out", tmp_path, code=2).stderr
    assert "does not exist yet" in told
    empty = tmp_path / "empty"
    empty.mkdir()
    assert ".png" in run("self-train", empty, "--text", "nucleus", "--out", tmp_path / "own", code=4).stderr
