"""The app in this process, with predictors that mark a ball around each click."""
import importlib
import json
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from promptzoo.core.errors import NotFoundError, PromptError
from promptzoo.core.protocols import ObjectPrediction, Prediction

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = {"clicks_2d": ["point", "box", "scribble"], "clicks_3d": ["point", "box", "scribble", "mask"],
           "words": ["text"], "no_weights": ["point"]}


def metadata(name):
    """The least metadata of a bundle."""
    return {"version": "0.1.0", "name": name, "description": name, "promptzoo": {
        "schema_version": 1, "family": "interactive-refinement", "task": "segmentation", "prompts": PROMPTS[name],
        "dimensions": 2 if name == "clicks_2d" else 3, "space": "RAS", "not_for": ["anything"],
        "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "nothing", "licence": "Apache-2.0"},
        **({"label": {"type": "segmentation", "labels": ["liver", "spleen"]}} if name == "words" else {})}}


class Balls:
    """Marks every voxel within two voxels of a positive click."""

    prompt_kinds = frozenset({"point", "scribble"})

    def encode(self, volume):
        """The grid is all it needs."""
        return type("State", (), {"nbytes": 1, "grid": volume.grid})()

    def decode(self, state, prompts, previous=None):
        """The balls."""
        found, indices = [], np.indices(state.grid.shape)
        voxel = prompts.to_voxel(state.grid)
        for info in voxel.objects:
            near = [((indices - np.reshape(p.position, (3, 1, 1, 1))) ** 2).sum(0) <= 4
                    for p in voxel.of("point", info.object_id) if p.positive]
            probability = np.any(near, 0).astype(np.float32) if near else np.zeros(state.grid.shape, np.float32)
            found.append(ObjectPrediction(info.object_id, state.grid, (0, 0, 0), probability, 0.9))
        return Prediction(state.grid, tuple(found), 0.0, "balls")


