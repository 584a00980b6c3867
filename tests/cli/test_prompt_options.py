"""What people type becomes the prompt set that they mean."""
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from promptzoo.cli.prompt_options import PromptOptions
from promptzoo.core.errors import ImageError, NotFoundError, PromptError
from promptzoo.core.geometry import Grid
from promptzoo.core.volume import Volume
from promptzoo.prompts.types import Box, MaskPrompt, ObjectInfo, Point, PromptSet

AFFINE = np.array([[-1.5, 0, 0, 30], [0, -1.0, 0, -12], [0, 0, 2.0, 100], [0, 0, 0, 1.0]])


@pytest.fixture
def solid():
    """A volume of 40 x 36 x 20 voxels."""
    return Volume(np.zeros((40, 36, 20)), Grid((40, 36, 20), AFFINE))


@pytest.fixture
def flat():
    """A picture of 48 x 32 pixels."""
    return Volume(np.zeros((48, 32, 1)), Grid((48, 32, 1), np.diag([-1.0, -1, 1, 1])))


def voxel(volume, **options):
    """The prompts of typed options, in voxels of the volume."""
    made = PromptOptions(**options).build(volume)
    assert made.space == "world"
    return made.to_voxel(volume.grid)


@pytest.mark.parametrize("text, position, positive, name", [
    ("10,20,5", (10, 20, 5), True, ""),
    ("10, 20, 5, -", (10, 20, 5), False, ""),
    ("10.5,20,5,+,liver", (10.5, 20, 5), True, "liver"),
    ("10,20,5,left kidney", (10, 20, 5), True, "left kidney"),
])
def test_point(solid, text, position, positive, name):
    made = voxel(solid, points=[text])
    np.testing.assert_allclose(made.prompts[0].position, position, atol=1e-9)
    assert made.prompts[0].positive is positive
    assert made.objects == (ObjectInfo(1, name),)


@pytest.mark.parametrize("text, position, positive, number", [
    ("10,20", (10, 20, 0), True, 1),
    ("10,20,-", (10, 20, 0), False, 1),
    ("10,20,+,3", (10, 20, 0), True, 3),
    ("10,20,0,3", (10, 20, 0), True, 3),
])
def test_point_on_a_picture(flat, text, position, positive, number):
    point = voxel(flat, points=[text]).prompts[0]
    np.testing.assert_allclose(point.position, position, atol=1e-9)
    assert (point.positive, point.object_id) == (positive, number)


def test_two_coordinates_follow_the_slice_of_a_2d_image_that_lies_elsewhere():
    sagittal = Volume(np.zeros((1, 36, 20)), Grid((1, 36, 20), AFFINE))
    np.testing.assert_allclose(voxel(sagittal, points=["7,8"]).prompts[0].position, (0, 7, 8), atol=1e-9)
    box = voxel(sagittal, boxes=["1,2,7,8"]).prompts[0]
    np.testing.assert_allclose((box.low, box.high), ((0, 1, 2), (1, 7, 8)), atol=1e-6)


def test_world_coordinates(solid):
    made = PromptOptions(points=["-12.5,-30,110"], space="world").build(solid)
    assert made.prompts[0].position == (-12.5, -30.0, 110.0)
    with pytest.raises(PromptError, match="two coordinates.*three numbers for world"):
        PromptOptions(points=["1,2"], space="world").build(solid)


@pytest.mark.parametrize("text, low, high, number", [
    ("1,2,3,10,12,13", (1, 2, 3), (10, 12, 13), 1),
    ("1,2,3,10,12,13,7", (1, 2, 3), (10, 12, 13), 7),
])
def test_box(solid, text, low, high, number):
    box = voxel(solid, boxes=[text]).prompts[0]
    np.testing.assert_allclose((box.low, box.high), (low, high), atol=1e-6)
    assert box.object_id == number


@pytest.mark.parametrize("text, number", [("1,2,10,12", 1), ("1,2,10,12,4", 4), ("1,2,0,10,12,1", 1)])
def test_box_on_a_picture(flat, text, number):
    box = voxel(flat, boxes=[text]).prompts[0]
    np.testing.assert_allclose((box.low, box.high), ((1, 2, 0), (10, 12, 1)), atol=1e-6)
    assert box.object_id == number


def test_labels_are_ids_or_names_and_names_take_the_free_ids(solid):
    made = voxel(solid, points=["1,1,1,2", "2,2,2,spleen", "3,3,3,liver", "4,4,4", "5,5,5,-,spleen"])
    assert {o.object_id: o.name for o in made.objects} == {1: "", 2: "", 3: "spleen", 4: "liver"}
    assert [p.object_id for p in made.prompts] == [2, 3, 4, 1, 3]


def test_names_of_a_prompt_file_are_known(solid, tmp_path):
    known = PromptSet((Point((1, 2, 3), True, 5, "voxel"), Box((1, 1, 1), (4, 4, 4), 1, "voxel")),
                      (ObjectInfo(5, "liver"), ObjectInfo(1)))
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(known.to_json()))
    made = voxel(solid, files=[file], points=["7,7,7,liver", "8,8,8,spleen", "9,9,9"])
    assert [p.object_id for p in made.prompts] == [5, 1, 5, 2, 1]
    assert {o.object_id: o.name for o in made.objects} == {1: "", 2: "spleen", 5: "liver"}
    np.testing.assert_allclose(made.prompts[0].position, (1, 2, 3), atol=1e-9)


