"""``promptzoo simulate-loop``: its numbers, its comparison, and a loop from begin to end."""
import json

import pytest

from promptzoo.cli.loop import simulate
from promptzoo.cli.loop.report import area, compare
from promptzoo.cli.loop.simulate import LoopPlan, Material, run_loop
from promptzoo.core.bundles import get_shipped
from promptzoo.core.errors import PromptZooError
from promptzoo.training.settings import Settings


def loop(strategy, seed, *points):
    """A loop with a curve of (clicks, Dice)."""
    return {"strategy": strategy, "seed": seed, "curve": [{"clicks": c, "score": d} for c, d in points]}


def test_area_under_the_curve():
    assert area([{"clicks": 0, "score": 0.5}, {"clicks": 10, "score": 0.7}], 10) == pytest.approx(0.6)
    assert area([{"clicks": 0, "score": 0.5}, {"clicks": 5, "score": 0.7}], 10) == pytest.approx(0.65, abs=1e-3)


def test_strategies_are_compared_seed_by_seed():
    loops = [loop("foreground", s, (0, 0.5), (10, 0.6 + 0.1 * s)) for s in range(3)]
    loops += [loop("entropy", s, (0, 0.5), (10, 0.7 + 0.1 * s + 0.001 * s)) for s in range(3)]
    loops += [loop("random", s, (0, 0.5), (10, 0.9 - 0.3 * s)) for s in range(3)]
    told = compare(loops, 10)
    assert told["entropy"]["verdict"] == "better" and told["entropy"]["difference"] == pytest.approx(0.0505, abs=1e-3)
    assert told["random"]["verdict"] == "no difference shown" and told["random"]["low"] < 0 < told["random"]["high"]
    assert "difference" not in told["foreground"] and list(told)[0] == "entropy"
    assert "difference" not in compare(loops[:1] + loops[3:4], 10)["entropy"], "one seed tells nothing"


@pytest.fixture
def datalist(disc_list):
    """Five images of a dark disc."""
    return disc_list(5)


def test_a_loop_chooses_prompts_trains_and_measures(datalist, monkeypatch):
    trained = []

    def train(source, cases, settings, place):
        trained.append(sorted(case.id for case in cases))
        return source.weights_path

    monkeypatch.setattr(simulate, "train_on", train)
    material = Material(datalist, get_shipped("sam_box_finetune"))
    plan = LoopPlan(rounds=2, budget=4, training=Settings(iterations=1, clicks=1, most_objects=9))
    told = run_loop(material, "entropy", plan)
    assert len(told["curve"]) == 3 and told["test_images"] == 2 and told["curve"][0]["clicks"] == 0
    assert len({point["score"] for point in told["curve"]}) == 1, "the same weights, the same Dice"
    assert [entry["round"] for entry in told["chosen"]] == sorted(entry["round"] for entry in told["chosen"])
    assert sum(entry["clicks"] for entry in told["chosen"]) == told["curve"][-1]["clicks"] >= 4
    assert trained[-1] == sorted(f"case {entry['image'][0]}" for entry in told["chosen"])
    assert json.dumps(run_loop(material, "entropy", plan)) == json.dumps(told), "the same seed, the same loop"


def test_what_cannot_be_simulated(datalist, tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("\n".join(datalist.read_text().splitlines()[:4]))
    with pytest.raises(PromptZooError, match="at least 4"):
        Material(few, get_shipped("sam_box_finetune"))
    with pytest.raises(PromptZooError, match="simulated loop"):
        LoopPlan(rounds=5, budget=3)


def test_the_command_goes_on_where_it_ended(datalist, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from promptzoo.cli.app import app

    seen = []

    def fake(material, strategy, plan):
        seen.append((strategy, plan.seed))
        return loop(strategy, plan.seed, (0, 0.5), (10, 0.6))

    monkeypatch.setattr(simulate, "run_loop", fake)
    command = ["simulate-loop", str(datalist), "--strategy", "entropy", "--seeds", "2", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert seen == [("foreground", 0), ("entropy", 0), ("foreground", 1), ("entropy", 1)]
    again = CliRunner().invoke(app, [*command[:-4], "--seeds", "3", "-o", str(tmp_path / "out"), "--json"])
    assert len(seen) == 6 and len(json.loads(again.stdout)["loops"]) == 6 and (tmp_path / "out" / "loop.png").is_file()
    assert CliRunner().invoke(app, [*command[:3], "best"]).exit_code == 4
    assert CliRunner().invoke(app, [*command, "-b", "sam_peft"]).exit_code == 4
