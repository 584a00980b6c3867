"""The fastest precision that costs no Dice."""
import pytest

from promptzoo.core.errors import EngineError
from promptzoo.engines import choose_precision

LATENCY = {"fp32": 10.0, "bf16": 5.0, "int8": 3.0}


def table(**dice):
    """A scoring function, and the list of what it was asked."""
    asked = []

    def score(precision):
        asked.append(precision)
        return dice[precision]

    return score, asked


def test_fastest_good_one_wins_and_ends_the_search():
    score, asked = table(fp32=0.9, bf16=0.9, int8=0.8951)
    choice = choose_precision(score, LATENCY)
    assert choice.precision == "int8" and asked == ["fp32", "int8"]
    assert choice.to_dict()["dice"] == {"fp32": 0.9, "int8": 0.8951}


def test_dice_loss_is_exclusive():
    score, asked = table(fp32=0.9, bf16=0.899, int8=0.9 - 0.005)
    choice = choose_precision(score, LATENCY, max_loss=0.9 - (0.9 - 0.005))
    assert choice.precision == "bf16" and asked == ["fp32", "int8", "bf16"]
    assert "loses 0.0050 Dice" in choice.refused["int8"]


def test_fp32_when_nothing_is_good_enough():
    score, _ = table(fp32=0.9, bf16=0.8, int8=float("nan"))
    choice = choose_precision(score, LATENCY)
    assert choice.precision == "fp32" and set(choice.refused) == {"int8", "bf16"}


def test_slower_than_fp32_is_not_even_scored():
    score, asked = table(fp32=0.9)
    assert choose_precision(score, {"fp32": 1.0, "int8": 2.0, "bf16": 1.0}).precision == "fp32"
    assert asked == ["fp32"]


def test_a_precision_that_cannot_run_is_noted():
    def score(precision):
        if precision == "int8":
            raise EngineError("no samples")
        return 0.9

    choice = choose_precision(score, LATENCY)
    assert choice.precision == "bf16" and choice.refused == {"int8": "no samples"}


@pytest.mark.parametrize("latency, dice, message", [
    ({"bf16": 1.0}, 0.9, "fp32 and at least"),
    ({"fp32": 0.0}, 0.9, "positive"),
    ({"fp32": 1.0}, float("nan"), "mean Dice"),
    ({"fp32": 1.0}, 1.2, "mean Dice"),
])
def test_unusable_measurements(latency, dice, message):
    with pytest.raises(EngineError, match=message):
        choose_precision(lambda _: dice, latency)
