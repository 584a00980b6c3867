"""Carrying masks from slice to slice, with a segmenter whose answers are known."""
import numpy as np
import pytest
from scipy import ndimage

from promptzoo.core.errors import BundleError
from promptzoo.inference.propagation import Propagation, propagate
from promptzoo.inference.slice_answers import NO_POINTS, SliceAnswer, between_shapes, inner_point, prompts_of, ranges

SIDE = 32
BRIGHT = 100.0


def square(low, high):
    """A plane with a bright square."""
    plane = np.zeros((SIDE, SIDE), np.float32)
    plane[low:high, low:high] = BRIGHT
    return plane


def tower(*slices):
    """Planes ``[n, a, b]`` with a square each; None is an empty plane."""
    return np.stack([square(0, 0) if bounds is None else square(*bounds) for bounds in slices])


class Fake:
    """Answers the bright part in the middle of the box; counts, and can be told otherwise per slice."""

    def __init__(self, image, quality=0.9, **special):
        self.image, self.quality, self.special, self.asked = image, quality, special, []

    def __call__(self, index, told, tissue):
        """Answer one carried prompt."""
        self.asked.append(index)
        special = self.special.get(f"at{index}", {})
        plane = special.get("plane", self.image[index])
        parts, _ = ndimage.label(plane > 50)
        found = np.zeros(parts.shape, bool)
        if told.box is not None:
            middle = tuple(np.round((told.box[0] + told.box[1]) / 2).astype(int))
            found = (parts == parts[middle]) & (parts > 0)
        else:  # a correction: the mask it starts from, without the pixels around the negative clicks
            found = told.prior >= 0.5
            for point in told.negative.astype(int):
                reach = special.get("removes", 2)
                found[point[0] - reach:point[0] + reach + 1, point[1] - reach:point[1] + reach + 1] = False
        return SliceAnswer.full(found.astype(np.float32), special.get("quality", self.quality))


def anchor(image, index, quality=0.9):
    """The right answer to a slice."""
    return SliceAnswer.full((image[index] > 50).astype(np.float32), quality)


def negative(*points):
    """Negative clicks alone."""
    from promptzoo.inference.object_prompts import ObjectPrompts

    return ObjectPrompts(NO_POINTS, np.asarray(points, float), None, NO_POINTS, NO_POINTS)


def run(image, keys, fake=None, corrections=None, limits=None, **settings):
    """Carry right answers on ``keys``."""
    fake = fake or Fake(image)
    return propagate(fake, image, {key: anchor(image, key) for key in keys}, corrections, limits,
                     Propagation(**settings)), fake


def same(found, image):
    """Whether every answer is the bright square of its slice."""
    return all(np.array_equal(answer.mask, image[index] > 50) for index, answer in found.answers.items())


def stops(found):
    """``{(anchor, at): reason}``."""
    return {(stop.anchor, stop.at): stop.reason for stop in found.stops}


def test_one_anchor_fills_the_object_and_ends_where_it_ends():
    image = tower(None, None, (12, 18), (11, 20), (10, 22), (10, 22), (11, 20), None, (10, 20))
    found, fake = run(image, [4])
    assert sorted(found.answers) == [2, 3, 5, 6] and same(found, image)
    assert found.distance == {2: 2, 3: 1, 5: 1, 6: 2}
    assert stops(found) == {(4, 1): "nothing found", (4, 7): "nothing found"}
    assert sorted(fake.asked) == [1, 2, 3, 5, 6, 7], "a slice behind the stop is never asked"


def test_the_image_may_end_first():
    image = tower(*[(10, 20)] * 5)
    found, _ = run(image, [2])
    assert sorted(found.answers) == [0, 1, 3, 4]
    assert stops(found) == {(2, 0): "the end of the image", (2, 4): "the end of the image"}


def test_a_box_bounds_the_object():
    image = tower(*[(10, 20)] * 9)
    found, _ = run(image, [4], limits=(2, 6))
    assert sorted(found.answers) == [2, 3, 5]
    assert stops(found) == {(4, 1): "the end of the box", (4, 6): "the end of the box"}


@pytest.mark.parametrize("next_slice, quality, reason", [
    ((10, 22), 0.71, "estimated quality 0.71"), ((6, 26), 0.9, "area grows 2.8 times"),
    ((14, 17), 0.9, "area falls to 0.06"), ((17, 29), 0.9, "overlap 0.17"),
])
def test_rules_that_stop(next_slice, quality, reason):
    image = tower((10, 22), (10, 22), next_slice, (10, 22))
    plane = image[2]
    if next_slice == (17, 29):  # the middle of the box is not in it: let the network find it all the same
        fake = Fake(image)
        fake.__class__ = type("Found", (Fake,), {"__call__": lambda self, i, told, t: SliceAnswer.full(
            (self.image[i] > 50).astype(np.float32), 0.9)})
    else:
        fake = Fake(image, at2={"plane": plane, "quality": quality})
    found, _ = run(image, [1], fake)
    assert sorted(found.answers) == [0]
    assert next(stop.reason for stop in found.stops if stop.at == 2).startswith(reason)


def test_another_intensity_stops():
    rng = np.random.default_rng(0)
    image = tower(*[(10, 22)] * 4) + rng.normal(0, 2, (4, SIDE, SIDE)).astype(np.float32)
    image[2][10:22, 10:22] += 45  # less than half the contrast: still the same
    assert 2 in run(image, [1])[0].answers
    image[2][10:22, 10:22] += 20  # more
    found, _ = run(image, [1])
    assert sorted(found.answers) == [0] and stops(found)[1, 2] == "another intensity"


