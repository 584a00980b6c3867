"""``promptzoo segment`` end to end with a fake predictor: files in, files out, what is said about them."""
import hashlib
import json
from datetime import datetime
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

import promptzoo
from promptzoo.cli.choice import choose_bundle
from promptzoo.cli.segment import _unedited
from promptzoo.data.io import read_image, read_mask
from promptzoo.prompts.types import PromptSet


@pytest.fixture(autouse=True)
def _fakes(bundles, predictor):
    """Every test here has the fake bundles and the fake predictor."""


def test_two_objects_in_one_call(run, volume_file, labels_of):
    result = run("segment", volume_file, "--box", "2,3,4,12,13,9,liver", "--point", "30,30,15,spleen", "--out",
                 "m.nii.gz")
    labels = labels_of("m.nii.gz")
    assert labels.shape == (40, 36, 20) and labels[30, 30, 15] == 1
    assert (labels[2:12, 3:13, 4:9] == 2).all() and (labels == 2).sum() == 10 * 10 * 5
    assert json.loads(Path("m.json").read_text())["names"] == {"1": "spleen", "2": "liver"}
    np.testing.assert_allclose(nibabel.load("m.nii.gz").affine, nibabel.load(volume_file).affine)
    for said in ("liver", "spleen", "0.900", "fake fp32", "m.nii.gz", "m.json", "1.500", "solid_3d 0.1.0"):
        assert said in result.stdout, said


def test_json_result_and_provenance(run, volume_file, predictor):
    answer = run("segment", volume_file, "--point", "30,30,15,+,spleen", "--point", "30,34,15,-,spleen", "--out",
                 "deep/m.nii.gz", "--save-prompts", "deep/p.json", "--engine", "torch", "--precision", "fp32", "--json")
    result = json.loads(answer.stdout)
    assert result["files"] == {"mask": "deep/m.nii.gz", "provenance": "deep/m.json", "prompts": "deep/p.json"}
    entry, = result["objects"]
    assert entry["name"] == "spleen" and entry["estimated_dice"] == 0.9 and entry["prompts"] == 2
    assert entry["volume_ml"] == pytest.approx(entry["voxels"] * 1.5 * 1.0 * 2.0 / 1000, abs=1e-4)
    assert set(result["seconds"]) == {"load", "encode", "decode"} and result["engine"] == "fake fp32"
    (path, engine, precision, variant), _ = predictor.asked[0]
    assert path.endswith("solid_3d") and (engine, precision, variant) == ("torch", "fp32", None)

    record = json.loads(Path("deep/m.json").read_text())
    volume = read_image(volume_file)
    assert record["promptzoo"] == promptzoo.__version__ and record["names"] == {"1": "spleen"}
    assert record["image"]["content_sha256"] == volume.content_hash and record["image"]["shape"] == [40, 36, 20]
    assert record["bundle"] == {
        "name": "solid_3d", "version": "0.1.0", "variant": None, "weights": {
            "file": "models/model.pt", "bytes": 7, "licence": "Apache-2.0",
            "sha256": hashlib.sha256(b"weights").hexdigest()}}
    assert record["requested"] == {"engine": "torch", "precision": "fp32"} and record["overlap"] == "last"
    assert record["not_for"] == ["Nothing medical."] and "--point 30,30,15,+,spleen" in record["command"]
    assert datetime.fromisoformat(record["created"]).tzinfo is not None
    prompts = PromptSet.from_json(record["prompts"])
    assert prompts == PromptSet.from_json(Path("deep/p.json").read_text())
    np.testing.assert_allclose(prompts.prompts[0].position, volume.grid.to_world((30, 30, 15)))


