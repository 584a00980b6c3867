"""Requests of Slicer, OHIF and scripts become prompt sets; no server and no MONAI Label needed."""
import numpy as np
import pytest

from promptzoo.cli.server.wire import Form, read_prompts, roi_box
from promptzoo.core.errors import ImageError, PromptError
from promptzoo.core.geometry import Grid
from promptzoo.data.io import write_mask
from promptzoo.prompts.types import Box, Point, PromptSet

GRID = Grid((20, 30, 10), np.array([[-1.0, 0, 0, 50], [0, 0, 2.0, -7], [0, 0.5, 0, 3], [0, 0, 0, 1]]))
ALL = frozenset({"point", "box", "scribble", "lasso", "mask", "text", "class"})
DEEPGROW = Form("deepgrow", {1: "object"}, ALL)
VISTA = Form("vista3d", {1: "liver", 2: "spleen", 3: "lesion"}, ALL)
DEEPEDIT = Form("deepedit", {1: "organ", 2: "lesion"}, ALL)


def clicks(prompts, object_id=1):
    """(position, positive) of the clicks on an object."""
    return [(p.position, p.positive) for p in prompts.of("point", object_id)]


def names(prompts):
    """Name by object id."""
    return {entry.object_id: entry.name for entry in prompts.objects}


def test_slicer_deepgrow():
    request = {"label": "left kidney", "foreground": [[3, 4, 5], [6, 7, 8]], "background": [[1, 1, 1]], "slice": None,
               "reset_state": True, "device": ["cpu"], "image": "/x/y.nii.gz", "client_id": "user-xyz"}
    prompts = read_prompts(request, DEEPGROW, GRID)
    assert clicks(prompts) == [((3, 4, 5), True), ((6, 7, 8), True), ((1, 1, 1), False)]
    assert names(prompts) == {1: "left kidney"} and prompts.space == "voxel"


def test_slicer_deepgrow_without_any_prompt_is_empty():
    assert len(read_prompts({"label": "object", "foreground": [], "background": []}, DEEPGROW, GRID)) == 0


def test_ohif_deepgrow_negatives_only():
    prompts = read_prompts({"foreground": [], "background": [[5, 5, 5]]}, DEEPGROW, GRID)
    assert clicks(prompts) == [((5, 5, 5), False)] and names(prompts) == {1: "object"}


def test_native_voxels_land_in_the_world_by_the_affine_of_the_file():
    prompts = read_prompts({"foreground": [[3, 4, 5]]}, DEEPGROW, GRID).to_world(GRID)
    assert prompts.prompts[0].position == pytest.approx((47, 3, 5))


def test_slicer_roi_pairs_are_sorted_half_open_and_cut_to_the_image():
    assert roi_box([12, 4, 25, 40, 3, 3], 1, GRID) == Box((4, 25, 3), (12, 30, 4), 1, "voxel")
    prompts = read_prompts({"label": "object", "foreground": [], "roi": [4, 12, 5, 9, -3, 2]}, DEEPGROW, GRID)
    assert prompts.prompts == (Box((4, 5, 0), (12, 9, 2), 1, "voxel"),)


def test_slicer_roi_on_a_2d_model_keeps_to_the_slice_of_the_clicks():
    request = {"foreground": [[6, 6, 5]], "roi": [4, 12, 5, 9, 2, 8], "slice": 5}
    assert read_prompts(request, DEEPGROW, GRID).of("box")[0] == Box((4, 5, 5), (12, 9, 6), 1, "voxel")
    alone = read_prompts({"roi": [4, 12, 5, 9, 2, 8], "slice": 5}, DEEPGROW, GRID)
    assert alone.of("box")[0].low[2] == 2  # without clicks Slicer's index is the offset in mm: not to be trusted


@pytest.mark.parametrize("roi", [[1, 2, 3], [1, 2, 3, 4, 5, "a"], {"a": 1}, [1, 2, 3, 4, 5, float("nan")]])
def test_roi_that_is_no_roi(roi):
    with pytest.raises(PromptError, match="six finite numbers"):
        roi_box(roi, 1, GRID)


