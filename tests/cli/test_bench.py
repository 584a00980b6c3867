"""``promptzoo bench`` with a fake predictor on a tiny datalist."""
import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest


@pytest.fixture
def datalist(tmp_path, volume_file):
    """Three objects of a volume (one is tiny, one of another modality), a 2D row, and one that is no segmentation."""
    labels = np.zeros((40, 36, 20), np.uint8)
    labels[4:16, 4:14, 3:9], labels[25:33, 20:30, 10:16], labels[0, 0, 0] = 1, 2, 3
    affine = nibabel.load(volume_file).affine
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels[..., 4:5], affine), tmp_path / "slice_labels.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(nibabel.load(volume_file).dataobj)[..., 4:5], affine),
                 tmp_path / "slice.nii.gz")
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["id", "task", "image", "mask", "label_value", "modality", "note"])
        rows.writerow(["one", "seg3d", "scan.nii.gz", "labels.nii.gz", 1, "CT", ""])
        rows.writerow(["two", "seg3d", "scan.nii.gz", "labels.nii.gz", 2, "MR", ""])
        rows.writerow(["tiny", "seg3d", "scan.nii.gz", "labels.nii.gz", 3, "CT", ""])
        rows.writerow(["flat", "seg2d", "slice.nii.gz", "slice_labels.nii.gz", 1, "CT", ""])
        rows.writerow(["other", "cls", "scan.nii.gz", "", "", "CT", ""])
    return path


@pytest.fixture(autouse=True)
def _fakes(bundles, predictor):
    """Every test here has the fake bundles and the fake predictor."""


def bench(run, datalist, *arguments, code=0):
    """Run the bench on the 3D bundle, return its results file."""
    run("bench", datalist, "--bundle", "solid_3d", "--out", "r/results.json", *arguments, code=code)
    return json.loads(Path("r/results.json").read_text())


def test_results_file(run, datalist, tmp_path):
    results = bench(run, datalist, "--protocol", "box+clicks", "--clicks", "2", "--baseline", "ellipse,rectangle")
    for key in ("bundle", "engine", "protocol", "cases", "summary", "baselines", "command", "versions"):
        assert key in results, key
    assert results["protocol"] == "box+clicks" and results["engine"] == "fake fp32" and results["variant"] is None
    assert [case["id"] for case in results["cases"]] == ["one", "two"]
    case = results["cases"][0]
    assert case["steps"] == ["box", "click 1", "click 2"] and case["dice"][0] == 1.0
    assert len(case["nsd"]) == len(case["seconds"]) == 3
    assert {"dice", "noc90", "dsc_auc", "nsd_auc", "by_modality"} <= set(results["summary"])
    assert set(results["summary"]["by_modality"]) == {"CT", "MR"}
    assert set(results["baselines"]) == {"ellipse", "rectangle"}
    assert results["baselines"]["rectangle"]["summary"]["dice"][0] == 1.0
    assert results["excluded"]["n"] == 1 and results["datalist"]["ignored"] == {"cls": 1}
    assert results["command"].startswith("promptzoo bench ") and "--protocol box+clicks" in results["command"]
    assert results["bundle_version"] == "0.1.0"


def test_table_and_json(run, datalist):
    said = run("bench", datalist, "--bundle", "solid_3d", "--protocol", "box", "--baseline", "ellipse").stdout
    for text in ("Dice box", "CT", "MR", "all, ellipse", "NoC90", "2 cases, 1 apart", "estimated Dice"):
        assert text in said, text
    short = json.loads(run("bench", datalist, "--bundle", "solid_3d", "--protocol", "box", "--json").stdout)
    assert "cases" not in short and short["summary"]["n"] == 2


def test_a_further_column_is_summarised_apart(run, datalist):
    text = datalist.read_text().replace("2,MR,", "2,MR,from afar").replace("1,CT,", "1,CT,from here")
    datalist.write_text(text)
    groups = bench(run, datalist, "--protocol", "box", "--by", "note")["groups"]
    assert {name: block["n"] for name, block in groups.items()} == {"from afar": 1, "from here": 1}
    assert "from afar" in run("bench", datalist, "--bundle", "solid_3d", "--protocol", "box", "--by", "note").stdout
    said = run("bench", datalist, "--bundle", "solid_3d", "--by", "weather", code=2).stderr
    assert "column to summarise by" in said and "note" in said


def test_long_protocols_show_the_reported_clicks(run, datalist):
    said = run("bench", datalist, "--bundle", "solid_3d", "--clicks", "10", "--limit", "1").stdout
    assert "Dice click 5" in said and "Dice click 4" not in said


def test_2d_bundles_measure_the_largest_slice_or_go_slice_by_slice(run, datalist):
    result = json.loads(run("bench", datalist, "--bundle", "flat_2d", "--protocol", "box", "--json").stdout)
    assert result["datalist"]["slices"] == "largest" and result["summary"]["n"] == 3
    carried = json.loads(run("bench", datalist, "--bundle", "flat_2d", "--protocol", "box", "--slice-wise",
                             "--json").stdout)
    assert carried["bundle"] == "fake (slice-wise)" and carried["summary"]["n"] == 2
    said = run("bench", datalist, "--bundle", "solid_3d", "--slice-wise", code=2).stderr
    assert "slice-wise use of solid_3d" in said


def test_filters(run, datalist):
    def measured(*arguments):
        results = bench(run, datalist, "--protocol", "box", *arguments)
        return [case["id"] for case in results["cases"]]

    assert measured("--modality", "ct") == ["one"]
    assert measured("--match", "two") == ["two"]
    assert measured("--min-voxels", "0") == ["one", "two", "tiny"]
    assert measured("--task", "seg2d") == ["flat"]
    assert measured("--limit", "1", "--seed", "3") == measured("--limit", "1", "--seed", "3")
    assert bench(run, datalist, "--protocol", "box", "--measure-excluded")["excluded"]["cases"][0]["id"] == "tiny"


def test_robustness(run, datalist):
    results = bench(run, datalist, "--protocol", "box", "--robustness", "--limit", "1")
    assert {"curves", "monotonicity", "negative_click", "two_objects"} <= set(results["robustness"])


def test_a_failing_case_is_told_and_no_case_is_an_error(run, datalist, predictor, monkeypatch):
    def broken(state, prompts, previous=None):
        raise ValueError("made for the test")

    monkeypatch.setattr(predictor, "decode", broken)
    result = run("bench", datalist, "--bundle", "solid_3d", "--protocol", "box", "--out", "r.json", code=1)
    assert "2 of 2 cases failed" in result.stderr and "made for the test" in result.stderr
    assert len(json.loads(Path("r.json").read_text())["errors"]) == 2


@pytest.mark.parametrize("arguments, code, message", [
    (["--protocol", "guess"], 2, "protocol: got guess"),
    (["--bundle", "nope"], 4, "bundle: got nope"),
    (["--variant", "nope"], 4, "variant of bundle solid_3d"),
    (["--baseline", "magic"], 4, "baseline: got magic"),
    (["--slices", "some"], 2, "slices option"),
    (["--max-components", "-1"], 2, "0 or more"),
    (["--clicks", "0"], 2, "number of clicks"),
    (["--modality", "US"], 2, "without a segmentation row"),
])
def test_errors(run, datalist, arguments, code, message):
    result = run("bench", datalist, "--bundle", "solid_3d", *arguments, code=code)
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_missing_datalist(run):
    assert "datalist" in run("bench", "nowhere.csv", "--bundle", "solid_3d", code=4).stderr