def test_saved_prompts_give_the_same_mask(run, volume_file, labels_of):
    run("segment", volume_file, "--point", "30,30,15,a", "--box", "1,1,1,9,9,9,b", "--lasso", "9,9,4;15,9,4;15,15,4;b",
        "--save-prompts", "p.json", "--out", "first.nii.gz")
    run("segment", volume_file, "--prompts", "p.json", "--out", "second.nii.gz")
    assert np.array_equal(labels_of("first.nii.gz"), labels_of("second.nii.gz"))
    run("segment", volume_file, "--mask", "first.nii.gz=2,c", "--out", "third.nii.gz")
    assert np.array_equal(labels_of("third.nii.gz") == 1, labels_of("first.nii.gz") == 2)


def test_world_space_and_other_axis_order_are_the_same_place(run, volume_file, tmp_path, labels_of):
    source = nibabel.load(volume_file)
    world = (source.affine @ (30, 30, 15, 1))[:3]
    turned = nibabel.as_closest_canonical(source)
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    text = ",".join(str(v) for v in world)
    run("segment", tmp_path / "turned.nii.gz", "--point", text, "--space", "world", "--out", "t.nii.gz")
    run("segment", volume_file, "--point", "30,30,15", "--out", "v.nii.gz")
    back = nibabel.as_closest_canonical(nibabel.load("v.nii.gz"))
    assert np.array_equal(labels_of("t.nii.gz"), np.asarray(back.dataobj)) and labels_of("t.nii.gz").any()


def test_overlap_rule(run, volume_file, labels_of):
    boxes = ("--box", "1,1,1,9,9,9,a", "--box", "5,5,5,12,12,12,b")
    run("segment", volume_file, *boxes, "--out", "last.nii.gz")
    run("segment", volume_file, *boxes, "--overlap", "first", "--out", "first.nii.gz")
    assert labels_of("last.nii.gz")[6, 6, 6] == 2 and labels_of("first.nii.gz")[6, 6, 6] == 1
    assert "--overlap: got both" in run("segment", volume_file, *boxes, "--overlap", "both", code=2).stderr


def test_picture_goes_to_the_2d_bundle_and_comes_back_as_png(run, picture_file, predictor):
    answer = run("segment", picture_file, "--point", "10,20", "--box", "30,2,40,9,2", "--json")
    result = json.loads(answer.stdout)
    assert result["bundle"]["name"] == "flat_2d" and result["files"]["mask"] == "picture_mask.png"
    assert [o["volume_ml"] for o in result["objects"]] == [None, None]
    pixels = np.asarray(Image.open("picture_mask.png"))
    assert pixels.shape == (32, 48) and pixels[20, 10] == 1 and (pixels[2:9, 30:40] == 2).all()


def test_auto_goes_by_slices_prompts_and_weights(run, make_bundle, volume_file):
    def chosen(*arguments):
        return json.loads(run("segment", volume_file, *arguments, "--json").stdout)["bundle"]["name"]

    make_bundle("a_box_3d", 3, prompts=["box"])
    make_bundle("a_detector_3d", 3, task="detection")
    make_bundle("a_public_3d", 3, weights=False)
    assert chosen("--point", "1,2,3") == "solid_3d"
    assert chosen("--box", "1,1,1,5,5,5") == "a_box_3d"
    assert chosen("--point", "1,2,3", "--bundle", "flat_2d") == "flat_2d"


def test_auto_knows_the_classes_of_the_bundles(run, make_bundle, volume_file):
    make_bundle("a_nuclei_2d", 2, prompts=["class"], label={"type": "segmentation", "labels": ["nuclei"]})
    make_bundle("b_organs_2d", 2, prompts=["class"], label={"type": "segmentation", "labels": ["liver", "Spleen"]})
    said = run("segment", volume_file, "--class", "brain", code=4).stderr
    assert "brain" in said and "liver, nuclei, spleen" in said
    assert choose_bundle(read_image(volume_file).grid, {"class"}, classes=["spleen"]).name == "b_organs_2d"


