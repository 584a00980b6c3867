"""Overlay pictures: what is drawn lies where it belongs, windows suit the image, bad requests are refused."""
import numpy as np
import pytest
from PIL import Image

from promptzoo.core.errors import ImageError
from promptzoo.core.geometry import Grid, all_axis_codes, grid_with_codes
from promptzoo.core.volume import Volume
from promptzoo.data.colors import object_color
from promptzoo.data.overlay import overlay_png, prompt_center
from promptzoo.data.planes import Plane, planes_of
from promptzoo.data.windows import WINDOWS, display_window, looks_like_hu, named_window
from promptzoo.prompts.types import Box, Lasso, MaskPrompt, ObjectInfo, Point, PromptSet, Scribble

RAS = Grid((20, 30, 10), np.diag([2.0, 1.0, 3.0, 1.0]))


@pytest.fixture
def volume():
    data = np.random.default_rng(0).normal(100, 20, RAS.shape)
    return Volume(data, RAS)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def near(picture, color, reach=40):
    """Pixels ``(row, column)`` of about a colour."""
    return np.argwhere(np.abs(picture - np.asarray(color)).max(axis=-1) < reach)


# planes

@pytest.mark.parametrize("axis, name, letters, screen", [
    (2, "axial", "RLAP", ((20 - 1 - 3 + 0.5) * 2, (30 - 1 - 4 + 0.5) * 1)),
    (1, "coronal", "RLSI", ((20 - 1 - 3 + 0.5) * 2, (10 - 1 - 5 + 0.5) * 3)),
    (0, "sagittal", "APSI", ((30 - 1 - 4 + 0.5) * 1, (10 - 1 - 5 + 0.5) * 3))])
def test_radiological_convention_by_hand(axis, name, letters, screen):
    plane = Plane(RAS, axis, (3, 4, 5)[axis])
    assert plane.name == name and "".join(plane.edge_letters) == letters
    assert plane.place((3, 4, 5)).tolist() == list(screen)
    spot = np.zeros(RAS.shape)
    spot[3, 4, 5] = 1
    row, column = np.argwhere(plane.cut(spot))[0]
    width, height = plane.size_mm
    rows, columns = plane.cut(spot).shape
    assert ((column + 0.5) * width / columns, (row + 0.5) * height / rows) == screen


@pytest.mark.parametrize("codes", all_axis_codes(), ids="".join)
def test_every_axis_arrangement_looks_the_same(codes):
    data = np.random.default_rng(1).random(RAS.shape)
    move, grid = grid_with_codes(RAS, codes)
    spot = np.array((3, 4, 5))
    moved = grid.to_index(RAS.to_world(spot))
    for axis in range(3):
        wanted = Plane(RAS, axis, int(spot[axis]))
        source = grid.orientation.order[axis]
        plane = Plane(grid, axis, int(round(moved[source])))
        assert np.array_equal(plane.cut(move.array(data)), wanted.cut(data))
        assert np.allclose(plane.place(moved), wanted.place(spot)) and plane.size_mm == wanted.size_mm
        assert abs(plane.distance_vox(moved)) < 1e-9


def test_a_picture_stands_upright():
    grid = Grid((8, 5, 1), np.diag([-1.0, -1, 1, 1]))  # as PNGs are read: columns, rows
    data = np.arange(40).reshape(8, 5, 1)
    plane = planes_of(grid, np.zeros(3))[0]
    assert plane.source_axis == 2 and np.array_equal(plane.cut(data), data[:, :, 0].T)
    assert plane.place((7, 0, 0)).tolist() == [7.5, 0.5]


