"""``promptzoo weights``, and public weights in the place of a bundle."""
import hashlib
import json
from pathlib import Path

import pytest
import torch

from promptzoo.networks.public import catalog

LITE = json.loads((catalog.FOLDER / "lite-medsam.json").read_text())


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of public weights of this test."""
    monkeypatch.setenv("PROMPTZOO_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Weights ``small`` of a linear layer, and a file that holds them."""
    file, folder = tmp_path / "fetched" / "small.pth", tmp_path / "descriptions"
    file.parent.mkdir()
    folder.mkdir()
    torch.save({"model": torch.nn.Linear(2, 3).state_dict()}, file)
    layout = {"network": "promptzoo.networks.public.testing", "args": {}, "keys": "same", "wrapper": "model"}
    record = {**LITE, "file": "small.pth", "bytes": file.stat().st_size, "layout": layout, "urls": [],
              "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    (folder / "small.json").write_text(json.dumps(record))
    monkeypatch.setattr(catalog, "FOLDER", folder)
    monkeypatch.setattr("promptzoo.networks.public.loading.build", lambda weights, empty: torch.nn.Linear(2, 3))
    return file


def test_list_tells_licence_size_and_state(run, place):
    told = run("weights", "list").output
    assert "medsam" in told and "CC-BY-4.0" in told and "375" in told and "missing" in told and str(place) in told
    (place / "mobile_sam.pt").write_bytes(b"half of it")
    records = {r["name"]: r for r in json.loads(run("weights", "list", "--json").stdout)}
    assert records["mobile-sam"]["state"] == "damaged" and records["sam-vit-b"]["state"] == "missing"
    assert records["sam-med2d"]["sha256"] is None and "Unknown" in records["sam-med2d"]["hash_note"]
    assert records["medsam"]["place"] == str(place / "medsam_vit_b.pth")


def test_a_file_fetched_elsewhere_is_taken_over_and_verified(run, place, small):
    told = run("weights", "get", "small", "--from", small)
    assert told.stdout.strip() == str(place / "small.pth") and LITE["licence"] in told.output
    assert "small: ok" in run("weights", "verify").output
    record = json.loads(run("weights", "verify", "small", "--json").stdout)[0]
    assert record["ok"] and record["tensors"] == 2 and len(record["sha256"]) == 64
    assert "is there already" in run("weights", "get", "small").output
    (place / "small.pth").write_bytes(small.read_bytes()[::-1])
    assert "sha256" in run("weights", "verify", "small", code=1).output
    assert "damaged" in run("weights", "list").output


def test_a_file_of_other_tensors_is_refused(run, place, small, monkeypatch):
    (place / "small.pth").write_bytes(small.read_bytes())
    monkeypatch.setattr("promptzoo.networks.public.loading.build", lambda weights, empty: torch.nn.Linear(4, 3))
    assert "of another shape" in run("weights", "verify", "small", code=1).output


def test_what_cannot_be_got_is_said(run, place, small):
    assert "put it at" in run("weights", "get", "small", code=4).output
    assert "promptzoo weights verify small" in run("weights", "verify", "small", code=4).output
    assert "medsam" not in run("weights", "verify").output and "public weights" in run("weights", "verify").output
    assert "nowhere" in run("weights", "get", "small", "--from", "nowhere.pth", code=4).output


def test_segment_and_bench_say_which_weights_are_missing(run, place, picture_file):
    told = run("segment", picture_file, "--weights", "medsam", "--box", "4,4,20,20", code=4).output
    assert "promptzoo weights get medsam" in told
    assert "medsam" in run("segment", picture_file, "--weights", "medsm", "--box", "4,4,20,20", code=4).output
    assert "--bundle" in run("bench", "list.csv", code=2).output
    told = run("bench", "list.csv", "--bundle", "sam_box_finetune", "--weights", "medsam", code=2).output
    assert "public weights alone" in told


def test_segment_uses_public_weights(run, place, small, predictor, picture_file, monkeypatch, labels_of):
    """From the command to the mask file, with the record of which weights answered."""
    (place / "small.pth").write_bytes(small.read_bytes())
    asked = []
    monkeypatch.setattr("promptzoo.inference.public_sam.load_public_predictor",
                        lambda *arguments: asked.append(arguments[:3]) or predictor)
    told = json.loads(run("segment", picture_file, "--weights", "small", "--box", "4,4,20,20", "--out", "mask.nii.gz",
                          "--engine", "torch", "--json").stdout)
    assert asked == [("small", "torch", "auto")] and labels_of("mask.nii.gz").sum() == 256
    assert told["bundle"]["name"] == "small" and told["bundle"]["version"] == "public"
    assert told["bundle"]["weights"]["sha256"] == hashlib.sha256(small.read_bytes()).hexdigest()
    kept = json.loads(Path("mask.json").read_text())
    assert kept["not_for"] == LITE["not_for"]
    assert "point" in run("segment", picture_file, "--weights", "small", "--point", "4,4", code=2).output
