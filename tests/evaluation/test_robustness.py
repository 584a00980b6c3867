"""Robustness measurements on predictors whose answer is known."""
import json

import numpy as np
import pytest

from promptzoo.core.protocols import Prediction
from promptzoo.evaluation import robustness
from promptzoo.evaluation.datalist import Datalist


def test_monotonicity_by_hand():
    steps = ["box", "click 1", "click 2", "click 3"]
    block = robustness.monotonicity([{"steps": steps, "dice": [0.5, 0.6, 0.57, 0.56]},
                                     {"steps": steps, "dice": [0.9, 0.88, 0.95, 0.95]}])
    assert (block["steps"], block["drops"], block["passed"], block["worst"]) == (6, 1, False, -0.03)
    assert robustness.monotonicity([{"steps": ["click 1"], "dice": [0.5]}])["share"] is None


def test_off_centre_clicks_stay_inside(make_case):
    case = make_case()
    rng = np.random.default_rng(1)
    assert robustness.off_centre_click(case.mask, (1, 1, 1), 0.0, rng) == (22, 19, 0)
    for level in (0.5, 1.0):
        place = robustness.off_centre_click(case.mask, (1, 1, 1), level, rng)
        assert case.mask[place] and place != (22, 19, 0)


def test_disturbed_masks(make_case):
    mask = make_case().mask
    found = dict(robustness.disturbed_masks(mask, 0.2, np.random.default_rng(0)))
    assert not (found["eroded"] & ~mask).any() and found["eroded"].sum() < mask.sum()
    assert not (mask & ~found["dilated"]).any() and found["dilated"].shape == mask.shape
    assert abs(int(found["shifted"].sum()) - int(mask.sum())) < 20 and (found["shifted"] ^ mask).any()
    one = np.zeros((5, 5, 5), bool)
    one[2, 2, 2] = True
    assert all(m.any() for _, m in robustness.disturbed_masks(one, 0.2, np.random.default_rng(0)))


@pytest.fixture
def listed(folder):
    text = (folder / "list.csv").read_text()
    text += "twin,seg2d,square.png,round_mask.png,255,MR\n"  # two objects on one image
    (folder / "list.csv").write_text(text)
    listed = Datalist.read(folder / "list.csv", match="square", max_components=3)
    for row in listed.rows:  # the oracle reads the truth from the image
        image = listed._images(row.image)
        image.data[:] = listed._mask(listed.rows[0])[0] | listed._mask(listed.rows[1])[0]
    return listed


def test_block(listed, oracle):
    block = robustness.run_robustness(listed, oracle(reach=9), clicks=3, seed=1)
    assert block["n"] == 2 and block["errors"] == []
    assert block["curves"]["box_eroded"]["0.2"] < block["curves"]["box_eroded"]["0.0"]
    assert set(block["curves"]) >= {"box_shifted", "box_enlarged", "click_off_centre", "previous_eroded"}
    assert block["negative_click"]["on_mask"] == {"n": 2, "removed": 1.0}
    assert block["two_objects"]["n"] == 1 and block["two_objects"]["passed"] == 1
    assert block["monotonicity"]["steps"] == 4
    again = robustness.run_robustness(listed, oracle(reach=9), clicks=3, seed=1)
    assert json.dumps(block) == json.dumps(again)


def test_faults_are_seen(listed, oracle):
    class Deaf(oracle):
        """Ignores negative clicks and answers only one object."""

        def decode(self, state, prompts, previous=None):
            kept = type(prompts)(tuple(p for p in prompts.prompts if getattr(p, "positive", True)), prompts.objects)
            answer = super().decode(state, kept, previous)
            return Prediction(answer.grid, answer.objects[:1])

    block = robustness.run_robustness(listed, Deaf(reach=9, kinds=frozenset({"point"})), clicks=2)
    assert block["negative_click"]["on_mask"]["removed"] == 0.0
    assert block["two_objects"] == {**block["two_objects"], "n": 1, "passed": 0}
    assert not any(name.startswith(("box", "previous")) for name in block["curves"])


def test_broken_predictor_is_reported(listed, oracle):
    block = robustness.run_robustness(listed, oracle(fail_on=1.0), clicks=2)
    assert block["n"] == 0 and {e["kind"] for e in block["errors"]} == {"RuntimeError"}
