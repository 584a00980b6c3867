"""Boxes: suppression, weighted fusion, and the way between a picture and the world."""
import numpy as np
import pytest

from promptzoo.core.errors import ImageError
from promptzoo.core.geometry import Grid, all_axis_codes, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.data.arrays import UPRIGHT_AFFINE
from promptzoo.inference.box_fusion import Boxes, fused, suppressed
from promptzoo.inference.picture import Picture


def test_suppression_keeps_the_best_of_overlapping_boxes():
    kept = suppressed(Boxes.of([[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 40, 40]], [0.5, 0.9, 0.2]), 0.5)
    assert kept.boxes.tolist() == [[1, 0, 11, 10], [30, 30, 40, 40]] and kept.scores.tolist() == [0.9, 0.2]
    assert len(suppressed(Boxes.of([], []))) == 0


def test_fusion_averages_what_agrees_and_lowers_what_one_saw_alone():
    first, second = Boxes.of([[0, 0, 10, 10]], [0.8]), Boxes.of([[2, 0, 12, 10], [50, 50, 60, 60]], [0.4, 0.6])
    together = fused([first, second])
    assert together.boxes[0].tolist() == pytest.approx([2 / 3, 0, 10 + 2 / 3, 10])
    assert together.scores.tolist() == pytest.approx([0.6, 0.3])
    trusted = fused([first, second], [3.0, 1.0])
    assert trusted.boxes[0][0] < together.boxes[0][0] and trusted.scores[1] < together.scores[1]
    assert len(fused([])) == 0 and len(fused([Boxes.of([], []), Boxes.of([], [])])) == 0


def picture_volume():
    """A photograph of 40 x 30 with a bright square, and its box in the picture."""
    grey = np.zeros((40, 30, 1), np.float32)
    grey[5:15, 20:26] = 200
    return Volume(grey, Grid(grey.shape, UPRIGHT_AFFINE), {"format": "raster"}), np.array([5.0, 20, 15, 26])


def test_a_photograph_is_shown_as_it_is():
    volume, box = picture_volume()
    picture = Picture.of(volume)
    assert picture.rgb.shape == (30, 40, 3) and picture.rgb[20:26, 5:15].min() > 0.7 and not picture.coloured
    assert picture.voxels(box) == ([5, 20, 0], [15, 26, 1])


@pytest.mark.parametrize("codes", all_axis_codes()[::5])
def test_any_arrangement_shows_the_same_picture_and_gives_the_same_place(codes):
    volume, box = picture_volume()
    move, grid = grid_with_codes(volume.grid, codes)
    turned = Volume(move.array(volume.data), grid, {"format": "raster"})
    first, second = Picture.of(volume), Picture.of(turned)
    assert np.array_equal(first.rgb, second.rgb)
    one, other = (np.sort(p.prompt(box).corners(), 0) for p in (first, second))
    assert np.allclose(one, other, atol=1e-6)
    low, high = second.voxels(box)
    inside = turned.data[tuple(slice(int(a), int(b)) for a, b in zip(low, high))]
    assert inside.size == 60 and inside.min() == 200
    assert np.array_equal(second.map(second.rgb[..., 0]) > 0.5, turned.data > 100)


def test_a_volume_is_refused():
    with pytest.raises(ImageError, match="single slice"):
        Picture.of(Volume(np.zeros((4, 4, 4)), Grid((4, 4, 4), np.eye(4))))


def test_colours_reach_the_picture():
    volume, _ = picture_volume()
    colours = np.zeros((40, 30, 3), np.uint8)
    colours[5:15, 20:26] = (255, 0, 51)
    picture = Picture.of(Volume(volume.data, volume.grid, {"rgb": colours}))
    assert picture.coloured and picture.rgb[22, 10].tolist() == pytest.approx([1, 0, 0.2])