def test_roi_beside_the_image():
    with pytest.raises(PromptError, match="roi outside the image"):
        roi_box([40, 50, 0, 5, 0, 5], 1, GRID)


def test_ohif_vista3d_points():
    request = {"points": [[50, 60, 19], [1, 2, 3]], "point_labels": [1, 0], "label_prompt": [3]}
    prompts = read_prompts(request, VISTA, GRID)
    assert clicks(prompts, 3) == [((50, 60, 19), True), ((1, 2, 3), False)] and names(prompts) == {3: "lesion"}


def test_ohif_vista3d_classes():
    prompts = read_prompts({"label_prompt": [3, 1]}, VISTA, GRID)
    assert [(p.name, p.object_id) for p in prompts.of("class")] == [("lesion", 3), ("liver", 1)]
    with pytest.raises(PromptError, match="label_prompt: got 7"):
        read_prompts({"label_prompt": [7]}, VISTA, GRID)


@pytest.mark.parametrize("request_, message", [
    ({"points": [[1, 2, 3]], "point_labels": [1, 0]}, "same length"),
    ({"points": [[1, 2, 3]], "point_labels": [5]}, "1 to add, 0 to remove"),
    ({"points": 5}, "same length"),
    ({"foreground": [[1, 2]]}, "wrong dimension"),
    ({"foreground": [1, 2, 3]}, "list of voxel indices"),
    ({"foreground": [["a", 2, 3]]}, "not numeric"),
    ({"foreground": [[float("nan"), 2, 3]]}, "not finite"),
    ({"foreground": {"x": 1}}, "list of voxel indices"),
    ({"object": [1, 2, 3]}, "list of voxel indices"),
    ({"text_prompt": 5}, "text"),
    ({"label_prompt": "liver"}, "label_prompt"),
    ({"prompts": "no json"}, "not JSON"),
    ({"prompts": {"schema_version": 1, "prompts": [{"kind": "smell"}]}}, "prompt kind"),
])
def test_malformed_requests_are_prompt_errors(request_, message):
    with pytest.raises(PromptError, match=message):
        read_prompts(request_, DEEPGROW, GRID)


def test_deepedit_objects_have_their_label_index_and_share_the_background():
    request = {"background": [[9, 9, 9]], "lesion": [[1, 2, 3]], "organ": [[4, 5, 6]], "label": "lesion"}
    prompts = read_prompts(request, DEEPEDIT, GRID)
    assert names(prompts) == {2: "lesion", 1: "organ"}
    assert clicks(prompts, 2) == [((1, 2, 3), True), ((9, 9, 9), False)]
    assert clicks(prompts, 1) == [((4, 5, 6), True), ((9, 9, 9), False)]


def test_deepedit_label_without_clicks_is_no_object():
    assert names(read_prompts({"organ": [], "lesion": [[1, 2, 3]]}, DEEPEDIT, GRID)) == {2: "lesion"}


def test_several_objects_of_a_click_model_are_numbered_in_their_order():
    prompts = read_prompts({"tumour": [[1, 2, 3]], "cyst": [[4, 5, 6], [7, 8, 9]]}, DEEPGROW, GRID)
    assert names(prompts) == {1: "tumour", 2: "cyst"} and len(clicks(prompts, 2)) == 2


def test_unknown_names_do_not_take_the_index_of_a_label():
    prompts = read_prompts({"something": [[1, 2, 3]], "organ": [[4, 5, 6]]}, DEEPEDIT, GRID)
    assert names(prompts) == {3: "something", 1: "organ"}


def test_option_rows_and_stale_values_are_no_objects():
    request = {"device": ["cpu"], "gpus": "all", "size": [128, 128, 128], "_image_id": [[1, 2, 3]], "points": []}
    assert len(read_prompts(request, DEEPGROW, GRID)) == 0


def test_text_prompt():
    prompts = read_prompts({"text_prompt": "the liver and its lesion", "label": "liver"}, DEEPGROW, GRID)
    assert prompts.of("text")[0].text == "the liver and its lesion" and names(prompts) == {1: "liver"}


