"""Records in fields and words."""
import numpy as np
import pytest

from promptzoo.core.errors import PromptError, UnclearTextError
from promptzoo.text.records import (
    CLASSES,
    LENGTH,
    Record,
    chances_of,
    checked,
    position_chances,
    read_request,
    value_of,
    vector,
)


@pytest.mark.parametrize("text, record", [
    ("enhancing tumor, high grade", Record("enhancing tumour", grade="high")),
    ("glioblastoma", Record("whole tumour", grade="high")),
    ("tumour core of a grade II glioma", Record("tumour core", grade="low")),
    ("lesion in segment VI", Record("liver lesion", segment="6")),
    ("metastasis, segment 4a", Record("liver lesion", segment="4")),
    ("segment of the liver, S8", Record("liver segment", segment="8")),
    ("stomach, slice 1 of 41", Record("stomach", position="0.000")),
    ("the colon, slice 21/41", Record("large bowel", position="0.500")),
    ("stomach at position 0.35", Record("stomach", position="0.350")),
    ("large bowl on the lower part", Record("large bowel", position="0.800")),
    ("please mark the whole functional unit", Record("glomerulus")),
    ("glomerulr tuft", Record("glomerular tuft")),
    ("all cells here", Record("nuclei")),
    ("high grade", Record(grade="high")),
])
def test_requests_are_read(text, record):
    assert read_request(text) == record


@pytest.mark.parametrize("text", ["zzz qqq", "the weather", "stomach but not the colon"])
def test_unclear_requests_are_asked_back(text):
    with pytest.raises(UnclearTextError, match="wanted|Which structure"):
        read_request(text)


def test_values_have_one_form():
    assert [checked("grade", v) for v in ("IV", "2", " High")] == ["high", "low", "high"]
    assert [checked("position", v) for v in ("50 %", "0.25", "11/11", "upper")] == ["0.500", "0.250", "1.000", "0.200"]
    for name, value in (("grade", "5"), ("segment", "9"), ("position", "50/40"), ("position", "2"), ("colour", "red")):
        with pytest.raises(PromptError):
            checked(name, value)


def test_vectors_hold_the_attribute_of_the_study_alone():
    chances = {"grade": chances_of("grade", "high"), "segment": chances_of("segment", "3")}
    told = vector("tumour core", chances)
    assert told.shape == (LENGTH,) and told.sum() == 2 and told[CLASSES.index("tumour core")] == 1
    assert vector("nuclei", chances).sum() == 1
    assert not chances_of("segment", "").any()


def test_positions_come_back():
    for position in (0.0, 0.33, 1.0):
        assert np.isclose(position_chances(position).sum(), 1)
        assert abs(float(value_of("position", position_chances(position))) - position) < 0.011
