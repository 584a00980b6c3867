"""The study of prompts on a predictor that knows the truth and offers three candidates of known quality."""
import json
from collections import namedtuple

import numpy as np
import pytest

from promptzoo.core.errors import PromptZooError
from promptzoo.core.protocols import ObjectPrediction
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.study import CHOICES, Study, run_study
from promptzoo.evaluation.study_grid import DEFAULT_GRID, Condition, draw_of, expand
from promptzoo.evaluation.study_prompts import largest_parts, outside, simulate, spread_centres
from promptzoo.evaluation.study_report import cards, plots, report, table
from promptzoo.evaluation.study_summary import advise, band, summarise_study

Offer = namedtuple("Offer", "answer candidates")


@pytest.fixture
def offering(oracle):
    """The oracle with three candidates: half of its answer, the answer, and everything; predicted in this order."""

    class Offering(oracle):
        """See the fixture."""

        best = 1

        def offer(self, state, prompts):
            """The answer and three masks."""
            answer = self.decode(state, prompts).objects[0]
            mask = answer.mask
            half = mask.copy()
            half[:mask.shape[0] // 2] = False
            ious = np.where(np.arange(3) == self.best, 0.9, 0.3)
            masks = zip((half, mask, np.ones_like(mask)), ious)
            return Offer(answer, [ObjectPrediction(1, state.grid, (0, 0, 0), m.astype(np.float32), 0.5,
                                                   info={"predicted_iou": iou}) for m, iou in masks])

        def everything(self, state, settings=None):
            """The truth and a corner, which is predicted better but holds no click."""
            truth, corner = state.data > 0.5, np.zeros(state.grid.shape, bool)
            corner[:3, :3] = True
            return [ObjectPrediction(n, state.grid, (0, 0, 0), m.astype(np.float32), 0.5, info={"predicted_iou": iou})
                    for n, (m, iou) in enumerate(((corner, 0.9), (truth, 0.4)), 1)]

    return Offering


def records_of(predictor, case, *entries, seed=0):
    """Records by condition."""
    return {r["condition"]: r for r in Study(predictor, expand(entries), seed).run(case)}


def test_lists_are_multiplied_out_and_names_are_unique():
    found = expand([{"kind": "points", "count": [1, 3], "place": ["centre", "random"]}, {"kind": "box"},
                    {"kind": "box", "enlarge": [0, 0.1]}])
    assert [c.name for c in found] == ["1 point centre", "1 point random", "3 points centre", "3 points random", "box",
                                       "box +10%"]
    default = expand(DEFAULT_GRID)
    assert len({c.name for c in default}) == len(default) == 31


@pytest.mark.parametrize("wrong, message", [
    ([], "grid of a study"), ([{"count": 1}], "condition of a study"), ([{"kind": "box", "sise": 1}], "condition of"),
    ([{"kind": "guess"}], "kind of a study condition"), ([{"kind": "points"}], "numbers of a study condition"),
    ([{"kind": "points", "count": "many"}], "count of a study condition"),
    ([{"kind": "points", "count": 1, "place": "sky"}], "place of points"), ([{"kind": "box", "shift": -1}], "numbers"),
    ([{"kind": "mask", "damage": "burnt"}], "damage of a mask"),
])
def test_grids_that_cannot_be(wrong, message):
    with pytest.raises(PromptZooError, match=message):
        expand(wrong)


def test_costs():
    cost = {c.name: c.clicks for c in expand([
        {"kind": "points", "count": 3, "negative": 2}, {"kind": "box"}, {"kind": "box+points", "count": 3},
        {"kind": "mask"}, {"kind": "everything"}, {"kind": "box", "parts": 3},
        {"kind": "points", "count": 1, "parts": 3}])}
    assert list(cost.values()) == [5, 2, 5, None, 1, 6, 3]


def test_points_lie_where_they_should(make_case):
    case = make_case(shape=(60, 50, 1), center=(30, 25, 0), radii=(20, 12, 1))
    spacing, rng = case.grid.spacing_mm, draw_of(0, "x", Condition("box"))
    first, *others = spread_centres(case.mask, spacing, 4)
    assert np.abs(np.array(first) - (30, 25, 0)).max() <= 1
    assert all(case.mask[p] for p in others) and len({first, *others}) == 4
    assert min(np.linalg.norm(np.subtract(first, p)) for p in others) > 5
    border = simulate(Condition("points", 8, "border"), case.mask, case.grid, rng)[0]
    spread = [np.linalg.norm((np.array(p.position) - (30, 25, 0))[:2] / (20, 12)) for p in border]
    assert min(spread) > 0.8 and all(p.positive for p in border)
    wrong = outside(case.mask, 5, rng)
    assert len(wrong) == 5 and not any(case.mask[p] for p in wrong)
    assert outside(np.ones((3, 3, 1), bool), 2, rng) == []


def test_boxes_are_off_as_asked(make_case):
    case = make_case(shape=(100, 100, 1), center=(50, 50, 0), radii=(20, 20, 1))

    def box(**values):
        return simulate(Condition("box", **values), case.mask, case.grid, draw_of(1, "x", Condition("box")))[0][0]

    tight = box()
    assert tight.low == (30, 30, 0) and tight.high == (71, 71, 1)
    assert box(enlarge=0.1).low == (26, 26, 0) and box(enlarge=0.1).high == (75, 75, 1)
    moved = box(shift=0.2)
    assert [abs(a - b) for a, b in zip(moved.low, tight.low)] == [8, 8, 0]
    assert np.subtract(moved.high, moved.low).tolist() == [41, 41, 1]
    assert box(jitter=0.1).low != tight.low


def test_parts_are_prompted_apart(make_case, oracle):
    case = make_case(shape=(60, 40, 1), center=(15, 20, 0), radii=(10, 10, 1))
    case.mask[45:52, 15:25], case.volume.data[45:52, 15:25] = True, 1
    assert [int(p.sum()) for p in largest_parts(case.mask, 5)] == [317, 70]
    found = records_of(oracle(), case, {"kind": "box", "parts": [1, 2]}, {"kind": "points", "count": 1, "parts": 2})
    assert found["box, 1 largest part"]["dice"]["answer"] == pytest.approx(2 * 317 / (317 + 387), abs=1e-4)
    assert found["box, 2 largest parts"]["dice"]["answer"] == 1.0 and found["box, 2 largest parts"]["clicks"] == 4
    assert found["1 point centre, 2 largest parts"]["clicks"] == 2


def test_choices_among_candidates_are_ordered(make_case, offering):
    case, predictor = make_case(), offering()
    for predictor.best in (0, 1, 2):
        for record in Study(predictor, expand(DEFAULT_GRID)).run(case):
            scores = record["dice"]
            assert (set(scores) == set(CHOICES)) is ("error" not in record["condition"]), record["condition"]
            assert "oracle" not in scores or scores["oracle"] >= scores["predicted"] >= scores["worst"], record
    found = records_of(predictor, case, {"kind": "box"})["box"]
    assert found["dice"]["oracle"] == 1.0 and found["dice"]["predicted"] == found["dice"]["worst"] < 0.5
    assert found["failures"] == ["mischoice"]


def test_everything_is_picked_by_a_click(make_case, offering):
    found = records_of(offering(), make_case(), {"kind": "everything"})["everything"]
    assert found["dice"]["answer"] == found["dice"]["oracle"] == 1.0 and found["dice"]["worst"] == 0.0
    assert found["clicks"] == 1
    nothing = offering()
    nothing.everything = lambda state, settings=None: []
    found = records_of(nothing, make_case(), {"kind": "everything"})["everything"]
    assert found["failures"] == ["empty", "miss"] and found["dice"]["oracle"] == 0.0


def test_clicks_on_errors_go_on_from_each_other(make_case, oracle):
    asked = []

    class Counting(oracle):
        """Counts decodes."""

        def decode(self, state, prompts, previous=None):
            """Counted."""
            asked.append(len(prompts.prompts))
            return super().decode(state, prompts, previous)

    found = records_of(Counting(reach=5), make_case(), {"kind": "points", "count": [1, 3, 5], "place": "error"},
                       {"kind": "box+points", "count": 1, "place": "error"})
    dices = [found[name]["dice"]["answer"] for name in ("1 point error", "3 points error", "5 points error")]
    assert dices == sorted(dices) and dices[0] < dices[2] and asked[:5] == [1, 2, 3, 4, 5]
    assert found["box + 1 point error"]["clicks"] == 3 and "oracle" not in found["1 point error"]["dice"]


def test_volumes_and_what_a_predictor_does_not_take(make_case, oracle):
    case = make_case(shape=(30, 30, 12), center=(14, 15, 6), radii=(8, 7, 4), spacing=(1, 1, 3))
    study = Study(oracle(kinds=frozenset({"point"})), expand(DEFAULT_GRID))
    assert {c.kind for c in study.conditions} == {"points"} and "box" in study.left_out
    found = records_of(oracle(), case, {"kind": "points", "count": 2, "negative": 1}, {"kind": "box"}, {"kind": "mask"})
    assert found["box"]["dice"]["answer"] == 1.0 and found["box"]["boundary_mm"] == 0.0
    assert found["mask"]["clicks"] is None


@pytest.fixture
def studied(folder, offering):
    """A study of two pictures."""
    found = run_study(Datalist.read(folder / "list.csv", max_components=3), offering(), expand(DEFAULT_GRID), seed=3)
    return found | {"command": "promptzoo study list.csv"}


def test_a_repeated_run_gives_the_same(folder, offering, studied):
    again = run_study(Datalist.read(folder / "list.csv", max_components=3), offering(), expand(DEFAULT_GRID), seed=3)
    other = run_study(Datalist.read(folder / "list.csv", max_components=3), offering(), expand(DEFAULT_GRID), seed=4)

    def without_time(study):
        return [{k: v for k, v in r.items() if k != "seconds"} for r in study["records"]]

    assert without_time(again) == without_time(studied) != without_time(other)
    few = run_study(Datalist.read(folder / "list.csv", max_components=3), offering(),
                    expand([{"kind": "points", "count": 5, "place": "random"}]), seed=3)
    assert without_time(few)[0] in without_time(studied), "a condition does not depend on those beside it"
    json.dumps(studied, allow_nan=False)


def test_errors_are_told_and_excluded_rows_named(studied, folder, offering):
    assert studied["cases"] == 2 and [e["id"] for e in studied["errors"]] == ["lost"]
    assert {e["id"] for e in studied["excluded"]} == {"tiny", "parts", "empty"}
    with pytest.raises(PromptZooError, match="limit"):
        run_study(Datalist.read(folder / "list.csv"), offering(), expand(DEFAULT_GRID), limit=0)
    with pytest.raises(PromptZooError, match="grid for oracle"):
        run_study(Datalist.read(folder / "list.csv"), offering(kinds=frozenset({"text"})), expand(DEFAULT_GRID))


def test_an_interrupted_run_is_a_run_with_a_smaller_limit(folder, offering):
    grid, listed = expand([{"kind": "box"}]), Datalist.read(folder / "list.csv", max_components=3)

    def stop(done, total, name):
        if done == 1:
            raise KeyboardInterrupt

    short = run_study(listed, offering(), grid, limit=2, seed=1, progress=stop)
    small = run_study(listed, offering(), grid, limit=1, seed=1)
    assert short["interrupted"] and not small["interrupted"] and short["cases"] == small["cases"]
    assert [r["id"] for r in short["records"]] == [r["id"] for r in small["records"]]
    assert short["excluded"] == small["excluded"]


def record(number, condition, value, modality="CT", clicks=2, organ="liver"):
    """A record as a study writes it."""
    return {"id": f"case{number}", "modality": modality, "organ": organ, "condition": condition, "draw": 0,
            "clicks": clicks, "dice": {"answer": value}, "nsd": value, "boundary_mm": 1.0, "failures": [],
            "estimated_dice": None, "seconds": 0.1}


def made_up(values, count=6, **more):
    """A study of ``{condition: (Dice, clicks)}``."""
    conditions = {c.name: {"kind": c.kind, "clicks": c.clicks, "count": c.count, "place": c.place, "shift": c.shift,
                           "negative": c.negative, "enlarge": c.enlarge, "jitter": c.jitter, "noisy": c.noisy}
                  for c in expand(DEFAULT_GRID)}
    records = [record(n, name, value, clicks=conditions[name]["clicks"], **more)
               for name, value in values.items() for n in range(count)]
    return {"bundle": "x", "seed": 0, "conditions": conditions, "records": records, "command": "c", "cases": count,
            "errors": [], "excluded": [], "left_out": []}


def test_advice_is_the_best_that_a_person_can_give():
    advice = advise(made_up({"1 point centre": 0.5, "3 points centre": 0.7, "box": 0.8, "box +5%": 0.805,
                             "box +10%": 0.9, "box, shifted 10%": 0.6, "10 points random": 0.99,
                             "mask eroded 25%": 0.99, "10 points error": 0.905}))["all"]
    first = advice["recommended"]
    assert first["condition"] == "box +10%" and first["prompt"] == "box" and first["margin"] == 0.1
    assert first["clicks"] == 2 and first["n"] == advice["n"] == 6 and first["dice"] == 0.9
    assert advice["by_budget"]["1"]["condition"] == "1 point centre"
    assert advice["by_budget"]["10"]["condition"] == "box +10%", "cheaper and as good as ten clicks"
    assert advice["if_wrong"] == {"box, shifted 10%": pytest.approx(0.3)}


def test_nothing_is_advised_on_few_cases():
    study = made_up({"box": 0.8}, count=4)
    study["records"] += [record(9 + n, "box", 0.7, "MR", organ="heart") for n in range(5)]
    advice = advise(study)
    assert advice["modality"]["CT"] == {"n": 4, "reason": "too few cases: 4, at least 5 are needed"}
    assert advice["modality"]["MR"]["recommended"]["dice"] == 0.7 and advice["all"]["n"] == 9
    assert "recommended" in advise(study, 4)["organ"]["liver"]
    text = cards(advice)
    assert "Too few cases to advise (fewer than 5): CT (4)" in text and "Not a medical device" in text


def test_bands_hold_the_mean_and_narrow_with_cases():
    rng = np.random.default_rng(0)
    few, many = (list(rng.normal(0.7, 0.1, n)) for n in (8, 200))
    for values in (few, many):
        low, high = band(values, 1)
        assert low < np.mean(values) < high and band(values, 1) == (low, high)
    assert np.ptp(band(many, 1)) < np.ptp(band(few, 1))


def test_report_and_plots(studied, tmp_path):
    summary = summarise_study(studied["records"])
    assert set(summary["modality"]) == {"CT", "MR"} and summary["all"]["box"]["n"] == 2
    assert "| box | 2 |" in table(summary["all"]) and "promptzoo study list.csv" in report(studied, summary)
    names = [file.name for file in plots(studied, summary, tmp_path)]
    assert names == ["dice_clicks.png", "dice_box_noise.png", "selections.png"]
    assert all((tmp_path / name).stat().st_size > 5000 for name in names)
