"""scripts/bench_latency: what it calls, what it writes."""
import importlib.machinery
import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "bundles" / "interactive_refinement_2d"


@pytest.fixture(scope="module")
def bench():
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("bench_latency", str(ROOT / "scripts" / "bench_latency"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_latency", loader))
    loader.exec_module(module)
    return module


class FakePredictor:
    """Notes what it is asked; its network takes one array."""

    def __init__(self):
        self.calls = []
        self.segmenter = SimpleNamespace(network=lambda array: self.calls.append(("network", array.shape)))

    def encode(self, volume):
        self.calls.append(("encode", volume.data.shape))
        return volume

    def decode(self, state, prompts, previous=None):
        self.calls.append(("decode", len(prompts), previous is not None))
        self.segmenter.network(np.zeros((2, 3, 4, 4), np.float32))
        prompts.check_on(state.grid)
        return "answer"


@pytest.mark.parametrize("dimensions, shape", [(2, (512, 512, 1)), (3, (128, 128, 128))])
def test_measures_one_added_click(bench, monkeypatch, dimensions, shape):
    monkeypatch.setattr(bench, "WARM_UP", 1)
    predictor = FakePredictor()
    rows = bench.measure(predictor, dimensions, 3)
    many = ["100 boxes"] if dimensions == 2 else []
    assert [r["what"] for r in rows] == ["encode", "click", "network", *many]
    assert predictor.calls.count(("decode", 100, False)) == len(many) * (1 + 3)
    assert all(0 <= r["p50_ms"] <= r["p95_ms"] for r in rows)
    assert rows[2]["input"] == [[1, 3, 4, 4]]
    assert ("encode", shape) in predictor.calls
    assert predictor.calls.count(("decode", 2, True)) == 1 + 3 + 1, "warm-up, repetitions, and one to see the input"
    assert predictor.calls.count(("decode", 1, False)) == 1
    assert predictor.calls.count(("network", (1, 3, 4, 4))) == 1 + 3


def test_networks_that_encode_windows_have_a_row_for_it(bench, monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 0)
    predictor, seen = FakePredictor(), []
    predictor.segmenter.parts = SimpleNamespace(encode=lambda images: seen.append(images.shape))
    predictor.segmenter.settings = SimpleNamespace(window=64)
    rows = {r["what"]: r for r in bench.measure(predictor, 2, 2)}
    assert rows["window encoding"]["input"] == [[1, 1, 64, 64]] and seen == [(1, 1, 64, 64)] * 2


def test_predictors_without_a_network_part_have_fewer_rows(bench, monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 0)
    predictor = SimpleNamespace(encode=lambda volume: volume, decode=lambda *_: None)
    assert [r["what"] for r in bench.measure(predictor, 2, 1)] == ["encode", "click", "100 boxes"]


def test_words_are_asked_one_after_the_other(bench, monkeypatch):
    monkeypatch.setattr(bench, "WARM_UP", 0)
    predictor = FakePredictor()
    asked = []
    predictor.decode = lambda state, prompts: asked.append(prompts.prompts[0].text)
    rows = bench.measure_words(predictor, 3, ["liver", "spleen"], 3)
    assert [r["what"] for r in rows] == ["encode", "text", "image and text"]
    assert asked == ["liver", "spleen", "liver"] * 2
    assert set(predictor.calls) == {("encode", (96, 96, 96))} and len(predictor.calls) == 1 + 3 + 3


def test_usage_errors(bench, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.parse(["--n", "0"])
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(tmp_path))
    assert bench.main([]) == 1
    assert "No bundle with weights" in capsys.readouterr().err


def test_writes_rows_and_failures(bench, tmp_path, capsys):
    if not (SOURCE / "configs" / "inference.json").is_file():
        pytest.skip("the bundle interactive_refinement_2d is not here")
    bundle = tmp_path / "tiny"
    shutil.copytree(SOURCE, bundle, ignore=shutil.ignore_patterns("models", "docs"))
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    small = {"spatial_dims": 2, "channels": [8, 16], "full_channels": 8}
    config["network_def"] = {"_target_": "promptzoo.networks.interactive_unet.InteractiveUNet", **small}
    config["inferer"]["settings"] = {"window": 32}
    file.write_text(json.dumps(config))
    from promptzoo.networks.interactive_unet import InteractiveUNet

    (bundle / "models").mkdir()
    torch.save(InteractiveUNet(**small).state_dict(), bundle / "models" / "model.pt")
    out = tmp_path / "new" / "bench.json"
    arguments = ["--bundles", str(bundle), "absent", "--engines", "torch", "--n", "2", "--out", str(out)]
    assert bench.main(arguments) == 1, "the absent bundle is a failure"
    document = json.loads(out.read_text())
    assert [r["what"] for r in document["rows"]] == ["encode", "click", "network", "100 boxes"]
    for row in document["rows"]:
        assert (row["bundle"], row["engine"], row["precision"]) == ("tiny", "torch", "fp32")
        assert row["p95_ms"] >= row["p50_ms"] > 0 and row["peak_rss_mb"] > 100
    assert document["failures"][0]["bundle"] == "absent" and "NotFoundError" in document["failures"][0]["error"]
    assert document["command"].startswith("scripts/bench_latency --bundles")
    assert document["hardware"]["cores"] >= 1 and document["versions"]["torch"]
    assert "tiny" in capsys.readouterr().out
