"""``promptzoo learn`` and ``promptzoo learned``: a structure is taught, shared, used and forgotten."""
import json
import os

import numpy as np
import pytest
from PIL import Image

from promptzoo.inference import load_predictor
from promptzoo.prompts.types import ClassPrompt, PromptSet
from promptzoo.training import prompt_tuning


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """Three pictures of a bright disc as a datalist, quick settings, and data of its own."""
    monkeypatch.setenv("PROMPTZOO_DATA", str(tmp_path / "data"))
    settings = prompt_tuning.Learning
    monkeypatch.setattr(prompt_tuning, "Learning", lambda **own: settings(iterations=40, views=6, batch=2, **own))
    lines, rng = ["id,task,image,mask,label_value,modality"], np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :80]
    for n in range(3):
        mask = (rows - 25 - 5 * n) ** 2 + (columns - 40) ** 2 < 150
        image = (60 + 120 * mask + rng.normal(0, 6, mask.shape)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{n}.png")
        Image.fromarray((255 * mask).astype(np.uint8)).save(tmp_path / f"{n}_mask.png")
        lines.append(f"{n},seg2d,{n}.png,{n}_mask.png,,X-ray")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.csv"


def test_teach_use_share_forget(run, cases, tmp_path):
    """From the list to a mask by the new name, to a file, and away again."""
    told = json.loads(run("learn", "Bright Disc", cases, "--engine", "torch", "--json").stdout)
    assert told["name"] == "bright disc" and told["cases"] == 3 and told["held_out"]["cases"] == 3
    assert told["bytes"] < 20_000 and told["modalities"] == ["X-ray"]
    answer = json.loads(run("segment", tmp_path / "0.png", "--class", "bright disc", "--bundle", "prompt_tuned_seg",
                            "--engine", "torch", "--out", tmp_path / "m.png", "--json").stdout)
    assert answer["objects"][0]["voxels"] > 50
    predictor = load_predictor("prompt_tuned_seg", engine="torch")
    learned, shipped = (PromptSet((ClassPrompt(name),)) for name in ("Bright  disc", predictor.shipped[0]))
    told_before = predictor.depends_on(learned)
    file = tmp_path / "data" / "learned" / "prompt_tuned_seg" / "bright_disc.safetensors"
    os.utime(file, ns=(1, 1))
    assert told_before and predictor.depends_on(learned) != told_before and not predictor.depends_on(shipped)
    order = json.loads(run("learned", "rank", "bright disc", cases, "--engine", "torch", "--json").stdout)
    assert len(order) == 3 and order[0]["disagreement"] >= order[-1]["disagreement"]
    assert "--replace" in run("learn", "bright disc", cases, code=2).stderr
    shared = tmp_path / "shared.safetensors"
    shared.write_bytes(file.read_bytes())
    assert [entry["name"] for entry in json.loads(run("learned", "list", "--json").stdout)] == ["bright disc"]
    run("learned", "remove", "bright disc")
    assert json.loads(run("learned", "list", "--json").stdout) == []
    assert "bright disc" in run("learned", "add", shared).stdout
    assert "1 learned" in run("learned", "list").stdout


def test_a_prompt_of_a_network_of_many_tasks(run, cases, tmp_path):
    """The same way for a bundle whose prompts reach into its network."""
    bundle = ("--bundle", "learnable_task_prompt")
    told = json.loads(run("learn", "Bright Disc", cases, *bundle, "--no-measure", "--engine", "torch", "--json").stdout)
    assert told["base"]["bundle"] == "learnable_task_prompt" and told["bytes"] < 12_000
    answer = json.loads(run("segment", tmp_path / "0.png", "--class", "bright disc", *bundle, "--engine", "torch",
                            "--out", tmp_path / "m.png", "--json").stdout)
    assert answer["objects"][0]["voxels"] > 50
    assert "several prompts" in run("learned", "rank", "bright disc", cases, *bundle, "--engine", "torch",
                                    code=5).stderr
    run("learned", "remove", "bright disc", *bundle)
    assert "bright disc" in run("segment", tmp_path / "0.png", "--class", "bright disc", *bundle, code=2).stderr


def test_a_prompt_of_a_variant_is_listed_and_ranks(run, cases):
    """The list says whose it is, and rank asks the variant."""
    of = ("--variant", "slpt")
    run("learn", "Bright Disc", cases, *of, "--no-measure", "--engine", "torch")
    [entry] = json.loads(run("learned", "list", "--json").stdout)
    assert entry["name"] == "bright disc" and entry["for"] == "--variant slpt"
    order = json.loads(run("learned", "rank", "bright disc", cases, *of, "--engine", "torch", "--json").stdout)
    assert [sorted(found) for found in order] == 3 * [["disagreement", "id", "image"]]
    assert "--replace" in run("learn", "bright disc", cases, code=2).stderr


def test_what_cannot_be_taught(run, cases, tmp_path):
    """Wrong bundle, taken name, wrong file: one line each."""
    assert "to teach: got ffpt" in run("learn", "x", cases, "--variant", "ffpt", code=5).stderr
    assert "bundle to teach" in run("learn", "x", cases, "--bundle", "sam_box_finetune", code=5).stderr
    assert "no class of the bundle" in run("learn", "lungs", cases, code=2).stderr
    assert "ends in .safetensors" in run("learn", "x", cases, "--out", tmp_path / "x.pt", code=2).stderr
    assert "readable safetensors file" in run("learned", "add", cases, code=5).stderr
    assert "learned prompt" in run("learned", "remove", "x", code=4).stderr
