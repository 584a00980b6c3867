"""``promptzoo consensus``: STAPLE of annotators, and the worst cases first."""
import json

import numpy as np
import pytest

from promptzoo.core.geometry import Grid
from promptzoo.data.io import read_mask, write_mask

GRID = Grid((24, 20, 10), np.diag([-1.0, 1.0, 2.0, 1.0]))


def block(*parts):
    """Labels with a block for each (value, first, last column)."""
    labels = np.zeros(GRID.shape, np.uint8)
    for value, low, high in parts:
        labels[low:high, 5:15, 3:8] = value
    return labels


@pytest.fixture
def annotators(tmp_path):
    """Two annotators with two cases each; on the second they disagree."""
    for who, shift in (("anna", 0), ("bert", 1), ("carl", 0)):
        (tmp_path / who).mkdir()
        write_mask(tmp_path / who / "one.nii.gz", block((1, 2, 8), (2, 12, 20)), GRID)
        write_mask(tmp_path / who / "two.nii.gz", block((1, 2 + 3 * shift, 8 + 3 * shift)), GRID)
    return tmp_path


def test_the_majority_is_the_consensus_and_the_worst_case_comes_first(run, annotators):
    places = [annotators / who for who in ("anna", "bert", "carl")]
    rows = json.loads(run("consensus", *places, "-o", annotators / "out", "--json").stdout)
    assert [(row["case"], row["structure"]) for row in rows][0] == ("two.nii.gz", "1") and rows[0]["dice"] < 0.8
    assert {row["dice"] for row in rows[1:]} == {1.0} and len(rows) == 3
    assert rows[0]["sensitivity"][1] < rows[0]["sensitivity"][0], "who differs is trusted less"
    assert np.array_equal(read_mask(annotators / "out" / "two.nii.gz")[0], block((1, 2, 8)))
    assert np.array_equal(read_mask(annotators / "out" / "one.nii.gz")[0], block((1, 2, 8), (2, 12, 20)))
    table = run("consensus", annotators / "anna" / "two.nii.gz", annotators / "bert" / "two.nii.gz").stdout
    assert "0.500" in table


def test_what_cannot_be_compared(run, annotators):
    assert "at least two" in run("consensus", annotators / "anna", code=2).stderr
    assert "existing" in run("consensus", annotators / "anna", annotators / "dora", code=4).stderr
    assert "all folders" in run("consensus", annotators / "anna", annotators / "bert" / "one.nii.gz", code=2).stderr
    (annotators / "empty").mkdir()
    assert "same name" in run("consensus", annotators / "anna", annotators / "empty", code=4).stderr