def test_choice_of_planes():
    assert [p.name for p in planes_of(RAS, np.array((1, 2, 3.4)))] == ["axial", "coronal", "sagittal"]
    assert [p.index for p in planes_of(RAS, np.array((1, 99, 3.4)))] == [3, 29, 1]
    assert planes_of(RAS, np.zeros(3), 1, 7)[0] == Plane(RAS, 1, 7)
    assert planes_of(RAS, np.zeros(3), "sagittal")[0].axis == 0
    thin = Grid((1, 30, 10), RAS.affine)
    assert [p.name for p in planes_of(thin, np.zeros(3))] == ["sagittal"]
    with pytest.raises(ImageError, match="slice axis: got sideways; allowed: 0, 1, 2, sagittal"):
        planes_of(RAS, np.zeros(3), "sideways")
    with pytest.raises(ImageError, match="slice index: got 10; allowed: 0 … 9"):
        planes_of(RAS, np.zeros(3), 2, 10)
    with pytest.raises(ImageError, match="slice index without an axis"):
        planes_of(RAS, np.zeros(3), None, 3)


def test_center_follows_the_prompts(volume):
    click, minus = Point((3, 4, 5), space="voxel"), Point((9, 9, 9), False, space="voxel")
    box = Box((2, 2, 2), (5, 6, 3), space="voxel")
    labels = np.zeros(RAS.shape, np.uint8)
    labels[5:9, 6:9, 7] = 1
    labels[6, 7, 2:8] = 1

    def center(*prompts, labelmap=None):
        return prompt_center(volume, labelmap, PromptSet(prompts)).tolist()

    assert center(click, minus, box) == [3, 4, 5] and center(minus, box) == [9, 9, 9]
    assert center(box) == [3, 3.5, 2]
    assert center(Scribble([[1, 1, 1], [2, 1, 1], [3, 1, 1]], space="voxel")) == [2, 1, 1]
    assert center(labelmap=labels) == [6, 7, 7]
    assert center(MaskPrompt(labels > 0, RAS)) == [6, 7, 7]
    assert prompt_center(volume, None, None).tolist() == [9.5, 14.5, 4.5]
    world = PromptSet((click,)).to_world(RAS)
    assert np.allclose(prompt_center(volume, None, world), (3, 4, 5))


# pictures

def test_colours_lie_where_the_prompts_are(tmp_path, volume):
    labels = np.zeros(RAS.shape, np.uint16)
    labels[2:6, 20:26, 5] = 1
    prompts = PromptSet((Point((3, 22, 5), True, 1, "voxel"), Point((15, 5, 5), False, 1, "voxel"))).to_world(RAS)
    path = overlay_png(tmp_path / "deep" / "a.png", volume, labels, prompts, slice_axis="axial")
    picture = pixels(path)
    green, red = near(picture, (34, 197, 94)).mean(0), near(picture, (239, 68, 68)).mean(0)
    orange = near(picture[: int(0.9 * len(picture))], object_color(1))  # without the legend
    middle = (orange.min(0) + orange.max(0)) / 2
    assert green[1] > red[1]  # voxel i = 3 lies left in the patient: on the right of the picture
    assert green[0] < red[0]  # j = 22 lies in front: on top
    assert np.abs(green - middle).max() < 0.06 * picture.shape[0]  # in the middle of the outline
    width_per_mm = (green[1] - red[1]) / (12 * 2.0)
    height_per_mm = (red[0] - green[0]) / (17 * 1.0)
    assert width_per_mm == pytest.approx(height_per_mm, rel=0.03)  # true proportions


def test_three_planes_with_everything(tmp_path, volume):
    labels = np.zeros(RAS.shape, bool)
    labels[4:9, 8:15, 3:7] = True
    drawn = (Point((6, 10, 5), True, 1, "voxel"), Point((6, 10, 2), False, 1, "voxel"),
             Box((3, 7, 2), (10, 16, 8), 1, "voxel"), Scribble([[5, 9, 5], [6, 9, 5]], True, 2, "voxel"),
             Lasso([[5, 9, 5], [8, 9, 5], [8, 12, 5]], False, 2, "voxel"), MaskPrompt(labels, RAS, 2))
    prompts = PromptSet(drawn, (ObjectInfo(1, "liver"), ObjectInfo(2, "cyst", (250, 20, 240))))
    one = pixels(overlay_png(tmp_path / "one.png", volume, labels, prompts, slice_axis=2))
    three = pixels(overlay_png(tmp_path / "three.png", volume, labels, prompts, title="title"))
    assert three.shape[1] > 1.3 * one.shape[1]
    assert len(near(three, (250, 20, 240))) > 20  # the second object's own colour
    first = pixels(overlay_png(tmp_path / "bare.png", volume))
    assert len(near(first, object_color(1))) == 0


