"""``promptzoo batch``: what it is given, what it leaves behind, and how it goes on."""
import csv
import json
import shutil

import numpy as np
import pytest

from promptzoo.cli.batch.manifest import Manifest
from promptzoo.cli.batch.studies import Study, studies_of
from promptzoo.core.errors import BundleError, ConflictError, PromptZooError
from promptzoo.data.io import read_image, read_mask, write_mask
from promptzoo.data.nifti import write_nifti
from promptzoo.inference.kept import KeptPart
from promptzoo.prompts.types import Box, ObjectInfo, PromptSet, TextPrompt


@pytest.fixture(autouse=True)
def _fakes(bundles, predictor):
    """Every test here has the fake bundles and the fake predictor."""


@pytest.fixture
def folder(volume_file, tmp_path):
    """Three images, one of them deep."""
    place = tmp_path / "cases"
    (place / "deep").mkdir(parents=True)
    for name in ("a.nii.gz", "b.nii.gz", "deep/c.nii.gz"):
        shutil.copy(volume_file, place / name)
    (place / "notes.txt").write_text("no image")
    return place


@pytest.fixture
def box(tmp_path, volume_file):
    """A prompt file in world space."""
    file, drawn = tmp_path / "box.json", Box((2, 3, 4), (12, 13, 9), 1, "voxel")
    told = PromptSet((drawn,), (ObjectInfo(1, "block"),)).to_world(read_image(volume_file).grid)
    file.write_text(json.dumps(told.to_json()))
    return file


def lines(out):
    """The manifest."""
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_a_folder_with_the_same_prompts(run, folder, box, tmp_path):
    out = tmp_path / "out"
    told = json.loads(run("batch", folder, "--bundle", "solid_3d", "--prompts", box, "--out", out, "--json").stdout)
    assert (told["studies"], told["done"], told["failed"]) == (3, 3, 0)
    assert {line["id"] for line in lines(out)} == {"a.nii.gz", "b.nii.gz", "deep/c.nii.gz"}
    first = lines(out)[0]
    labels, _ = read_mask(out / first["mask"])
    assert labels.any() and first["objects"][0]["voxels"] == int((labels == 1).sum())
    record = json.loads((out / first["mask"].replace(".nii.gz", ".json")).read_text())
    assert record["names"] == {"1": "block"} and record["bundle"] == "solid_3d"
    assert not list(out.glob(".part-*"))


def test_an_image_is_no_list(run, folder, box, tmp_path):
    out = tmp_path / "out"
    said = run("batch", folder / "a.nii.gz", "--bundle", "solid_3d", "--prompts", box, "--out", out, code=2)
    assert "list of studies: got a.nii.gz" in said.output and "promptzoo segment" in said.output