def test_no_bundle_takes_it(run, make_bundle, volume_file, tmp_path):
    file = tmp_path / "text.json"
    file.write_text(json.dumps({"schema_version": 1, "prompts": [{"kind": "text", "text": "liver"}]}))
    said = run("segment", volume_file, "--prompts", file, code=4).stderr
    assert "a 3D bundle for text" in said and "solid_3d: does not take text" in said


@pytest.mark.parametrize("name", ["m.nrrd", "m.seg.nrrd", "m.mgz"])
def test_other_formats_come_back_on_the_same_grid(run, volume_file, name):
    run("segment", volume_file, "--box", "2,3,4,12,13,9,liver", "--out", name)
    labels, grid = read_mask(name)
    assert grid.same_space(read_image(volume_file).grid) and (labels == 1).sum() == 500


def test_dicom_in_and_dicom_seg_out(run, series_folder):
    run("segment", series_folder, "--box", "3,4,1,13,12,4,liver", "--out", "s.dcm")
    labels, grid = read_mask("s.dcm", reference=series_folder)
    assert grid.shape == (24, 20, 6) and (labels[3:13, 4:12, 1:4] == 1).all() and (labels > 0).sum() == 10 * 8 * 3
    record = json.loads(Path("s.json").read_text())
    assert record["image"]["modality"] == "CT" and record["image"]["series_uid"]
    run("segment", series_folder, "--box", "3,4,1,13,12,4,liver", "--out", "s.nii.gz")
    run("segment", "s.nii.gz", "--box", "3,4,1,13,12,4", "--out", "again.dcm", "--reference", series_folder)
    assert np.array_equal(read_mask("again.dcm", reference=series_folder)[0], labels)


def test_variant(run, volume_file, predictor):
    run("segment", volume_file, "--point", "1,2,3", "--variant", "nothing", code=4)
    assert not predictor.asked


@pytest.mark.parametrize("arguments, code, message", [
    (["--point", "1,2"], 2, "point with two coordinates"),
    (["--point", "1,2,300"], 2, "outside the image by more than half a voxel"),
    ([], 2, "no prompt"),
    (["--point", "1,2,3", "--out", "m.foo"], 2, "--out: got m.foo; allowed: .nii"),
    (["--point", "1,2,3", "--out", "m.dcm"], 2, "--reference"),
    (["--point", "1,2,3", "--png", "m.jpg"], 2, "--png"),
    (["--point", "1,2,3", "--save-prompts", "m.json", "--out", "m.nii.gz"], 2, "would overwrite"),
    (["--point", "1,2,3", "--bundle", "nope"], 4, "bundle: got nope; allowed: flat_2d, solid_3d"),
    (["--prompts", "nowhere.json"], 4, "nowhere.json"),
    (["--mask", "nowhere.nii.gz"], 4, "nowhere.nii.gz"),
])
def test_errors_are_one_line_with_a_code(run, volume_file, predictor, arguments, code, message):
    result = run("segment", volume_file, *arguments, code=code)
    line, = result.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert not result.stdout and not predictor.asked


def test_results_never_overwrite_what_was_given(run, volume_file, tmp_path):
    assert "overwrite the input" in run("segment", volume_file, "--point", "1,2,3", "--out", volume_file, code=2).stderr
    prompts = tmp_path / "m.json"
    prompts.write_text("{}")
    volume = ("segment", volume_file)
    document = {"schema_version": 1, "prompts": [{"kind": "point", "position": [1, 2, 3], "space": "voxel"}]}
    prompts.write_text(json.dumps(document))
    said = run(*volume, "--prompts", prompts, "--out", tmp_path / "m.nii.gz", code=2).stderr
    assert "overwrite the input" in said and json.loads(prompts.read_text()) == document


def test_missing_image_and_debug(run, bundles):
    assert "nowhere.nii" in run("segment", "nowhere.nii", "--point", "1,2,3", code=4).stderr
    result = run("segment", "nowhere.nii", "--point", "1,2,3", "--debug", code=1)
    assert type(result.exception).__name__ == "NotFoundError"