def test_colour_slice(tmp_path):
    grid = Grid((30, 20, 1), np.diag([-1.0, -1, 1, 1]))
    rgb = np.zeros((30, 20, 3), np.uint8)
    rgb[:, :, 2] = 255
    photo = Volume(np.zeros(grid.shape), grid, {"rgb": rgb, "format": "raster"})
    picture = pixels(overlay_png(tmp_path / "a.png", photo, np.zeros(grid.shape, np.uint8)))
    assert (np.abs(picture - (0, 0, 255)).max(-1) < 10).mean() > 0.8


def test_many_objects_and_a_constant_image(tmp_path):
    grid = Grid((40, 40, 1), np.diag([-1.0, -1, 1, 1]))
    labels = np.arange(1600).reshape(40, 40, 1) // 80
    assert overlay_png(tmp_path / "a.png", Volume(np.zeros(grid.shape), grid), labels).stat().st_size > 1000


def test_refusals(tmp_path, volume):
    with pytest.raises(ImageError, match=r"label map does not fit the image: got \[2, 2, 2\]"):
        overlay_png(tmp_path / "a.png", volume, np.zeros((2, 2, 2)))
    with pytest.raises(ImageError, match="display window: got x-ray; allowed: soft, lung"):
        overlay_png(tmp_path / "a.png", volume, window="x-ray")
    with pytest.raises(ImageError, match="black below white"):
        named_window((5, 5))
    assert not (tmp_path / "a.png").exists()


# windows

def ct(**meta):
    data = np.full((30, 30, 10), -1000.0)
    data[5:25, 5:25], data[10:14, 10:14], data[15:20, 15:20] = 40, -850, 700
    return Volume(data, Grid((30, 30, 10), np.eye(4)), meta)


def test_ct_is_recognised():
    assert looks_like_hu(ct()) and looks_like_hu(Volume(np.full((2, 2, 2), 40.0), Grid((2, 2, 2), np.eye(4)),
                                                        {"modality": "CT"}))
    assert not looks_like_hu(ct(modality="PT")) and not looks_like_hu(ct(format="raster"))
    stripped = np.zeros((20, 20, 20))
    stripped[5:15, 5:15] = np.random.default_rng(0).normal(0, 900, (10, 10, 20))  # a normalised brain on zeros
    assert not looks_like_hu(Volume(stripped, Grid(stripped.shape, np.eye(4))))


def test_windows_follow_the_focus():
    volume = ct()
    focus = np.zeros(volume.grid.shape, bool)
    assert display_window(volume) == display_window(volume, focus) == WINDOWS["soft"]
    focus[10:14, 10:14] = True
    assert display_window(volume, focus) == WINDOWS["lung"]
    assert display_window(volume, volume.data == 700) == WINDOWS["bone"]


def test_other_images_get_percentiles():
    data = np.zeros((50, 50, 4))
    data[10:40, 10:40] = np.linspace(100, 500, 900).reshape(30, 30, 1)
    data[0, 0, 0] = 90000  # a hot pixel must not blacken the rest
    low, high = display_window(Volume(data, Grid(data.shape, np.eye(4)), {"modality": "MR"}))
    assert low == 0 and high > 400
    flat = display_window(Volume(np.full((3, 3, 3), 7.0), Grid((3, 3, 3), np.eye(4))))
    assert flat == (6.5, 7.5)
