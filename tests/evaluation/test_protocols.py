"""Protocols: where clicks and boxes go, how many steps there are, what they score."""
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation.datalist import Datalist
from promptzoo.evaluation.protocols import PROTOCOLS, protocol_click, reference_box, run_case


def test_click_goes_to_the_centre_of_the_largest_error():
    truth, answer = np.zeros((2, 30, 30, 1), bool)
    truth[4:13, 4:13] = True
    answer[20:25, 20:25] = True
    assert protocol_click(truth, answer, (1, 1, 1)) == ((8, 8, 0), True)
    assert protocol_click(truth, answer | truth, (1, 1, 1)) == ((22, 22, 0), False)
    assert protocol_click(truth, truth, (1, 1, 1)) is None


def test_click_depth_is_in_millimetres():
    """A plus of two bars: with voxels of 1 mm the thick bar is deeper; stretched, the thin one is."""
    truth = np.zeros((40, 40, 3), bool)
    truth[2:38, 18:21] = True   # 3 wide along j
    truth[2:7, 2:38] = True     # 5 wide along i
    inside = protocol_click(truth, np.zeros_like(truth), (1, 1, 9))[0]
    assert inside[0] <= 6
    stretched = protocol_click(truth, np.zeros_like(truth), (0.2, 5, 9))[0]
    assert 18 <= stretched[1] <= 20


def test_image_border_counts_as_outside():
    truth = np.zeros((21, 11, 1), bool)
    truth[:, :5] = True
    (i, j, k), positive = protocol_click(truth, np.zeros_like(truth), (1, 1, 1))
    assert j == 2 and positive


def test_components_touch_by_corners():
    """Two blocks that meet at a corner are one component of 32, larger than a block of 25."""
    truth = np.zeros((30, 30, 5), bool)
    truth[2:6, 2:6, 1] = True
    truth[6:10, 6:10, 2] = True
    truth[20:25, 20:25, 3] = True
    assert max(protocol_click(truth, np.zeros_like(truth), (1, 1, 1))[0][:2]) < 10


def test_one_voxel_object():
    truth = np.zeros((5, 5, 5), bool)
    truth[4, 0, 2] = True
    assert protocol_click(truth, np.zeros_like(truth), (1, 2, 3)) == ((4, 0, 2), True)
    low, high = reference_box(truth, 2)
    assert low.tolist() == [4, 0, 2] and high.tolist() == [5, 1, 3]


def test_boxes_of_volumes():
    mask = np.zeros((20, 20, 9), bool)
    mask[5:8, 5:8, 2:7] = True
    mask[2:16, 3:12, 6] = True
    low, high = reference_box(mask, 2, "tight")
    assert (low.tolist(), high.tolist()) == ([2, 3, 2], [16, 12, 7])
    low, high = reference_box(mask, 2)  # middle slice is 4
    assert (low.tolist(), high.tolist()) == ([5, 5, 2], [8, 8, 7])
    low, high = reference_box(mask[..., 6:7], 2)
    assert (low.tolist(), high.tolist()) == ([2, 3, 0], [16, 12, 1])
    with pytest.raises(PromptZooError, match="empty mask"):
        reference_box(mask & False, 2)
    with pytest.raises(PromptZooError, match="box style"):
        reference_box(mask, 2, "loose")


@pytest.mark.parametrize("protocol, clicks, steps", [
    ("clicks", 3, ["click 1", "click 2", "click 3"]), ("box", 4, ["box"]), ("box", None, ["box"]),
    ("box+clicks", 2, ["box", "click 1", "click 2"]), ("clicks", None, [f"click {n}" for n in range(1, 11)]),
    ("box+clicks", None, ["box"] + [f"click {n}" for n in range(1, 6)])])
def test_step_counts(protocol, clicks, steps, oracle, make_case):
    trial, = run_case(make_case(), oracle(), protocol, clicks)
    assert trial.steps == steps
    assert {len(getattr(trial, name)) for name in ("dice", "nsd", "seconds", "estimated_dice")} == {len(steps)}
    record = trial.record()
    assert {"id", "modality", "dice", "nsd", "seconds"} <= set(record)