def test_2d_bundle_on_a_volume_says_what_it_does(run, volume_file):
    said = run("segment", volume_file, "--bundle", "flat_2d", "--point", "30,30,15").stderr
    assert "only the slices that carry a prompt" in said


def test_empty_mask_is_noted(run, volume_file):
    result = json.loads(run("segment", volume_file, "--point", "5,5,5,-", "--json").stdout)
    assert result["objects"][0]["voxels"] == 0 and result["objects"][0]["note"]


def test_picture_of_the_result(run, volume_file):
    told = run("segment", volume_file, "--point", "20,20,10,liver", "--png", "p/overlay.png", "--json").stdout
    assert json.loads(told)["files"]["png"] == "p/overlay.png"
    assert min(Image.open("p/overlay.png").size) > 100


def test_through_slices_is_asked_for_and_travels_with_the_prompts(run, volume_file):
    plain = run("segment", volume_file, "--point", "30,30,15", "--out", "a.nii.gz", "--save-prompts", "q.json")
    assert plain.exit_code == 0 and "through_slices" not in json.loads(Path("q.json").read_text())
    run("segment", volume_file, "--point", "30,30,15", "--out", "b.nii.gz", "--save-prompts", "p.json",
        "--through-slices")
    assert PromptSet.from_json(Path("p.json").read_text()).through_slices
    assert json.loads(Path("b.json").read_text())["prompts"]["through_slices"] is True
    run("segment", volume_file, "--prompts", "p.json", "--out", "c.nii.gz")
    assert json.loads(Path("c.json").read_text())["prompts"]["through_slices"] is True


def test_edited_prompts_of_a_former_run_are_kept(tmp_path):
    path = tmp_path / "mask_prompts_1.json"
    assert _unedited(path, "made\n") == path
    path.write_text("made\n")
    assert _unedited(path, "made\n") == path, "the same file needs no second name"
    path.write_text("edited\n")
    assert _unedited(path, "made\n") == tmp_path / "mask_prompts_1_2.json"


def test_text_names_objects_of_the_classes_that_a_bundle_knows(run, make_bundle, volume_file, predictor):
    predictor.prompt_kinds |= {"text"}
    make_bundle("a_nuclei_2d", 2, prompts=["text"], label={"type": "segmentation", "labels": ["nuclei"]})
    make_bundle("b_organs_3d", 3, prompts=["text"], label={"type": "segmentation", "labels": [
        "liver", "kidney_left", "kidney_right"]})
    grid = read_image(volume_file).grid
    assert choose_bundle(grid, {"text"}, texts=["left kidney"]).name == "b_organs_3d"
    answer = json.loads(run("segment", volume_file, "--text", "both kidneys", "--text", "livr", "--json").stdout)
    assert answer["bundle"]["name"] == "b_organs_3d"
    assert sorted(o["name"] for o in answer["objects"]) == ["left kidney", "liver", "right kidney"]
    said = run("segment", volume_file, "--text", "qwertz", code=2).stderr
    assert "qwertz" in said and "What should be found?" in said
    assert "is understood" in run("segment", volume_file, "--text", "heart", code=2).stderr


def test_a_bundle_that_reads_sentences_gets_them_whole(run, make_bundle, volume_file, predictor):
    """Its classes are not what words are read as, and it is taken only if it is named."""
    predictor.prompt_kinds |= {"text"}
    make_bundle("a_sentences_3d", 3, prompts=["text"], extra={"reads_sentences": True},
                label={"type": "segmentation", "labels": ["lesion"]})
    text = "Unilateral lesion, upper left lung"
    said = run("segment", volume_file, "--text", text, code=4).stderr
    assert "a_sentences_3d: reads whole sentences" in said
    run("segment", volume_file, "--bundle", "a_sentences_3d", "--text", text, "--save-prompts", "asked.json")
    with open("asked.json") as file:
        assert [p["text"] for p in json.load(file)["prompts"]] == [text]