def test_lasso(solid, flat, tmp_path):
    lasso = voxel(solid, lassos=["1,1,4;9,1,4;9,9,4;-;liver"])
    np.testing.assert_allclose(lasso.prompts[0].points, [(1, 1, 4), (9, 1, 4), (9, 9, 4)], atol=1e-9)
    assert not lasso.prompts[0].positive and lasso.objects[0].name == "liver"
    np.testing.assert_allclose(voxel(flat, lassos=["1,1;9,1;9,9"]).prompts[0].points[:, 2], 0, atol=1e-9)
    file = tmp_path / "outline, of 1.json"
    file.write_text("[[1,1,4],[9,1,4],[9,9,4]]")
    from_file = voxel(solid, lassos=[f"{file},-,liver"])
    np.testing.assert_allclose(from_file.prompts[0].points, lasso.prompts[0].points)
    assert not from_file.prompts[0].positive and from_file.objects == lasso.objects
    long = ";".join(f"{i % 30},{i % 29},4" for i in range(400))  # longer than any file name
    assert len(voxel(solid, lassos=[long]).prompts[0].points) == 400


def test_scribble_text_files(solid, flat, tmp_path):
    strokes = tmp_path / "strokes.json"
    strokes.write_text(json.dumps([{"points": [[1, 1, 1], [2, 2, 2]], "label": "liver"},
                                   {"points": [[5, 5, 5]], "positive": False, "label": "liver"}]))
    made = voxel(solid, scribbles=[str(strokes)])
    assert [(p.positive, len(p.points)) for p in made.prompts] == [(True, 2), (False, 1)]
    assert [o.name for o in made.objects] == ["liver"]
    table = tmp_path / "strokes.csv"
    table.write_text("x,y,sign,label\n1,2,+,a\n3,4,+,a\n5,6,-,a\n7,8,+,b\n")
    made = voxel(flat, scribbles=[str(table)])
    assert [(p.object_id, p.positive, p.points.tolist()) for p in made.prompts] == [
        (1, True, [[1, 2, 0], [3, 4, 0]]), (1, False, [[5, 6, 0]]), (2, True, [[7, 8, 0]])]


def test_scribble_label_map_is_one_stroke_per_value_whatever_its_axis_order(solid, tmp_path):
    painted = np.zeros((40, 36, 20), np.uint8)
    painted[3:6, 4, 5], painted[20, 21, 7] = 2, 3
    file = tmp_path / "painted.nii.gz"
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 39
    nibabel.save(nibabel.Nifti1Image(painted[::-1], AFFINE @ flipped), file)
    made = PromptOptions(scribbles=[str(file)], space="world").build(solid).to_voxel(solid.grid)
    found = {p.object_id: p.points for p in made.prompts}
    np.testing.assert_allclose(found[2], [(3, 4, 5), (4, 4, 5), (5, 4, 5)], atol=1e-9)
    np.testing.assert_allclose(found[3], [(20, 21, 7)], atol=1e-9)
    merged = voxel(solid, scribbles=[f"{file},-,liver"])
    assert len(merged.prompts) == 1 and len(merged.prompts[0].points) == 4 and not merged.prompts[0].positive


def test_scribble_pictures(flat, tmp_path):
    colored = np.zeros((32, 48, 3), np.uint8)
    colored[4, 10:20, 0], colored[20, 5, 1] = 255, 255  # row 4, columns 10 to 19 red; row 20, column 5 green
    Image.fromarray(colored).save(tmp_path / "colored.png")
    positive, negative = voxel(flat, scribbles=[str(tmp_path / "colored.png")]).prompts
    assert positive.positive and positive.points.tolist() == [[x, 4, 0] for x in range(10, 20)]
    assert not negative.positive and negative.points.tolist() == [[5, 20, 0]]
    Image.fromarray(colored[..., 0]).save(tmp_path / "white.png")
    only = voxel(flat, scribbles=[str(tmp_path / "white.png")]).prompts
    assert [(p.object_id, len(p.points)) for p in only] == [(1, 10)]


def test_mask(solid, tmp_path):
    labels = np.zeros((40, 36, 20), np.uint8)
    labels[3:6, 4, 5], labels[20, 21, 7] = 2, 3
    file = tmp_path / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), file)
    made = voxel(solid, masks=[f"{file}=2", f"{file}=3,spleen"])
    assert all(isinstance(p, MaskPrompt) for p in made.prompts)
    assert [(p.object_id, int(p.mask.sum())) for p in made.prompts] == [(1, 3), (2, 1)]
    assert voxel(solid, masks=[str(file)]).prompts[0].mask.sum() == 4


