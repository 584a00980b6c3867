"""The simulated annotator of training: how it starts, how it corrects, what it remembers."""
import numpy as np
import pytest

from promptzoo.core.seeding import generator
from promptzoo.training.annotator import WindowAnnotator


def only(index, count=5):
    """Probabilities that always choose ``index``."""
    return tuple(float(n == index) for n in range(count))


def disk(dims=2, side=32, centre=14, radius=8):
    grid = np.indices((side,) * dims)
    return ((grid - centre) ** 2).sum(0) < radius ** 2


def session(first, dims=2, seed=0, **options):
    return WindowAnnotator(first=only(first), **options).start(disk(dims), generator(seed))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("first, fields", [
    (0, {"box"}), (1, {"positive"}), (3, {"lasso"}), (4, {"previous"})])
def test_start(first, fields, dims):
    told = session(first, dims).prompts()
    given = {name for name in ("box", "positive", "negative", "lasso", "previous", "scribble_positive",
                               "scribble_negative") if getattr(told, name) is not None}
    assert fields <= given and given - fields <= ({"positive", "negative"} if first == 4 else set())
    assert told.dims == dims


@pytest.mark.parametrize("dims", [2, 3])
def test_start_with_scribbles(dims):
    told = session(2, dims).prompts()
    at = np.rint(told.scribble_positive).astype(int)
    assert disk(dims)[tuple(at.T)].mean() > 0.9 and told.box is None and told.positive is None


def test_first_click_is_inside():
    for seed in range(10):
        point = session(1, seed=seed).prompts().positive[0].astype(int)
        assert disk()[tuple(point)]


@pytest.mark.parametrize("style, slack", [(0, 0.0), (1, 4.0)])
def test_boxes(style, slack):
    """A tight box has the faces of the mask; a jittered one is near it."""
    low, high = session(0, box_styles=only(style, 4)).prompts().box
    hit = np.argwhere(disk())
    assert np.abs(low - (hit.min(0) - 0.5)).max() <= slack and np.abs(high - (hit.max(0) + 0.5)).max() <= slack
    if style == 0:
        assert low.tolist() == [6.5, 6.5] and high.tolist() == [21.5, 21.5]


def test_mid_slice_box_covers_the_whole_range():
    """Of a ball, the box of the middle slice and the range of slices are the ball's box, slightly jittered."""
    low, high = session(0, dims=3, box_styles=only(3, 4)).prompts().box
    assert np.abs(low - 6.5).max() <= 1 and np.abs(high - 21.5).max() <= 1


@pytest.mark.parametrize("answer, positive", [(0.0, True), (1.0, False)])
def test_click_into_the_error(answer, positive):
    """Everything missed: a positive click in the object; everything painted: a negative one outside."""
    work = session(0, correct_by=only(0, 3))
    work.correct(np.full((32, 32), answer, np.float32), generator(1))
    told = work.prompts()
    kind = told.positive if positive else told.negative
    assert len(kind) == 1 and (told.negative if positive else told.positive) is None
    assert disk()[tuple(kind[0].astype(int))] == positive
    assert np.array_equal(told.previous, np.full((32, 32), answer, np.float32))


def test_stroke_into_the_error():
    work = session(0, correct_by=only(1, 3))
    work.correct(np.zeros((32, 32), np.float32), generator(1))
    assert work.prompts().scribble_positive is not None and work.prompts().positive is None


def test_nothing_to_correct():
    """A perfect mask gets no click and no stroke; it is only remembered."""
    for way in (0, 1):
        work = session(0, correct_by=only(way, 3))
        work.correct(disk().astype(np.float32), generator(1))
        told = work.prompts()
        assert told.positive is None and told.scribble_positive is None and told.previous is not None
        assert work.fresh is None


def test_feedback_only():
    work = session(0, correct_by=only(2, 3))
    work.correct(np.zeros((32, 32), np.float32), generator(1))
    told = work.prompts()
    assert told.positive is None and told.scribble_positive is None and told.previous is not None


def test_forgetting_is_of_one_interaction():
    """A withheld mask is not lost: whether it is told is drawn anew each time."""
    work = session(0, forget_previous=1.0)
    work.correct(np.zeros((32, 32), np.float32), generator(1))
    assert work.prompts().previous is None and work.previous is not None


def test_same_generator_same_session():
    def run():
        work, rng = WindowAnnotator().start(disk(), rng := generator(9)), rng
        for _ in range(4):
            work.correct(rng.random((32, 32)).astype(np.float32), rng)
        return work.prompts()

    one, other = run(), run()
    for name in ("positive", "negative", "scribble_positive", "scribble_negative", "previous"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None and b is None) or np.array_equal(a, b)


def test_far_from_new():
    """By hand: beyond 5 pixels (0.15625 of 32) of the newest click; nowhere if there is none."""
    work = session(0, correct_by=only(0, 3))
    assert not work.far_from_new(5 / 32).any()
    work.correct(np.zeros((32, 32), np.float32), generator(1))
    row, column = work.fresh[0]
    far = work.far_from_new(5 / 32)
    grid = np.indices((32, 32))
    assert np.array_equal(far, (grid[0] - row) ** 2 + (grid[1] - column) ** 2 > 25)
    work.correct(disk().astype(np.float32), generator(2))
    assert not work.far_from_new(5 / 32).any()