def test_a_slow_decline_of_quality_counts_from_the_anchor():
    image = tower(*[(10, 20)] * 6)
    fake = Fake(image, **{f"at{n}": {"quality": 0.9 - 0.05 * n} for n in range(6)})
    found, _ = run(image, [0], fake, min_quality=0.8)
    assert sorted(found.answers) == [1, 2, 3] and stops(found)[0, 4] == "estimated quality 0.70"


def test_between_two_anchors_both_directions_are_blended_by_distance():
    image = tower(*[(10, 20)] * 5)
    low, high = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32)
    low[10:20, 10:16], high[10:20, 14:20] = 1.0, 1.0

    def keep(index, told, tissue):  # each direction answers what it came with
        plane = np.zeros((SIDE, SIDE), np.float32)
        first, last = (np.round(face + 0.5).astype(int) for face in told.box)
        plane[first[0]:last[0], first[1]:last[1]] = 1.0
        return SliceAnswer.full(plane, 0.5)

    anchors = {0: SliceAnswer.full(low, 0.5), 4: SliceAnswer.full(high, 0.5)}
    found = propagate(keep, image, anchors, settings=Propagation(margin=0.0))
    for index, share in ((1, 0.25), (2, 0.5), (3, 0.75)):
        assert np.allclose(found.answers[index].plane, (1 - share) * low + share * high)
    assert found.distance == {1: 1, 2: 2, 3: 1} and not found.stops[1:-1] and not found.interpolated


def test_between_two_anchors_there_is_no_gap():
    """What neither direction reaches is interpolated, and said so; what one reaches is taken from it alone."""
    image = tower((8, 16), (8, 16), None, None, (12, 20), (12, 20))
    found, _ = run(image, [0, 5])
    assert sorted(found.answers) == [1, 2, 3, 4] and found.interpolated == [2, 3]
    for index, middle in ((2, 12.8), (3, 14.2)):
        at = np.argwhere(found.answers[index].mask)
        assert abs(at.mean() + 0.5 - middle) < 1.0 and len(at) > 20
    assert np.array_equal(found.answers[1].mask, image[1] > 50) and np.array_equal(found.answers[4].mask, image[4] > 50)
    assert (0, 2) in stops(found) and (5, 3) in stops(found)


def test_an_empty_anchor_ends_the_object():
    image = tower(*[(10, 20)] * 9)
    anchors = {3: anchor(image, 3), 6: SliceAnswer.full(np.zeros((SIDE, SIDE), np.float32), 0.0)}
    fake = Fake(image)
    found = propagate(fake, image, anchors)
    assert sorted(found.answers) == [0, 1, 2, 4, 5] and stops(found)[3, 6] == "an empty anchor"
    assert max(fake.asked) == 5
    assert not propagate(fake, image, {6: anchors[6]}).answers


def test_two_objects_parts_around_an_empty_anchor():
    image = tower(*[(10, 20)] * 9)
    empty = SliceAnswer.full(np.zeros((SIDE, SIDE), np.float32), 0.0)
    found = propagate(Fake(image), image, {1: anchor(image, 1), 4: empty, 7: anchor(image, 7)})
    assert sorted(found.answers) == [0, 2, 3, 5, 6, 8]


def test_negative_prompts_alone_end_the_object_or_correct_it():
    image = tower(*[(10, 20)] * 7)
    ended, fake = run(image, [1], Fake(image, at4={"removes": 6}), {4: negative((14, 14))})
    assert sorted(ended.answers) == [0, 2, 3] and stops(ended)[1, 4] == "negative prompts" and max(fake.asked) == 4
    corrected, _ = run(image, [1], None, {4: negative((11, 11))})
    assert sorted(corrected.answers) == [0, 2, 3, 4, 5, 6]
    assert not corrected.answers[4].mask[11, 11] and corrected.answers[4].mask[18, 18]
    assert corrected.answers[3].mask[11, 11]


def test_negative_prompts_between_two_anchors_leave_a_gap():
    image = tower(*[(10, 20)] * 7)
    found, _ = run(image, [1, 5], Fake(image, at3={"removes": 6}), {3: negative((14, 14))})
    assert sorted(found.answers) == [0, 2, 4, 6] and not found.interpolated


def test_what_a_mask_tells_of_the_next_slice():
    answer = anchor(tower((10, 20)), 0)
    plain = prompts_of(answer, 0.1)
    assert np.allclose(plain.box, ([8.5, 8.5], [20.5, 20.5])) and not len(plain.positive) and plain.prior is None
    full = prompts_of(answer, 0.0, True, True)
    assert np.allclose(full.box, ([9.5, 9.5], [19.5, 19.5])) and np.array_equal(full.prior, answer.plane)
    assert answer.mask[tuple(full.positive[0].astype(int))] and 13 <= full.positive[0][0] <= 15
    assert np.allclose(prompts_of(anchor(tower((0, 32)), 0), 0.5).box, ([-0.5, -0.5], [31.5, 31.5])), "cut to the slice"


def test_small_parts():
    assert ranges([5, 1, 2, 3, 9]) == [[1, 3], [5, 5], [9, 9]] and ranges([]) == []
    mask = square(4, 9) > 50
    assert tuple(inner_point(mask)) == (6, 6)
    assert np.array_equal(between_shapes(mask, mask, 0.3) >= 0.5, mask)
    plane = np.zeros((6, 7), np.float32)
    plane[2:4, 3:5] = 0.7
    assert np.array_equal(SliceAnswer.full(plane, 1.0).plane, plane) and SliceAnswer.full(plane, 1.0).nbytes == 16
    assert not SliceAnswer.full(np.zeros((6, 7)), 1.0).mask.any()


@pytest.mark.parametrize("wrong", [{"margin": -0.1}, {"most_growth": 1.0}, {"min_overlap": 1.5}, {"fade": -1.0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(BundleError, match="propagation settings"):
        Propagation(**wrong)