@pytest.mark.parametrize("options, message", [
    ({}, "no prompt"),
    ({"points": ["1,2"]}, "two coordinates.*volume of"),
    ({"points": ["a,b,c"]}, "--point: got a,b,c; allowed: 2 or 3 numbers"),
    ({"points": ["1,2,3,+,liver,spleen"]}, "--point: got 1,2,3,\\+,liver,spleen"),
    ({"points": ["1,2,3,"]}, "--point: got 1,2,3,"),
    ({"points": ["1,2,3,0"]}, "object id in --point: got 0"),
    ({"points": ["1,2,3,70000"]}, "object id in --point: got 70000"),
    ({"points": ["1,2,3,-4"]}, "label in --point: got -4"),
    ({"points": ["1,2,nan"]}, "point is not finite"),
    ({"points": ["1,2,3"], "space": "pixels"}, "--space: got pixels; allowed: world or voxel"),
    ({"boxes": ["1,2,3"]}, "--box: got 1,2,3; allowed: 4 or 6 numbers"),
    ({"boxes": ["1,2,3,1,5,6"]}, "min >= max"),
    ({"boxes": ["1,2,9,9"]}, "box with two coordinates"),
    ({"boxes": ["1,2,3,9,9,9,-"]}, "--box with a minus"),
    ({"lassos": ["1,1,1;2,2,1"]}, "lasso is too short"),
    ({"lassos": ["1,1,1;2,x,1;3,3,1"]}, "coordinates in --lasso"),
    ({"lassos": ["1,1,1;2,2,1;3,3,1,4"]}, "two or three numbers"),
])
def test_wrong_text_is_refused(solid, options, message):
    with pytest.raises(PromptError, match=message):
        PromptOptions(**options).build(solid)


def test_wrong_files_are_refused(solid, flat, tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    for option in ("scribbles", "lassos", "masks", "files"):
        with pytest.raises(NotFoundError, match="nowhere"):
            PromptOptions(**{option: [str(tmp_path / "nowhere.json")]}).build(solid)
    for name, text, message in (
            ("empty.json", "[]", "no stroke in empty.json"), ("broken.json", "{", "broken.json is not JSON"),
            ("odd.json", '{"points": 3}', "stroke in odd.json"), ("row.csv", "1,2,3\n1,x\n", "row 2 of row.csv"),
            ("sign.json", '{"points": [[1,2,3]], "positive": 0}', "sign in sign.json")):
        with pytest.raises(PromptError, match=message):
            PromptOptions(scribbles=[write(name, text)]).build(solid)
    with pytest.raises(PromptError, match="not JSON"):
        PromptOptions(files=[write("set.json", "nothing")]).build(solid)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(PromptError, match="scribble picture small.png"):
        PromptOptions(scribbles=[str(tmp_path / "small.png")]).build(flat)
    with pytest.raises(PromptError, match="outline file"):
        PromptOptions(lassos=[str(tmp_path / "small.png")]).build(flat)
    with pytest.raises(PromptError, match="empty mask small.png: got no voxel of 7"):
        PromptOptions(masks=[f"{tmp_path / 'small.png'}=7"]).build(flat)
    with pytest.raises(PromptError, match="--mask"):
        PromptOptions(masks=[f"{tmp_path / 'small.png'}=x"]).build(flat)
    with pytest.raises(ImageError):
        PromptOptions(masks=[write("text.nii.gz", "no image")]).build(solid)


def test_classes_name_their_objects(solid):
    made = voxel(solid, classes=["liver", "kidney left, 7", "spleen, the other"])
    assert [(p.name, p.object_id) for p in made.prompts] == [("liver", 1), ("kidney left", 7), ("spleen", 2)]
    assert {o.object_id: o.name for o in made.objects} == {1: "liver", 7: "", 2: "the other"}


def test_attributes_speak_of_an_object(solid):
    made = voxel(solid, attributes=["side=left", "grade = 3, 2", "size=large,tumour"])
    assert [(p.name, p.value, p.object_id) for p in made.prompts] == [
        ("side", "left", 1), ("grade", "3", 2), ("size", "large", 3)]
    assert {o.object_id: o.name for o in made.objects} == {1: "", 2: "", 3: "tumour"}
    for text in ("left", "=left", "side="):
        with pytest.raises(PromptError, match="NAME=VALUE"):
            voxel(solid, attributes=[text])


def test_finished_cases_are_references(solid, tmp_path, monkeypatch):
    """Image and mask that exist, a label value and an object; names with commas and equal signs, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.nii.gz", "b.nii.gz", "odd,name=1.nii.gz"):
        (tmp_path / name).touch()
    made = voxel(solid, examples=["a.nii.gz;b.nii.gz", "a.nii.gz;b.nii.gz=5,liver", "a.nii.gz;odd,name=1.nii.gz"])
    told = [(p.image, p.mask, p.label_value, p.object_id) for p in made.of("reference")]
    assert told == [("a.nii.gz", "b.nii.gz", 1, 1), ("a.nii.gz", "b.nii.gz", 5, 2),
                    ("a.nii.gz", "odd,name=1.nii.gz", 1, 1)]
    for text in ("a.nii.gz", "a.nii.gz;none.nii.gz", ";b.nii.gz"):
        with pytest.raises(NotFoundError, match="--example"):
            voxel(solid, examples=[text])
