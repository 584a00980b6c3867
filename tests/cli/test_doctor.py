"""``promptzoo doctor``: a plain verdict, and exit code 1 if something is wrong."""
import json

import numpy as np
import pytest

from promptzoo.cli.maintain.versions import content_digest
from promptzoo.core.protocols import ObjectPrediction, Prediction


class Threshold:
    """Segments what is bright: right on the doctor's phantom, wherever its axes point."""

    def encode(self, volume):
        """The volume itself."""
        return volume

    def decode(self, state, prompts, previous=None):
        """Everything above the middle."""
        answer = ObjectPrediction(1, state.grid, (0, 0, 0), self.answer(state))
        return Prediction(state.grid, (answer,), 0.01, "fake fp32")

    def answer(self, volume):
        """Probability of the one object."""
        return (volume.data > 105).astype(np.float32)


class Upright(Threshold):
    """Forgets the orientation: adds a mark at the first voxel as stored."""

    def answer(self, volume):
        """The right answer and a mark."""
        result = super().answer(volume)
        result[:3, :3] = 1
        return result


class Blind(Threshold):
    """Finds nothing."""

    def answer(self, volume):
        """An empty answer."""
        return np.zeros(volume.grid.shape, np.float32)


@pytest.fixture
def examine(run, bundles, monkeypatch):
    """A function that lets the doctor look at an installation with the given predictor."""
    def examine_(predictor, *arguments, code=0):
        def load(*_, **__):
            if isinstance(predictor, Exception):
                raise predictor
            return predictor

        monkeypatch.setattr("promptzoo.inference.load_predictor", load)
        result = json.loads(run("doctor", "--json", *arguments, code=code).stdout)
        return result, {f["check"]: f for f in result["findings"]}

    return examine_


def test_all_is_well(examine, run):
    result, findings = examine(Threshold())
    assert result["ok"] and result["verdict"] == "promptzoo works here."
    assert {"cache folder", "engine torch", "engine openvino", "flat_2d: weights", "flat_2d: one prompt",
            "flat_2d: orientation", "solid_3d: orientation"} <= set(findings)
    assert "Dice" in findings["solid_3d: one prompt"]["detail"]
    assert {f["state"] for f in findings.values()} <= {"ok", "note"}
    assert run("doctor").stdout.splitlines()[-1] == "promptzoo works here."


def test_wrong_orientation_is_found(examine):
    result, findings = examine(Upright(), "--bundle", "solid_3d", code=1)
    turned = findings["solid_3d: orientation"]
    assert turned["state"] == "WRONG" and "LPS" in turned["detail"]
    assert not result["ok"] and "flat_2d: weights" not in findings


def test_a_blind_network_is_found(examine):
    result, findings = examine(Blind(), code=1)
    assert findings["flat_2d: one prompt"]["state"] == "WRONG" and "2 of" in result["verdict"]


def test_an_error_is_a_finding(examine):
    _, findings = examine(RuntimeError("engine is on fire"), code=1)
    assert findings["solid_3d: one prompt"]["detail"] == "RuntimeError: engine is on fire"


def test_weights_are_compared_with_what_was_released(examine, bundles):
    digest = content_digest(bundles / "solid_3d")
    changelog = bundles.parent / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## [0.1.0]\n- `solid_3d` 0.1.0, content `{digest}`\n")
    assert "as released" in examine(Threshold())[1]["solid_3d: weights"]["detail"]
    (bundles / "solid_3d" / "models" / "model.pt").write_bytes(b"other weights")
    assert "not what was released as 0.1.0" in examine(Threshold(), code=1)[1]["solid_3d: weights"]["detail"]


def test_missing_weights_bundles_and_cache(examine, make_bundle, monkeypatch, tmp_path, run):
    make_bundle("later_3d", 3, weights=False)
    make_bundle("texts_3d", 3, prompts=["text"])
    _, findings = examine(Threshold(), code=1)
    assert "missing" in findings["later_3d: weights"]["detail"]
    assert findings["texts_3d: one prompt"]["state"] == "note"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path / "file" / "below"))
    result, findings = examine(Threshold(), "--bundle", "nope", code=1)
    assert findings["cache folder"]["state"] == findings["bundles"]["state"] == "WRONG"
