"""Prompts read off hand-made maps."""
import numpy as np
import pytest
from scipy import ndimage

from promptzoo.core.errors import BundleError
from promptzoo.inference.auto_maps import HeadMaps
from promptzoo.inference.auto_prompts import (
    SOURCES,
    AutoPrompt,
    boxes_of_components,
    centres,
    confident_points,
    deepest_points,
    dense_map,
    detector_boxes,
    topological_points,
    uncertain_edges,
)
from promptzoo.inference.persistence import persistent_peaks

SIDE = 64
DISKS = ((20, 16, 8), (20, 33, 8), (48, 44, 6))  # row, column, radius in cells; the first two touch


def _maps(disks=DISKS):
    rows, columns = np.indices((SIDE, SIDE))
    foreground, centre, size = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE)), np.ones((2, SIDE, SIDE))
    for row, column, radius in disks:
        away = np.hypot(rows - row, columns - column)
        foreground = np.maximum(foreground, 1 / (1 + np.exp(np.clip(2 * (away - radius - 0.5), -30, 30))))
        centre = np.maximum(centre, np.exp(-away ** 2 / 4))
        size[:, away <= 3] = 2 * (2 * radius + 1)
    return HeadMaps(foreground, centre, size, foreground * 2 - 1)


def _pixel(row, column):
    return np.array([2 * row + 0.5, 2 * column + 0.5])


def _inside(points, disks=DISKS):
    """Which disk each point (window pixels) lies in; -1 for none."""
    cells = (np.asarray(points) + 0.5) / 2 - 0.5
    hit = [[np.hypot(*(cell - disk[:2])) <= disk[2] + 0.5 for disk in disks] for cell in cells]
    return [row.index(True) if any(row) else -1 for row in hit]


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_gives_nothing(source):
    maps = HeadMaps(*np.full((2, SIDE, SIDE), 0.01), np.full((2, SIDE, SIDE), 10.0),
                    ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(SIDE, SIDE)), 2))
    assert SOURCES[source](maps, AutoPrompt(source)) == []


def test_components_are_boxed_and_touching_ones_share_a_box():
    found = boxes_of_components(_maps(), AutoPrompt("components", margin=0.0, with_point=True))
    assert len(found) == 2
    low, high = found[1].box
    assert np.allclose(low, [2 * 42 - 0.5, 2 * 38 - 0.5]) and np.allclose(high, [2 * 55 - 0.5, 2 * 51 - 0.5])
    assert np.allclose(found[1].positive, _pixel(48, 44))
    wider = boxes_of_components(_maps(), AutoPrompt("components", margin=0.1, with_mask=True))[1]
    assert np.allclose(low - wider.box[0], 0.1 * 26) and wider.mask.sum() > 100 and wider.mask[48, 44]


def test_what_is_nowhere_sure_is_no_object():
    maps = _maps()
    faint = np.where(np.indices((SIDE, SIDE))[0] > 34, 0.8, 1.0) * maps.foreground  # the third disk
    dim = HeadMaps(faint, maps.centre, maps.size, maps.view)
    assert [len(boxes_of_components(dim, AutoPrompt("components", sure=sure))) for sure in (0.75, 0.92)] == [2, 1]


def test_confident_points_lie_in_their_object_and_outside_all():
    found = confident_points(_maps(), AutoPrompt("points", points=3))
    assert sorted(_inside([c.at for c in found])) == [0, 1, 2]
    for candidate in found:
        own = _inside([candidate.at])[0]
        assert len(candidate.positive) == 3 and set(_inside(candidate.positive)) == {own}
        assert len(candidate.negative) == 3 and set(_inside(candidate.negative)) == {-1}


def test_a_centre_each():
    found = centres(_maps(), AutoPrompt("centre"))
    assert sorted(_inside([c.positive[0] for c in found])) == [0, 1, 2]
    assert all(len(c.positive) == 1 and c.box is None for c in found)


def test_the_deepest_cell_of_each_part_of_touching_objects():
    found = deepest_points(_maps(), AutoPrompt("deepest"))
    assert sorted(_inside([c.positive[0] for c in found])) == [0, 1, 2]
    near = [min(np.hypot(*(c.positive[0] - _pixel(*disk[:2]))) for disk in DISKS) for c in found]
    assert max(near) <= 4


def test_detections_have_the_predicted_size_and_are_suppressed():
    found = detector_boxes(_maps(), AutoPrompt("detector", margin=0.0))
    assert len(found) == 3 and np.allclose(sorted((c.box[1] - c.box[0])[0] for c in found), [26, 34, 34])
    close = _maps(((20, 16, 8), (20, 21, 8)))
    assert len(centres(close, AutoPrompt("centre"))) == 2
    assert len(centres(close, AutoPrompt("centre", apart=0.4))) == 1 and len(centres(_maps(), AutoPrompt(
        "centre", apart=0.4))) == 3
    assert len(detector_boxes(close, AutoPrompt("detector", overlap=0.4))) == 1
    assert len(detector_boxes(close, AutoPrompt("detector", with_point=True))[0].positive) == 1


def test_the_dense_map_is_all_confident_foreground():
    found, = dense_map(_maps(), AutoPrompt("dense", confident=0.95))
    assert found.whole and np.array_equal(found.mask, _maps().foreground >= 0.95)


def test_edges_are_prompted_where_they_are_uncertain():
    maps = _maps(DISKS[2:])
    blurred = maps.foreground.copy()
    blurred[:, 44:] = ndimage.gaussian_filter(maps.foreground, 1.5)[:, 44:]  # the right side is less sure
    found, = uncertain_edges(HeadMaps(blurred, maps.centre, maps.size, maps.view), AutoPrompt("edge", points=4))
    assert set(_inside(found.positive, DISKS[2:])) == {0} and set(_inside(found.negative, DISKS[2:])) == {-1}
    gap = [min(np.hypot(*(p - n)) for n in found.negative) for p in found.positive]
    assert max(gap) > min(gap), "where it is less sure the two sides lie farther apart"


@pytest.mark.parametrize("sign", (1, -1))
def test_topology_finds_bright_or_dark_objects_but_no_ripple(sign):
    maps = _maps()
    rows, columns = np.indices((SIDE, SIDE))
    ripple = 0.02 * np.sin(rows) * np.sin(columns)
    hills = sum(np.exp(-((rows - r) ** 2 + (columns - c) ** 2) / radius ** 2) for r, c, radius in DISKS)
    view = sign * (hills + ripple)
    found = topological_points(HeadMaps(maps.foreground, maps.centre, maps.size, view), AutoPrompt("topology"))
    assert sorted(_inside([c.positive[0] for c in found])) == [0, 1, 2]


def test_persistence_by_hand():
    image = np.array([[0.0, 5.0, 2.0, 4.0, 1.0, 1.5]])
    assert [(place[1], value) for place, value in persistent_peaks(image, 0.0)] == [(1, 5.0), (3, 2.0), (5, 0.5)]
    assert [place[1] for place, _ in persistent_peaks(image, 1.0)] == [1, 3]
    assert len(persistent_peaks(np.zeros((4, 4)), 0.1)) == 0


@pytest.mark.parametrize("wrong", ({"source": "guess"}, {"threshold": 1.5}, {"confident": 0.3}, {"points": 0},
                                   {"loops": -1}))
def test_settings_are_checked(wrong):
    with pytest.raises(BundleError, match="automatic prompts"):
        AutoPrompt(**wrong)
