"""Corrected cases: read from a datalist with their logs, divided once and for all, and written for the trainer."""
import json

import numpy as np
import pytest
from PIL import Image

from promptzoo.core.errors import PromptZooError
from promptzoo.evaluation.datalist import Datalist
from promptzoo.prompts.types import Box, Point, PromptSet
from promptzoo.training.corrections import Corrected, divide, from_datalist, habits, write_datalist
from promptzoo.training.real import OpenRows


def log_of(*steps):
    """A session export with a step for each prompt set."""
    return {"operations": [{"kind": "prompts", "payload": {"set": step.to_json()}} for step in steps],
            "given": [{} for step in steps for _ in step.prompts]}


@pytest.fixture
def datalist(tmp_path):
    """Two images with two objects each; the first has a log."""
    rows = ["id,task,image,mask,label_value,modality,label_name"]
    for name in ("a", "b"):
        labels = np.zeros((40, 48), np.uint8)
        labels[8:20, 8:20], labels[8:20, 28:40], labels[30:36, 8:20] = 1, 1, 2
        Image.fromarray(labels * 100).save(tmp_path / f"{name}.png")
        Image.fromarray(labels).save(tmp_path / f"{name}_label.png")
        rows += [f"{name}{v},seg2d,{name}.png,{name}_label.png,{v},US,{word}" for v, word in ((1, "pair"), (2, "bar"))]
    first = PromptSet((Box((1, 2, 0), (9, 9, 1), 1), Point((3, 3, 0), True, 2)))
    (tmp_path / "a_label.png.prompts.json").write_text(json.dumps(log_of(first, PromptSet((Point((1, 1, 0)),)))))
    (tmp_path / "list.csv").write_text("\n".join(rows))
    return tmp_path / "list.csv"


def test_cases_of_a_datalist(datalist):
    first, second = from_datalist(datalist)
    assert first.names == {1: "pair", 2: "bar"} and second.log == {} and second.first_prompts() == {}
    given = first.first_prompts()
    assert {n: prompts.kinds for n, prompts in given.items()} == {1: {"box"}, 2: {"point"}} and first.clicks == 3


def test_a_broken_log_is_no_log(datalist):
    case = from_datalist(datalist)[0]
    for broken in ({"operations": [{"kind": "prompts"}]}, {"operations": 3}, {"operations": [None]}):
        assert Corrected(case.id, case.image, case.mask, "US", case.names, broken).first_prompts() == {}


def test_division():
    cases = [Corrected(str(n), None, None, "", {1: "x"}) for n in range(9)]
    train, held = divide(cases)
    assert [case.id for case in held] == ["1", "5"] and len(train) == 7
    known = {case.id: "held" if case in held else "train" for case in cases}
    assert [case.id for case in divide(cases[::-1], known)[1]] == ["5", "1"], "whatever the order is now"
    with pytest.raises(PromptZooError, match="1 to train on, 0 held back"):
        divide(cases[:1])


def test_objects_are_trained_on_as_they_were_drawn(datalist, tmp_path):
    write_datalist(from_datalist(datalist), tmp_path / "cases.csv")
    rows = Datalist.read(tmp_path / "cases.csv").rows
    assert [row.extra["label_name"] for row in rows] == ["pair", "bar"] * 2
    real = OpenRows(2, str(tmp_path / "cases.csv"), margins=(3.0, 3.1))
    rng = np.random.default_rng(0)
    masks = [mask for _ in range(6) for _, mask in real.sample(rng, 64, 2)]
    assert all(picture.whole for picture in real.pictures) and len(masks) == 12


def test_habits_follow_the_logs(datalist):
    usual = [0.2, 0.5, 0.1, 0.1, 0.1]
    assert habits([], usual) == usual
    case = from_datalist(datalist)[0]
    found = habits([case] * 20, usual)
    assert found[0] == pytest.approx((4 + 20) / 60, abs=1e-3) and sum(found) == pytest.approx(1, abs=1e-3)