def test_own_form_stands_alone():
    own = PromptSet((Point((1.5, 2, 3), True, 4, "world"), Point((4, 5, 6), False, 4, "world")))
    request = {"prompts": own.to_json(), "foreground": [[9, 9, 9]], "label": "x"}
    assert read_prompts(request, DEEPGROW, GRID) == own


@pytest.fixture
def scribbles(tmp_path):
    """A label file on the flipped image grid: value 1 is a mask, 2 and 3 are strokes."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:5, 2:5, 3] = 1
    labels[10, 5:9, 4] = 2
    labels[12, 5:8, 4] = 3
    moved = GRID.orientation
    return write_mask(tmp_path / "scribbles.nii.gz", moved.array(labels), moved.grid(GRID)), labels


def strokes(prompts, positive):
    """Voxels of the strokes of a sign, sorted."""
    found = [p.points for p in prompts.of("scribble") if p.positive == positive]
    return sorted(map(tuple, np.concatenate(found).astype(int).tolist())) if found else []


def test_slicer_scribbles_by_label_info(scribbles):
    file, labels = scribbles
    info = [{"name": "object", "id": 1}, {"name": "foreground_scribbles", "id": 2},
            {"name": "background_scribbles", "id": 3}]
    request = {"label": str(file), "label_info": info, "roi": [], "selected_label_name": "object"}
    prompts = read_prompts(request, DEEPGROW, GRID)
    assert strokes(prompts, True) == [tuple(v) for v in np.argwhere(labels == 2).tolist()]
    assert strokes(prompts, False) == [tuple(v) for v in np.argwhere(labels == 3).tolist()]
    assert np.array_equal(prompts.of("mask")[0].mask, labels == 1) and names(prompts) == {1: "object"}


def test_slicer_scribbles_by_rule_and_without_mask_prompts(scribbles):
    file, labels = scribbles
    prompts = read_prompts({"label": str(file)}, Form("scribbles", {1: "object"}, frozenset({"scribble"})), GRID)
    assert strokes(prompts, False) == [tuple(v) for v in np.argwhere(labels == 2).tolist()]  # len(labels) + 1
    assert strokes(prompts, True) == [tuple(v) for v in np.argwhere(labels == 3).tolist()]  # len(labels) + 2
    assert not prompts.of("mask")


def test_scribble_file_without_strokes_says_which_values_it_wants(tmp_path):
    file = write_mask(tmp_path / "empty.nii.gz", np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(PromptError, match="3 for foreground and 2 for background"):
        read_prompts({"label": str(file)}, DEEPGROW, GRID)


def test_scribble_file_of_another_image(tmp_path):
    other = Grid((20, 30, 10), np.diag([1.3, 1, 1, 1]))
    file = write_mask(tmp_path / "other.nii.gz", np.ones(other.shape, np.uint8), other)
    with pytest.raises(ImageError, match="not aligned"):
        read_prompts({"label": str(file)}, DEEPGROW, GRID)


def test_label_info_that_is_no_list(scribbles):
    with pytest.raises(PromptError, match="label_info"):
        read_prompts({"label": str(scribbles[0]), "label_info": "x"}, DEEPGROW, GRID)


@pytest.mark.parametrize("sent, on", [(True, True), ("true", True), (1, True), (False, False), ("", False),
                                      (None, False)])
def test_slicer_option_row_through_slices(sent, on):
    prompts = read_prompts({"foreground": [[1, 2, 3]], "through_slices": sent}, DEEPGROW, GRID)
    assert prompts.through_slices is on and len(prompts) == 1
    own = {"schema_version": 1, "prompts": [{"kind": "point", "position": [1, 2, 3], "space": "voxel"}]}
    assert read_prompts({"prompts": own, "through_slices": sent}, DEEPGROW, GRID).through_slices is on


def test_through_slices_of_our_own_form_and_a_wrong_one():
    own = {"schema_version": 1, "through_slices": True, "prompts": [{"kind": "point", "position": [1, 2, 3]}]}
    assert read_prompts({"prompts": own}, DEEPGROW, GRID).through_slices
    with pytest.raises(PromptError, match="through_slices: got perhaps"):
        read_prompts({"through_slices": "perhaps", "foreground": [[1, 2, 3]]}, DEEPGROW, GRID)