def test_it_goes_on_where_it_ended(run, folder, box, tmp_path, predictor):
    out = tmp_path / "out"
    command = ["batch", folder, "--bundle", "solid_3d", "--prompts", box, "--out", out, "--json"]
    run(*command)
    seen = len(predictor.seen)
    assert json.loads(run(*command).stdout)["before"] == 3 and len(predictor.seen) == seen
    masks = {line["id"]: out / line["mask"] for line in lines(out)}
    masks["b.nii.gz"].write_bytes(b"damaged")
    with (out / "manifest.jsonl").open("a") as stream:
        stream.write('{"id": "half a li')
    again = json.loads(run(*command).stdout)
    assert (again["before"], again["done"], len(predictor.seen)) == (2, 3, seen + 1), "only what is damaged is done"
    assert read_mask(masks["b.nii.gz"])[0].any() and len(lines(out)) == 4
    (folder / "a.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes() + b"\0")
    assert json.loads(run(*command).stdout)["before"] == 2, "another image under the same name is done"


@pytest.mark.parametrize("reads_sentences, asked", [(True, ["both kidneys"]), (False, ["left kidney", "right kidney"])])
def test_words_become_classes_unless_the_bundle_reads_sentences(run, folder, make_bundle, predictor, tmp_path,
                                                                reads_sentences, asked):
    make_bundle("reader", 3, prompts=["text"], extra={"reads_sentences": reads_sentences},
                label={"type": "segmentation", "labels": ["left kidney", "right kidney"]})
    predictor.prompt_kinds = frozenset({"text"})
    run("batch", folder, "--bundle", "reader", "--text", "both kidneys", "--out", tmp_path / "out")
    assert [sorted(prompt.text for prompt in prompts.prompts) for prompts in predictor.seen] == [asked] * 3


def test_a_study_that_fails_keeps_none_of_the_others(run, folder, box, tmp_path):
    (folder / "b.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    result = run("batch", folder, "--bundle", "solid_3d", "--prompts", box, "--out", out, code=1)
    assert "b.nii.gz: ImageError" in result.stderr and "results:" in result.stdout
    assert {line["id"]: line["status"] for line in lines(out)}["deep/c.nii.gz"] == "done"


def test_a_list_with_prompts_of_its_own(run, folder, box, tmp_path):
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "image", "prompts"], ["one", "cases/a.nii.gz", "box.json"],
                                      ["two", "cases/b.nii.gz", ""]])
    said = run("batch", table, "--bundle", "solid_3d", "--out", tmp_path / "out", code=2).stderr
    assert "prompts of two" in said
    found = studies_of(str(table), PromptSet((TextPrompt("liver"),)))
    assert [PromptSet.from_json(study.prompts).kinds for study in found] == [{"box"}, {"text"}]


def test_what_cannot_be(folder, tmp_path):
    with pytest.raises(PromptZooError, match="ids of studies"):
        table = tmp_path / "twice.csv"
        table.write_text("image\ncases/a.nii.gz\ncases/a.nii.gz\n")
        studies_of(str(table), PromptSet((TextPrompt("liver"),)))
    first = Manifest(tmp_path / "out")
    with pytest.raises(ConflictError, match="another batch writes"):
        Manifest(tmp_path / "out")
    first.close()
    Manifest(tmp_path / "out").close()
    assert Study("a/b", "", "").name != Study("a b", "", "").name, "ids that files cannot hold stay apart"
    assert np.unique([Study(name, "", "").name for name in ("x", "y")]).size == 2


@pytest.fixture
def served(folder, volume_file, tmp_path):
    """A folder that a server served: of three images, one was labelled in a session of two steps."""
    from promptzoo.inference.sessions import SessionStore

    for file in (folder / "deep" / "c.nii.gz", folder / "notes.txt"):
        file.unlink()
    (folder / "deep").rmdir()
    shutil.copy(volume_file, folder / "c.nii.gz")
    volume = read_image(folder / "b.nii.gz")
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[2:12, 3:13, 4:9] = 1
    with SessionStore(tmp_path / "sessions.sqlite") as store:
        session = store.create("b", volume.content_hash, "anna", "solid_3d", "0.1.0", volume.grid)
        for box in (Box((2, 3, 4), (8, 13, 9), 1, "voxel"), Box((8, 3, 4), (12, 13, 9), 1, "voxel")):
            session.add(PromptSet((box,)).to_world(volume.grid).prompts)
        log = session.provenance()
    place = folder / "labels" / "final"
    place.mkdir(parents=True)
    write_mask(place / "b.nii.gz", labels, volume.grid, names={1: "block"})
    (place / "b.prompts.json").write_text(json.dumps(log))
    (folder / "datastore_v2.json").write_text("{}")
    return folder


def test_the_rest_of_a_served_folder(run, served, box, tmp_path):
    command = ["batch", served, "-b", "solid_3d", "--prompts", box, "--json", "--out"]
    assert json.loads(run(*command, tmp_path / "all").stdout)["studies"] == 3, "labels are no studies"
    run(*command, tmp_path / "rest", "--remaining")
    assert {line["id"] for line in lines(tmp_path / "rest")} == {"a", "c"}
    for name in ("a", "c"):
        shutil.copy(served / "labels" / "final" / "b.nii.gz", served / "labels" / "final" / f"{name}.nii.gz")
    assert "without a final label" in run(*command, tmp_path / "none", "--remaining", code=4).stderr