def test_clicks_improve_and_stop_at_perfection(oracle, make_case):
    trial, = run_case(make_case(), oracle(reach=9), "clicks", 12)
    assert trial.dice == sorted(trial.dice) and trial.dice[-1] == 1.0 and trial.nsd[-1] == 1.0
    asked = len(trial.prompts.prompts)
    assert asked < 12 and trial.seconds[asked:] == [0.0] * (12 - asked)
    assert trial.prompts.space == "world"
    assert trial.estimated_dice == pytest.approx(trial.dice)


def test_exact_box_of_a_slice(oracle, make_case):
    assert run_case(make_case(), oracle(), "box")[0].dice == [1.0]


def test_start_without_a_box_counts_as_zero(oracle, make_case):
    trial, = run_case(make_case(), oracle(kinds=frozenset({"point"})), "box+clicks", 2)
    assert trial.steps[0] == "box" and trial.dice[0] == 0.0 and trial.nsd[0] == 0.0 and trial.dice[1] > 0


def test_runs_are_equal(oracle, make_case):
    case = make_case((20, 18, 12), (9, 8, 6), (6, 5, 4), (1, 1, 2))
    first, second = (run_case(case, oracle(4), "box+clicks", 4)[0] for _ in range(2))
    assert first.dice == second.dice and first.prompts == second.prompts


def test_listener_hears_every_step(oracle, make_case):
    heard = []
    run_case(make_case(), oracle(), "box+clicks", 2, on_step=lambda trial: heard.append(trial.steps[-1]))
    assert heard == ["box", "click 1", "click 2"]


def test_human_scribbles(folder, oracle):
    """Red is positive, green negative; one trial per person."""
    for person, (x, y) in enumerate([(22, 18), (25, 15)]):
        picture = np.zeros((40, 50, 3), np.uint8)
        picture[y, x - 3:x + 3, 0] = 255
        picture[2:4, 45, 1] = 255
        Image.fromarray(picture).save(folder / f"round_scribble{person}.png")
    listed = Datalist.read(folder / "list.csv")
    case = listed.load(listed.rows[0])
    case.volume.data[:] = case.mask
    trials = run_case(case, oracle(), "scribbles")
    assert [t.id for t in trials] == ["round#person0", "round#person1"]
    assert trials[0].steps == ["scribbles"] and trials[0].dice[0] > 0.5
    strokes = trials[1].prompts.to_voxel(case.grid).prompts
    assert [s.positive for s in strokes] == [True, False]
    assert np.allclose(strokes[0].points.min(0), (22, 15, 0)) and np.allclose(strokes[1].points.max(0), (45, 3, 0))
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(folder / "round_scribble1.png")
    with pytest.raises(PromptZooError, match="scribbles round_scribble1.png"):
        run_case(case, oracle(), "scribbles")


def test_simulated_scribbles(oracle, make_case):
    pytest.importorskip("promptzoo.prompts.simulators")
    one, again, other = (run_case(make_case(), oracle(), "scribbles", seed=s)[0] for s in (1, 1, 2))
    assert one.steps == ["scribbles"] and one.dice[0] > 0
    assert one.prompts == again.prompts and one.prompts != other.prompts


def test_a_class_is_asked_for_by_the_name_of_the_label(oracle, make_case):
    case, predictor = make_case(), oracle(kinds=frozenset({"class"}))
    for name, dice in (("disk", 1.0), ("kidney left", 0.0)):
        named = replace(case, row=replace(case.row, extra={"label_name": name}))
        trial, = run_case(named, predictor, "class")
        assert trial.steps == ["class"] and trial.dice == [dice]


def test_refusals(oracle, make_case):
    case = make_case()
    with pytest.raises(PromptZooError, match="protocol"):
        run_case(case, oracle(), "guess")
    with pytest.raises(PromptZooError, match="number of clicks"):
        run_case(case, oracle(), "clicks", 0)
    with pytest.raises(PromptZooError, match="without an object"):
        run_case(make_case(radii=(1e-3, 1e-3, 1e-3), center=(0.5, 0.5, 0.5)), oracle(), "clicks")
    assert len(PROTOCOLS) == 6
