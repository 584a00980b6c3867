"""A study's folder becomes the docs of a bundle."""
import json

import pytest

from promptzoo.cli.maintain.study_docs import write_docs
from promptzoo.core.bundles import BundleInfo
from promptzoo.core.errors import BundleError

BLOCK = {"n": 6, "clicks": 2, "dice": {"answer": 0.7, "predicted": 0.72, "oracle": 0.8, "mean": 0.7, "worst": 0.5},
         "band": [0.6, 0.8], "nsd": 0.4, "boundary_mm": 2.5, "failures": {"miss": 0.1}, "seconds": 0.02}
ENTRY = {"n": 6, "recommended": {"condition": "box", "dice": 0.7, "n": 6}}


@pytest.fixture
def folder(tmp_path):
    """What ``promptzoo study`` writes."""
    place = tmp_path / "study"
    place.mkdir()
    summary = {"all": {"box": BLOCK}, "modality": {"CT": {"box": BLOCK}}, "organ": {"liver": {"box": BLOCK}}}
    study = {"bundle": "x", "command": "promptzoo study /secret/list.csv", "cases": 6, "excluded": [], "errors": [],
             "left_out": [], "conditions": {}, "summary": summary, "hardware": {"cores": 2},
             "versions": {"python": "3"}}
    few = {"n": 2, "reason": "too few cases: 2, at least 5 are needed"}
    (place / "study.json").write_text(json.dumps(study))
    (place / "advice.json").write_text(json.dumps({"command": "c", "all": ENTRY, "modality": {"CT": few}, "organ": {}}))
    (place / "advice.md").write_text("cards")
    return place


def test_docs_are_written_under_the_command_that_repeats_them(tmp_path, folder):
    info = BundleInfo("b", tmp_path / "b", {})
    docs = info.path / "docs"
    docs.mkdir(parents=True)
    (docs / "README.md").write_text("# B\n## Measured\nold\n## Limits\nmany\n")
    (docs / "results.json").write_text('{"clicks": {"command": "c", "n": 1}}')
    write_docs(info, folder, "promptzoo study list.csv")
    results = json.loads((docs / "results.json").read_text())
    assert set(results) == {"clicks", "prompt study"}
    assert results["prompt study"]["command"] == "promptzoo study list.csv"
    assert results["prompt study"]["modalities"] == {"CT": {"n": 6, "dice": {"box": 0.7}}}
    readme = (docs / "README.md").read_text()
    assert "old" not in readme and readme.endswith("## Limits\nmany\n") and "| box | 2 | 0.700 |" in readme
    assert "the choice loses 0.08" in readme and "CT: too few cases: 2" in readme
    assert "all objects: begin with box, Dice 0.70 on 6 objects" in readme
    assert json.loads((docs / "advice.json").read_text())["command"] == "promptzoo study list.csv"
    assert not any("/secret" in file.read_text() for file in docs.iterdir())
    (docs / "README.md").write_text("# B\n")
    with pytest.raises(BundleError, match="no section Measured"):
        write_docs(info, folder, "c")