def test_yesterdays_prompts_on_todays_bundle(run, served, tmp_path, predictor):
    out = tmp_path / "out"
    told = json.loads(run("batch", served, "-b", "solid_3d", "--replay", "--out", out, "--json").stdout)
    assert told["dice_to_saved"] == {"mean": 1.0, "objects": 1} and told["studies"] == 1
    assert [len(prompts.prompts) for prompts in predictor.seen] == [1, 2], "step by step"
    assert np.array_equal(read_mask(out / "b.nii.gz")[0], read_mask(served / "labels" / "final" / "b.nii.gz")[0])
    assert json.loads(run("batch", served, "-b", "solid_3d", "--replay", "--out", out, "--json").stdout)["before"] == 1
    shutil.copy(served / "a.nii.gz", served / "b.nii.gz")
    volume = read_image(served / "b.nii.gz")
    write_nifti(served / "b.nii.gz", volume.data + 1, volume.grid)
    assert "image of the session" in run("batch", served, "-b", "solid_3d", "--replay", "--out", out, code=1).stderr
    assert "--replay" in run("batch", served, "-b", "solid_3d", "--replay", "--text", "x", "--out", out, code=2).stderr
    assert "folder of studies" in run("batch", served / "a.nii.gz", "-b", "solid_3d", "--replay", "--out", out,
                                      code=2).stderr


@pytest.fixture
def ahead(monkeypatch):
    """A predictor that sums slices before it knows the prompts; ``.calls`` counts."""

    class Ahead:
        prompt_kinds, ahead_part, calls = frozenset({"class"}), "part", 0

        def __init__(self, folder):
            self.part = KeptPart(self.summed, folder, "sums 1")

        def summed(self, slice_):
            Ahead.calls += 1
            return slice_.sum(0)

        def encode(self, volume):
            return volume

        def ahead(self, state):
            for k in range(0, state.data.shape[2], 8):
                self.part(state.data[..., k])
                yield

    monkeypatch.setattr("promptzoo.inference.load_predictor", lambda *_, embeddings: Ahead(embeddings))
    return Ahead


def test_embeddings_are_computed_once_and_without_prompts(run, folder, tmp_path, ahead):
    out = tmp_path / "out"
    command = ("batch", folder, "--bundle", "solid_3d", "--embeddings", "--out", out, "--json")
    told = json.loads(run(*command).stdout)
    assert (told["done"], told["failed"]) == (3, 0) and not list(out.rglob("*.nii.gz"))
    index = json.loads((out / lines(out)[0]["mask"]).read_text())
    assert index["files"] and all((out / name).stat().st_size == size for name, size in index["files"].items())
    assert told["embeddings"] == {"files": 3 * len(index["files"]), "bytes": 3 * sum(index["files"].values())}
    assert ahead.calls == len(index["files"]), "the three images are the same"
    assert json.loads(run(*command).stdout)["before"] == 3


def test_embeddings_need_no_prompts_and_a_bundle_that_has_some(run, folder, box, tmp_path, monkeypatch):
    said = run("batch", folder, "--bundle", "solid_3d", "--embeddings", "--prompts", box, "--out", tmp_path, code=2)
    assert "--embeddings: got with prompts" in said.output

    def none(*_, embeddings):
        raise BundleError("embeddings in advance: got what solid_3d computes depends on the prompts")

    monkeypatch.setattr("promptzoo.inference.load_predictor", none)
    said = run("batch", folder, "--bundle", "solid_3d", "--embeddings", "--out", tmp_path / "out", code=5)
    assert said.output.count("depends on the prompts") == 1
