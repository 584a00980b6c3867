"""The bench beside the teacher: turns, scores, and the table of its block."""
import numpy as np
import pytest

from promptzoo.cli.maintain.bench_student import SECTION, boxed, cost, dice_of, in_turns, scenes, section
from promptzoo.inference import load_predictor


def test_calls_take_turns():
    seen = []
    times = in_turns({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 4)
    assert seen == ["a", "b"] * 7 and set(times["a"]) == {"encode_p50_ms", "encode_min_ms"}
    assert 0 <= times["b"]["encode_min_ms"] <= times["b"]["encode_p50_ms"]


def test_scenes_and_their_boxes_are_repeatable():
    (volume, mask), (again, _) = scenes(1)[0], scenes(1)[0]
    assert np.array_equal(volume.data, again.data) and mask.any()
    box = boxed(mask).prompts[0]
    assert mask[int(box.low[0]):int(box.high[0]), int(box.low[1]):int(box.high[1])].sum() == mask.sum()


def test_a_bundle_is_counted_and_scored():
    counted = cost("sam_box_finetune", None)
    assert counted["encoder_parameters"] == pytest.approx(1.57e6, rel=0.01) and counted["weights_bytes"] > 4_000_000
    assert counted["encoder_gflop"] > 1
    found = dice_of(load_predictor("sam_box_finetune", engine="torch"), scenes(2))
    assert set(found) == {"dice_box", "dice_click"} and all(0 < value <= 1 for value in found.values())


def test_the_section_of_a_readme_is_renewed():
    row = {"bundle": "student", "variant": None, "engine": "torch fp32", "encoder_parameters": 855_000,
           "encoder_gflop": 0.4, "encode_p50_ms": 3.04, "encode_min_ms": 2.9, "dice_box": 0.63, "dice_box_drop": -0.02,
           "dice_click": 0.44, "peak_rss_mb": 800}
    block = {"command": "scripts/bench_student", "hardware": "CPU", "cores": 2, "load_average": [0.1], "scenes": 4,
             "rows": [row]}
    text = SECTION.sub(lambda _: section(block), "# A\n## Efficiency\nold\n\n## Measured\nnew\n", count=1)
    assert "| student | torch fp32 | 0.85 M | 0.40 | 3.0 (2.9) ms | 0.630 | -0.020 | 0.440 | 800 MB |" in text
    assert "old" not in text and text.endswith("## Measured\nnew\n")
