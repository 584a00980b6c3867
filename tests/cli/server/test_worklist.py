"""The worklist: different images for different people, reasons, and scores made in the background."""
import time

import numpy as np
import pytest

from promptzoo.active_learning.ledger import Ledger
from promptzoo.active_learning.scores import Scored, Seen
from promptzoo.cli.server.work import WorkQueue
from promptzoo.cli.server.worklist import Cases, Scorer, Worklist
from promptzoo.core.errors import ImageError, NotFoundError


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger."""
    return Ledger(tmp_path / "work.sqlite")


def test_two_people_get_different_images_and_nobody_a_labelled_one(ledger):
    images = [Cases(["a", "b", "c"], [], "k")]
    work = Worklist(ledger, lambda: images[0])
    assert [work.next("first", user)["id"] for user in ("anna", "bert")] == ["a", "b"]
    images[0] = Cases(["b", "c"], ["a"], "k")
    assert work.next("first", "anna")["id"] == "c"
    assert work.next("first", "bert") == {"id": "b", "reason": "given to you before and not saved yet; nothing else is "
                                                               "left"}
    assert work.next("first", "carl") == {"id": None, "reason": "the images that are left are with others"}
    images[0] = Cases([], ["a", "b", "c"], "k")
    assert work.next("random", "anna") == {"id": None, "reason": "every image has a final label"}
    with pytest.raises(NotFoundError, match="strategy"):
        work.next("best", "anna")


def test_scores_are_made_when_a_strategy_needs_them(ledger):
    asked, queue = [], WorkQueue()

    def steps(image):
        asked.append(image)
        yield
        if image == "broken":
            raise ImageError("unreadable")
        yield
        return Scored(image, {"x": Seen({"a": 0.1, "b": 0.9}.get(image, 0.5), 0.0, 0.5, 1.0, 0.1)},
                      np.ones(2, np.float32))

    cases = Cases(["a", "b", "broken"], ["done"], "k")
    scorer = Scorer(steps, ledger, queue, pause_s=0.01)
    work = Worklist(ledger, lambda: cases, scorer.want)
    assert work.next("first")["id"] == "a" and not asked
    ledger.give_back(["a"])
    assert "no image is scored yet" in work.next("entropy")["reason"]
    ends = time.monotonic() + 30
    while len(ledger.scores("k", ["a", "b", "done"])) < 3 and time.monotonic() < ends:
        time.sleep(0.02)
    ledger.give_back(["a", "b", "broken"])
    told = work.next("entropy")
    assert told["id"] == "b" and "0.90 bits" in told["reason"] and "1 images are not scored yet" in told["reason"]
    scorer.want(cases)
    time.sleep(0.2)
    assert asked.count("broken") == 1 and sorted(asked) == ["a", "b", "broken", "done"], "each once"
