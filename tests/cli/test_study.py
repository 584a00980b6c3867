"""``promptzoo study`` with a fake predictor on a tiny datalist."""
import json
from pathlib import Path

import numpy as np
import pytest

from .test_bench import datalist  # noqa: F401

GRID = {"study": {"conditions": [{"kind": "points", "count": [1, 3]}, {"kind": "box", "enlarge": [0, 0.2]},
                                 {"kind": "box", "shift": 0.2}], "min_cases": 2}}


@pytest.fixture(autouse=True)
def _fakes(bundles, predictor):
    """Every test here has the fake bundles and the fake predictor."""


@pytest.fixture
def grid(tmp_path):
    """A small grid."""
    (tmp_path / "grid.json").write_text(json.dumps(GRID))
    return tmp_path / "grid.json"


def test_all_files_are_written_and_a_repeated_run_says_the_same(run, datalist, grid):  # noqa: F811
    said = run("study", datalist, "--bundle", "solid_3d", "--grid", grid, "--out", "a").stdout
    assert "box +20%" in said and "all: begin with box, Dice 1.00 on 2 objects" in said
    assert "CT: too few cases: 1, at least 2 are needed" in said
    assert {f.name for f in Path("a").iterdir()} == {
        "study.json", "records.json", "study.md", "advice.json", "advice.md", "dice_clicks.png", "dice_box_noise.png"}
    study, advice = (json.loads(Path("a", name).read_text()) for name in ("study.json", "advice.json"))
    assert study["command"] == f"promptzoo study list.csv --bundle solid_3d --grid {grid} --out a"
    assert study["bundle_version"] == "0.1.0" and study["variant"] is None and study["cases"] == 2
    assert set(study["summary"]["all"]) == set(study["conditions"]) and len(study["conditions"]) == 5
    assert advice["all"]["recommended"]["prompt"] == "box" and advice["all"]["if_wrong"]["box, shifted 20%"] > 0.1
    run("study", datalist, "--bundle", "solid_3d", "--grid", grid, "--out", "b")
    first, second = (json.loads(Path(place, "records.json").read_text()) for place in "ab")
    assert [{**r, "seconds": 0} for r in first] == [{**r, "seconds": 0} for r in second] and len(first) == 10
    assert json.loads(Path("b", "advice.json").read_text())["all"] == advice["all"]


def test_the_grid_is_the_bundles_or_the_variants(run, datalist, bundles):  # noqa: F811
    (bundles / "solid_3d" / "configs" / "study.json").write_text(json.dumps(GRID))

    def conditions(*more):
        told = json.loads(run("study", datalist, "--bundle", "solid_3d", "--json", *more).stdout)
        assert "records" not in told
        return list(told["conditions"])

    assert conditions() == ["1 point centre", "3 points centre", "box", "box +20%", "box, shifted 20%"]
    overlay = bundles / "solid_3d" / "configs" / "variants" / "pe-med.json"
    overlay.write_text(json.dumps({"study": {"note": "one box", "conditions": [{"kind": "box"}]}}))
    assert conditions("--variant", "pe-med") == ["box"]
    told = json.loads(run("study", datalist, "--bundle", "flat_2d", "--limit", "1", "--json").stdout)
    assert "3 points random" in told["conditions"] and told["left_out"] == ["everything"]
    assert told["cases"] == 1 and told["advice"]["all"]["reason"].startswith("too few cases: 1")


def test_failing_cases_are_told(run, datalist, grid, predictor, monkeypatch):  # noqa: F811
    decode, calls = predictor.decode, []

    def sometimes(state, prompts, previous=None):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("made for the test")
        return decode(state, prompts, previous)

    monkeypatch.setattr(predictor, "decode", sometimes)
    result = run("study", datalist, "--bundle", "solid_3d", "--grid", grid)
    assert "1 objects failed" in result.stderr and "made for the test" in result.stderr
    monkeypatch.setattr(predictor, "decode", lambda *rest: np.nothing)
    assert "no case was measured" in run("study", datalist, "--bundle", "solid_3d", "--grid", grid, code=1).stderr


@pytest.mark.parametrize("text, message", [
    ('{"study": {"conditions": [{"kind": "guess"}]}}', "kind of a study condition"),
    ('{"study": {"conditons": []}}', "study of grid.json"),
    ('{"study": {"conditions": [{"kind": "box"}], "everything": {"dots": 3}}}', "settings of everything"),
    ("[]", "JSON file"),
])
def test_grids_that_cannot_be(run, datalist, grid, text, message):  # noqa: F811
    grid.write_text(text)
    result = run("study", datalist, "--bundle", "solid_3d", "--grid", grid, code=5 if text == "[]" else 2)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_options_that_cannot_be(run, datalist):  # noqa: F811
    assert "0 or more" in run("study", datalist, "--bundle", "solid_3d", "--seed", "-1", code=2).stderr
    assert "grid" in run("study", datalist, "--bundle", "solid_3d", "--grid", "no.json", code=4).stderr
    assert "limit" in run("study", datalist, "--bundle", "solid_3d", "--limit", "0", code=2).stderr