@pytest.fixture
def app(tmp_path, monkeypatch):
    """The app over one image."""
    for name in PROMPTS:
        folder = tmp_path / "bundles" / name
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(name)))
        if name != "no_weights":
            (folder / "models").mkdir()
            (folder / "models" / "model.pt").touch()
    (tmp_path / "studies").mkdir()
    image = np.random.default_rng(0).normal(size=(12, 14, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(image, np.diag([1.0, 1, 2, 1])), tmp_path / "studies" / "case.nii.gz")
    app_dir = ROOT / "apps" / "promptlabel"
    monkeypatch.syspath_prepend(str(app_dir))
    importlib.import_module("lib")
    from monailabel.config import settings

    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    found = importlib.import_module("main").PromptLabel(
        str(app_dir), str(tmp_path / "studies"), {"bundles": str(tmp_path / "bundles")})
    found.service._load = lambda path, engine: Balls()
    return found


def test_models_come_from_the_metadata(app):
    models = app.info()["models"]
    assert list(models) == ["auto", "clicks_3d", "words", "clicks_2d", "clicks_3d_scribbles", "clicks_2d_scribbles"]
    assert [models[name]["type"] for name in models] == [
        "segmentation", "deepgrow", "segmentation", "deepgrow", "scribbles", "scribbles"]
    assert models["words"]["labels"] == ["liver", "spleen"] and models["words"]["config"] == {"text_prompt": ""}
    assert models["clicks_2d"]["dimension"] == 2 and models["clicks_2d"]["config"] == {"through_slices": False}
    assert models["clicks_3d"]["config"] == {} and models["auto"]["config"] == {"text_prompt": ""}
    assert app.info()["labels"] == ["object", "liver", "spleen"]


def test_what_a_bundle_was_taught_is_a_label_at_once(app, tmp_path, monkeypatch):
    """A learned prompt that is added while the server runs appears among the labels, and leaves them again."""
    monkeypatch.setenv("PROMPTZOO_DATA", str(tmp_path / "data"))
    block = app.service.bundles["words"].metadata["promptzoo"]
    block |= {"extra": {"learns": True}, "weights": {**block["weights"], "base": {"bundle": "x", "sha256": "a" * 64}}}
    record = {"name": "left thing", "bundle": "words", "base": {"sha256": "a" * 64}}
    text = json.dumps({"__metadata__": {"promptzoo": json.dumps(record)}}).encode()
    folder = tmp_path / "data" / "learned" / "words"
    folder.mkdir(parents=True)
    (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert app.info()["models"]["words"]["labels"] == ["liver", "spleen", "left thing"]
    (folder / "x.safetensors").unlink()
    assert app.info()["models"]["words"]["labels"] == ["liver", "spleen"]


def test_a_bundle_without_weights_is_not_offered(app):
    with pytest.raises(NotFoundError, match="infer model: got no_weights; allowed: auto, clicks_3d"):
        app.infer({"model": "no_weights", "image": "case"})


def test_an_answer_has_a_file_and_a_description(app):
    answer = app.infer({"model": "clicks_3d", "image": "case", "label": "liver", "foreground": [[5, 6, 4]],
                        "label_info": [{"name": "x", "id": 1}]})
    labels = np.asarray(nibabel.load(answer["file"]).dataobj)
    assert labels.sum() == 33 and labels[5, 6, 4] == 1 and labels.dtype == np.uint8
    assert answer["params"]["label_names"] == {"liver": 1} and answer["params"]["engine"] == "balls"
    assert not Path(answer["file"]).is_relative_to(app.studies)


def test_auto_chooses_and_says_whom(app):
    assert app.infer({"model": "auto", "image": "case", "foreground": [[5, 6, 4]]})["params"]["bundle"] == "clicks_3d"
    assert "no prompt was given" in app.infer({"model": "auto", "image": "case"})["params"]["reason"]


def test_a_saved_answer_is_a_label_of_the_study(app):
    app.infer({"model": "clicks_3d", "image": "case", "foreground": [[5, 6, 4]], "save_label": True})
    assert (Path(app.studies) / "labels" / "original" / "case.nii.gz").is_file()
    info = app.datastore().get_label_info("case", "original")
    assert info["model"] == "clicks_3d" and info["params"]["label_names"] == {"object": 1}


def test_a_batch_keeps_no_empty_masks(app):
    answer = app.batch_infer({"model": "auto", "max_workers": 1})["case"]
    assert answer["label"] is None and "no prompt was given" in answer["params"]["reason"]
    assert not (Path(app.studies) / "labels" / "original" / "case.nii.gz").exists()


@pytest.mark.parametrize("image", ["/etc/hostname", "none", "", None, 5, "../case", "case.nii.gz"])
def test_only_studies_and_uploads_are_read(app, image, monkeypatch):
    monkeypatch.chdir(app.studies)
    with pytest.raises(NotFoundError, match="image id"):
        app.infer({"model": "auto", "image": image})


def test_uploads_are_read_and_never_saved(app, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    upload = tmp_path / "upload.nii.gz"
    upload.write_bytes((Path(app.studies) / "case.nii.gz").read_bytes())
    request = {"model": "clicks_3d", "image": str(upload), "foreground": [[5, 6, 4]], "save_label": True}
    assert app.infer(request)["params"]["label_names"] == {"object": 1}
    assert not (Path(app.studies) / "labels" / "original" / "upload.nii.gz").exists()


def test_tasks_that_do_not_exist(app):
    for method, request in (("train", {"model": "x"}), ("scoring", {"method": "x"}), ("batch_infer", {"model": "x"})):
        with pytest.raises(NotFoundError, match=r"x; allowed"):
            app.check_task(method, request)


def test_prompts_that_a_bundle_does_not_take(app):
    with pytest.raises(PromptError, match="not taken by this bundle: got text"):
        app.infer({"model": "clicks_3d", "image": "case", "text_prompt": "liver"})


def test_strategies(app):
    assert app.next_sample({"strategy": "first"})["id"] == "case"
    assert app.next_sample({"strategy": "random"})["id"] == "case"


def test_dcmqi_is_not_fetched_from_the_network(app, monkeypatch):
    """MONAI Label downloads dcmqi when it starts on a DICOMweb server, and does not start without a network."""
    from monailabel.interfaces import app as host

    monkeypatch.setattr(host, "download_and_extract", lambda **k: pytest.fail("a download"))
    app._download_dcmqi_tools()
