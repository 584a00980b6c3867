"""What finished cases save, with an annotator and a predictor that are known."""
from pathlib import Path

import numpy as np
import pytest

from promptzoo.cli.maintain.measure_context import interval, measure, session
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.core.volume import Volume
from promptzoo.evaluation.datalist import Case, Row
from promptzoo.prompts import ReferencePrompt


class Rows:
    """Marks the first rows of the object: two for each finished case up to four of them, and one per click."""

    engine = "none"

    def encode(self, volume):
        return volume

    def decode(self, state, prompts, previous=None):
        known = state.data > 50
        count = 2 * min(4, len(prompts.of("reference"))) + len(prompts.of("point"))
        marked = known & (np.arange(len(known)) < 4 + count)[:, None, None]
        answer = ObjectPrediction(1, state.grid, (0, 0, 0), marked.astype(np.float32), None)
        return Prediction(state.grid, (answer,), 0.0, "none")


def case(name):
    """An object of ten rows, from row 4 on."""
    mask = np.zeros((20, 16, 1), bool)
    mask[4:14, 3:12] = True
    volume = Volume(mask * 100.0, Grid(mask.shape, np.eye(4)))
    return Case(Row(name, "seg2d", Path("i"), Path("m"), 1, "CT"), volume, mask, 1)


def test_a_session_counts_clicks_up_to_the_target():
    """Nine of ten rows are needed: after nine clicks, or three beside three cases; at most five are given."""
    example = ReferencePrompt("a", "b")
    assert session(Rows(), case("x"), [], 20, 0.9)[:2] == (0.0, 9)
    assert session(Rows(), case("x"), [example] * 3, 20, 0.9)[:2] == (pytest.approx(0.75), 3)
    first, clicks, last = session(Rows(), case("x"), [], 5, 0.9)
    assert clicks == 5 and last == pytest.approx(2 / 3)


def test_sizes_of_the_context_are_paired():
    """Sizes that the set is too small for are left out; what is saved is the difference to no context."""
    found = measure(Rows(), [case(name) for name in "abcde"], 3, (0, 1, 4, 8), 20, 0.9)
    assert found["patients"] == 3 and "context 8" not in found
    assert [found[f"context {n}"]["clicks"] for n in (0, 1, 4)] == [9, 7, 1]
    assert found["context 4"]["clicks_saved"] == 8 and found["context 4"]["clicks_saved_95"] == [8, 8]


def test_the_interval_holds_the_mean():
    low, high = interval(np.array([0.0, 1, 2, 3, 4, 5]))
    assert low < 2.5 < high and interval(np.array([1.0, 1.0])) == [1, 1]
