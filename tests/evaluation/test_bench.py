"""The results file: keys, exclusion, errors, processes."""
import json
from functools import partial

import numpy as np
import pytest

from promptzoo.core.errors import NotFoundError, PromptZooError
from promptzoo.evaluation.baselines import make_baseline
from promptzoo.evaluation.bench import run_bench, write_results
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.summary import summarise

KEYS = {"bundle", "engine", "protocol", "cases", "summary", "baselines", "command", "versions"}
"""The shape that the issue fixes; more keys may stand beside them."""


@pytest.fixture
def listed(folder):
    return Datalist.read(folder / "list.csv", max_components=3)


def test_results_shape(listed, oracle, tmp_path):
    heard = []
    results = run_bench(listed, oracle(), "box+clicks", 5, baselines=["ellipse"], command="here",
                        progress=lambda done, total, name: heard.append((done, total, name)))
    assert KEYS <= set(results)
    assert (results["bundle"], results["engine"], results["protocol"], results["command"]) == (
        "oracle", "oracle", "box+clicks", "here")
    assert [c["id"] for c in results["cases"]] == ["round", "square"]
    for case in results["cases"]:
        assert {"id", "modality", "dice", "nsd", "seconds"} <= set(case)
        assert len(case["dice"]) == len(case["nsd"]) == len(case["seconds"]) == 6
    summary = results["summary"]
    assert len(summary["dice"]) == 6 and set(summary["by_modality"]) == {"CT", "MR"}
    assert {"dice", "noc90", "dsc_auc", "nsd_auc", "by_modality"} <= set(summary)
    assert set(results["baselines"]) == {"ellipse"} and results["baselines"]["ellipse"]["summary"]["n"] == 2
    assert {"torch", "numpy", "promptzoo", "python"} <= set(results["versions"])
    assert {"cpu", "cores", "peak_rss_mb"} <= set(results["hardware"])
    assert heard[-1][:2] == (3, 3)
    back = json.loads(write_results(tmp_path / "out" / "results.json", results).read_text())
    assert back == json.loads(json.dumps(results))


def test_errors_and_exclusions_are_kept_apart(listed, oracle):
    results = run_bench(listed, oracle(), "clicks", 2)
    assert [(e["id"], e["kind"]) for e in results["errors"]] == [("lost", "NotFoundError")]
    assert results["excluded"]["n"] == 3
    assert {(e["id"], e["reason"]) for e in results["excluded"]["rows"]} == {
        ("tiny", "9 voxels"), ("parts", "5 components"), ("empty", "0 voxels")}
    assert results["excluded"]["summary"] is None and results["datalist"]["ignored"] == {"cls": 1, "det": 1}
    failing = run_bench(listed, oracle(fail_on=220.0), "clicks", 2)
    assert failing["cases"] == [] and failing["summary"]["n"] == 0 and len(failing["errors"]) == 3


def test_excluded_rows_can_be_measured_apart(listed, oracle):
    results = run_bench(listed, oracle(), "clicks", 2, measure_excluded=True)
    assert {c["id"] for c in results["excluded"]["cases"]} == {"tiny", "parts"}
    assert results["excluded"]["summary"]["n"] == 2 and results["summary"]["n"] == 2


def test_processes_give_the_same_numbers(listed):
    make = partial(make_baseline, "ellipse")
    one, two = (run_bench(listed, make, "box", jobs=jobs, baselines=["rectangle"]) for jobs in (1, 2))
    assert one["bundle"] == two["bundle"] == "ellipse"
    for a, b in ((one, two), (one["baselines"]["rectangle"], two["baselines"]["rectangle"])):
        first, second = ([(c["id"], c["dice"], c["nsd"]) for c in results["cases"]] for results in (a, b))
        assert first == second and len(first) == 2
    with pytest.raises(PromptZooError, match="bench with 2 jobs"):
        run_bench(listed, make(), "box", jobs=2)


def test_limit_and_path(folder, oracle):
    results = run_bench(folder / "list.csv", oracle(), "box", limit=1, seed=3)
    assert results["datalist"]["measured"] == 1 and results["seed"] == 3


@pytest.mark.parametrize("change, error, message", [
    ({"protocol": "guess"}, PromptZooError, "protocol"), ({"baselines": ["grabcut"]}, NotFoundError, "baseline"),
    ({"clicks": 0}, PromptZooError, "number of clicks"), ({"box_style": "loose"}, PromptZooError, "box style"),
    ({"jobs": 0}, PromptZooError, "jobs and limit"), ({"limit": 0}, PromptZooError, "jobs and limit")])
def test_refusals(change, error, message, listed, oracle):
    with pytest.raises(error, match=message):
        run_bench(listed, oracle(), **{"protocol": "clicks", **change})


def test_summary_by_hand():
    def record(dice, modality):
        return {"modality": modality, "steps": ["box"] + [f"click {n}" for n in range(1, 6)], "dice": dice,
                "nsd": [0.5] * 6, "seconds": [0.1] * 6}

    summary = summarise([record([0.2, 0.4, 0.6, 0.8, 0.92, 0.95], "CT"), record([0.95] + [1.0] * 5, "MR"),
                         record([0.0] * 6, "CT")])
    assert summary["dice"] == [pytest.approx(v, abs=1e-4) for v in np.mean(
        [[0.2, 0.4, 0.6, 0.8, 0.92, 0.95], [0.95] + [1.0] * 5, [0.0] * 6], axis=0)]
    assert summary["noc90"] == pytest.approx((4 + 0 + 6) / 3, abs=1e-4) and summary["noc90_unreached"] == 1
    assert summary["dsc_auc"] == pytest.approx((0.2 + 0.6 + 0.8 + 0.92 + 0.475 + 4.0) / 3, abs=1e-3)
    assert summary["nsd_auc"] == 2.0
    assert summary["by_modality"]["MR"]["n"] == 1 and summary["by_modality"]["MR"]["dsc_auc"] == 4.0
    assert summarise([])["by_modality"] == {}
