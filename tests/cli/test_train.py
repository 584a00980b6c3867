"""``promptzoo train`` and ``promptzoo versions``."""
import json

import pytest

from promptzoo.core.bundles import get_shipped
from promptzoo.core.versions import Versions


@pytest.fixture
def versions(bundles, tmp_path, monkeypatch):
    """Versions of a fake bundle, with one that is in use."""
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(tmp_path / "versions"))
    found = Versions(get_shipped("solid_3d"))
    weights = tmp_path / "fresh.pt"
    weights.write_bytes(b"trained")
    number = found.add(weights, {"cases": ["a", "b"], "before": {"score": 0.5}, "after": {"score": 0.7}})
    found.use(number)
    return found


def test_versions_are_listed_used_and_taken_back(run, versions):
    rows = json.loads(run("versions", "list", "--json").stdout)
    assert [(row["number"], row["in_use"], row["cases"], row["after"]) for row in rows] == [
        (0, False, 0, None), (1, True, 2, 0.7)]
    assert "0.1.0 is in use" in run("versions", "rollback", "solid_3d").stderr and versions.current == 0
    assert "0.1.0+1 is in use" in run("versions", "use", "solid_3d", 1).stderr and versions.current == 1
    assert "got 5; allowed: 0, 1" in run("versions", "use", "solid_3d", 5, code=4).stderr
    assert "+1" in run("bundles").stdout


def test_nothing_trained_yet(run, bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(tmp_path / "versions"))
    assert "all are as they came" in run("versions", "list").stderr


@pytest.mark.parametrize("accepted, words", [(True, "version 1 is in use"), (False, "stays as it was")])
def test_train_tells_before_and_after(run, bundles, tmp_path, monkeypatch, accepted, words):
    from promptzoo.training import corrections, finetune

    told = {"first": 0.5, "steps": [0.6, 0.7], "score": 0.6}
    seen = []

    def train(bundle, cases, settings, report):
        seen.append((bundle.name, cases, settings.iterations))
        report({"state": "training", "iteration": 1, "of": 2})
        return {"accepted": accepted, "version": 1 if accepted else None, "gain": 0.1, "before": told, "after": told}

    monkeypatch.setattr(finetune, "finetune", train)
    monkeypatch.setattr(corrections, "from_datalist", lambda path, match: [str(path), match])
    result = run("train", "solid_3d", "list.csv", "--iterations", 7)
    assert words in result.stderr and "first prompts of people" in result.stdout and "step 2" in result.stdout
    assert seen == [("solid_3d", ["list.csv", None], 7)]
    told = json.loads(run("train", "solid_3d", "list.csv", "--match", "x", "-o", tmp_path / "t.json", "--json").stdout)
    assert told["accepted"] is accepted and told == json.loads((tmp_path / "t.json").read_text())
