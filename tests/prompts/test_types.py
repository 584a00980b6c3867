"""Prompts as data: what is refused and how, and the JSON form."""
import base64
import copy
import dataclasses
import json
import subprocess
import sys
import zlib

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptzoo.core.errors import PromptError
from promptzoo.core.geometry import Grid
from promptzoo.prompts.types import (
    KINDS,
    SCHEMA_VERSION,
    AttributePrompt,
    Box,
    ClassPrompt,
    Lasso,
    MaskPrompt,
    ObjectInfo,
    Point,
    PromptSet,
    ReferencePrompt,
    Scribble,
    TaskPrompt,
    TextPrompt,
    from_json,
    json_schema,
    to_json,
)

GRID = Grid((10, 12, 8), np.array([[-0.7, 0.1, 0, 31.3], [0.1, 0.8, 0, -9.1], [0, 0, 2.5, 1 / 3], [0, 0, 0, 1]]))
SQUARE = [(1, 1, 2), (5, 1, 2), (5, 6, 2), (1, 6, 2)]


def one_of_each():
    """One prompt of every kind, in voxel space."""
    mask = np.zeros(GRID.shape, bool)
    mask[2:5, 3, 1:7] = mask[9, 11, 7] = True
    return {"point": Point((1 / 3, 2, 0.1), False, 2, "voxel"), "box": Box((1, 2, 3), (4.5, 6, 7), space="voxel"),
            "scribble": Scribble([(0, 0, 0), (1.5, 2, 3)], False, 4, "voxel"), "lasso": Lasso(SQUARE, space="voxel"),
            "mask": MaskPrompt(mask, GRID, 3), "text": TextPrompt("left kidney, größer", 2),
            "class": ClassPrompt("liver"), "attribute": AttributePrompt("size", "large"),
            "reference": ReferencePrompt("case-1.nii.gz", "case-1-mask.nii.gz", 4),
            "task": TaskPrompt("sequence", "T1")}


# Refused at construction, with a message

@pytest.mark.parametrize("make, message", [
    (lambda: Point((1, 2)), r"point has the wrong dimension: got \(1, 2\); allowed: three numbers.*2D image give 0"),
    (lambda: Point((1, 2, 3, 4)), "point has the wrong dimension"),
    (lambda: Point(((1, 2, 3),)), "point has the wrong dimension"),
    (lambda: Point((1, 2, float("nan"))), "point is not finite: got .*nan.*three finite numbers"),
    (lambda: Point((1, float("inf"), 2)), "point is not finite"),
    (lambda: Point(("a", 1, 2)), "point is not numeric: got .*'a'"),
    (lambda: Point((1, 2, 3), object_id=0), "object id: got 0; allowed: an integer from 1 to 65535"),
    (lambda: Point((1, 2, 3), object_id=65536), "object id: got 65536"),
    (lambda: Point((1, 2, 3), object_id=True), "object id: got True"),
    (lambda: Point((1, 2, 3), object_id=1.0), "object id: got 1.0"),
    (lambda: Point((1, 2, 3), space="lps"), "prompt space: got lps; allowed: world or voxel"),
    (lambda: Box((1, 2), (3, 4, 5)), "box lower corner has the wrong dimension"),
    (lambda: Box((1, 2, 3), (3, 4, float("nan"))), "box upper corner is not finite"),
    (lambda: Box((1, 2, 3), (4, 2, 5)), r"box with min >= max: got \[1.0, 2.0, 3.0\] … \[4.0, 2.0, 5.0\].*k \+ 1"),
    (lambda: Box((1, 2, 3), (0, 4, 5)), "box with min >= max"),
    (lambda: Box((0, 0, 0), (1, 1, 1), axes=np.ones((3, 3))), "box axes: got .*three independent columns"),
    (lambda: Box((0, 0, 0), (1, 1, 1), axes=np.eye(2)), "box axes: got"),
    (lambda: Box((0, 0, 0), (1, 1, 1), axes="LPS"), "box axes are not numeric: got LPS"),
    (lambda: Box((0, 0, 0), (1, 1, 1), space="voxel", axes=2 * np.eye(3)), "box axes in voxel space: .*the identity"),
    (lambda: Scribble([]), "empty scribble: got no points; allowed: at least 1 .*Draw it again"),
    (lambda: Scribble([(1, 2)]), r"scribble has the wrong dimension: got \[1, 2\]; allowed: \[n, 3\]"),
    (lambda: Scribble((1, 2, 3)), "scribble has the wrong dimension"),
    (lambda: Scribble([(1, 2, np.nan)]), "scribble is not finite: got NaN or infinite coordinates"),
    (lambda: Scribble([("a", 1, 2)]), "scribble is not numeric"),
    (lambda: Lasso(SQUARE[:2]), r"lasso is too short: got 2 point\(s\); allowed: at least 3"),
    (lambda: Lasso([]), "empty lasso: got no points; allowed: at least 3"),
    (lambda: MaskPrompt(np.full(GRID.shape, 2), GRID), r"mask prompt values: got \[2\]; allowed: 0 and 1.*one label"),
    (lambda: MaskPrompt(np.full(GRID.shape, np.nan), GRID), "mask prompt values: got"),
    (lambda: MaskPrompt(np.zeros((2, 2, 2)), GRID), r"mask prompt does not fit its grid: got \[2, 2, 2\]; .*\(10, 12"),
    (lambda: TextPrompt("  "), "text prompt: got +; allowed: a text that is not empty"),
    (lambda: ClassPrompt(3), "class prompt: got 3"),
    (lambda: AttributePrompt("", "x"), "attribute name: got"),
    (lambda: AttributePrompt("x", ""), "attribute value: got"),
    (lambda: ReferencePrompt("", "m"), "reference image: got"),
    (lambda: ReferencePrompt("i", ""), "reference mask: got"),
    (lambda: TaskPrompt(""), "task code: got"),
    (lambda: ObjectInfo(0), "object id: got 0"),
    (lambda: ObjectInfo(1, color=(0, 0, 256)), r"object colour: got \(0, 0, 256\); allowed: three integers"),
    (lambda: ObjectInfo(1, color=(0, 0)), "object colour"),
    (lambda: ObjectInfo(1, color=("red", 0, 0)), "object colour: got .*'red'"),
    (lambda: ObjectInfo(1, color=7), "object colour: got 7"),
    (lambda: ObjectInfo(1, name=7), "object name: got 7; allowed: a text"),
])
def test_malformed_parts(make, message):
    with pytest.raises(PromptError, match=message):
        make()


@pytest.mark.parametrize("make, message", [
    (lambda: PromptSet(("click",)), "prompt type: got str; allowed: promptzoo.prompts.types"),
    (lambda: PromptSet((Point((1, 1, 1)), Box((0, 0, 0), (1, 1, 1), space="voxel"))),
     r"mixed spaces in one prompt set: got \['voxel', 'world'\].*PromptSet.to_world\(grid\)"),
    (lambda: PromptSet((Point((1, 1, 1), object_id=2),), (ObjectInfo(1),)),
     r"unknown object id: got 2; allowed: \[1\].*Add the object first"),
    (lambda: PromptSet((), (ObjectInfo(1), ObjectInfo(1, "again"))), r"object ids given twice: got \[1, 1\]"),
    (lambda: PromptSet().for_object(1), r"unknown object id: got 1; allowed: \[\]"),
])
def test_malformed_sets(make, message):
    with pytest.raises(PromptError, match=message):
        make()


@pytest.mark.parametrize("prompt", one_of_each().values(), ids=one_of_each())
def test_prompts_are_frozen(prompt):
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompt.object_id = 9
    for value in vars(prompt).values():
        assert not isinstance(value, np.ndarray) or not value.flags.writeable


# Used on an image

@pytest.mark.parametrize("prompt", [
    Point((-1.0, 0, 0), space="voxel"), Point((9.5, 11.5, 8.0), space="voxel"),
    Box((-0.5, 0, 0), (10.5, 12, 8), space="voxel"), Scribble([(0, 0, 0), (10, 12, 8)], space="voxel")])
def test_half_a_voxel_beyond_the_faces_is_allowed(prompt):
    prompts = PromptSet((prompt,))
    assert prompts.check_on(GRID) is prompts
    prompts.to_world(GRID).check_on(GRID)


@pytest.mark.parametrize("prompt, where", [
    (Point((-1.02, 0, 0), space="voxel"), r"voxel \[-1.02, 0.0, 0.0\]"),
    (Point((0, 0, 8.1), space="voxel"), r"voxel \[0.0, 0.0, 8.1\]"),
    (Box((0, 0, 0), (10.6, 12, 8), space="voxel"), r"voxel \[10.1,"),
    (Scribble([(1, 1, 1), (1, 13, 1), (2, 2, 2)], space="voxel"), r"voxel \[1.0, 13.0, 1.0\]"),
    (Lasso([(1, 1, 2), (30, 1, 2), (5, 6, 2)], space="voxel"), r"voxel \[30.0, 1.0, 2.0\]"),
])
def test_outside_the_image(prompt, where):
    message = rf"{prompt.kind} outside the image by more than half a voxel: got {where}.* mm.*voxels 0 … \[9, 11, 7\]"
    for prompts in (PromptSet((prompt,)), PromptSet((prompt,)).to_world(GRID)):
        with pytest.raises(PromptError, match=message + r".*Check the orientation"):
            prompts.check_on(GRID)


def test_lasso_must_lie_on_one_slice():
    flat = Lasso([(1, 1, 2), (5, 1, 2.4), (5, 6, 1.9)], space="voxel")
    PromptSet((flat,)).check_on(GRID)
    bent = Lasso([(1, 1, 2), (5, 1, 2), (5, 6, 4)], space="voxel")
    with pytest.raises(PromptError, match=r"lasso not on one slice: got \[4.0, 5.0, 2.0\]; allowed: one axis along"):
        PromptSet((bent,)).check_on(GRID)


def test_kinds_that_a_bundle_does_not_take():
    prompts = PromptSet((one_of_each()["text"], one_of_each()["class"], one_of_each()["point"]))
    assert prompts.kinds == {"text", "class", "point"}
    prompts.check_on(GRID, {"point", "text", "class"})
    with pytest.raises(PromptError, match="prompt kind not taken by this bundle: got class, text; allowed: box, point"):
        prompts.check_on(GRID, {"point", "box"})


# Sets

def test_objects_are_made_from_the_prompts_in_order():
    prompts = PromptSet((Point((1, 1, 1), object_id=5), Point((2, 2, 2), object_id=2), TextPrompt("x", 5)))
    assert [o.object_id for o in prompts.objects] == [5, 2] and len(prompts) == 3 and prompts.space == "world"
    assert [p.kind for p in prompts.for_object(5).prompts] == ["point", "text"]
    assert prompts.of("point", 2) == (prompts.prompts[1],) and len(prompts.of("point")) == 2


def test_adding_appends_and_makes_new_objects():
    first = PromptSet((Point((1, 1, 1)),), (ObjectInfo(1, "a"), ObjectInfo(4, "empty")))
    more = first.adding(Point((2, 2, 2), object_id=9), Point((3, 3, 3)))
    assert [o.object_id for o in more.objects] == [1, 4, 9] and len(more) == 3 and len(first) == 1
    assert more.objects[:2] == first.objects and more.prompts[:1] == first.prompts


def test_box_covers_half_open_voxels_in_the_world():
    """Voxels 1 and 2 of spacing 2 along i: faces at 1 mm and 5 mm."""
    grid = Grid((5, 5, 5), np.diag([2.0, 1, 1, 1]))
    box = Box((1, 0, 0), (3, 5, 1), space="voxel").moved(grid, "world")
    assert (box.low[0], box.high[0]) == (1.0, 5.0)
    assert box.corners()[:, 0].min() == 1.0 and box.corners()[:, 2].max() == 0.5
    assert box.moved(grid, "voxel") == Box((1, 0, 0), (3, 5, 1), space="voxel")


# JSON

def test_every_kind_has_an_example_here():
    assert tuple(one_of_each()) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip_is_exact(kind):
    prompts = PromptSet((one_of_each()[kind],), (ObjectInfo(1, "a", (1, 2, 255)), ObjectInfo(2), ObjectInfo(3),
                                                 ObjectInfo(4)))
    document = to_json(prompts)
    jsonschema.validate(document, json_schema())
    text = json.dumps(document)
    for source in (document, text, text.encode()):
        assert from_json(source) == prompts
    assert prompts.from_json(prompts.to_json()) == prompts
    assert document["schema_version"] == SCHEMA_VERSION and document["prompts"][0]["kind"] == kind


def test_world_prompts_round_trip_bit_for_bit():
    spatial = tuple(p for p in one_of_each().values() if p.kind in ("point", "box", "scribble", "lasso", "mask"))
    world = PromptSet(spatial).to_world(GRID)
    document = json.loads(json.dumps(world.to_json()))
    jsonschema.validate(document, json_schema())
    assert from_json(document) == world
    assert from_json(document).prompts[1].axes.tolist() == GRID.directions.tolist()


def test_mask_comes_back_with_grid_and_voxels():
    back = from_json(json.dumps(to_json(PromptSet((one_of_each()["mask"],))))).prompts[0]
    np.testing.assert_array_equal(back.mask, one_of_each()["mask"].mask)
    np.testing.assert_array_equal(back.grid.affine, GRID.affine)
    assert back.object_id == 3 and back.mask.dtype == bool


def test_whole_schema_is_valid_and_closed():
    jsonschema.Draft7Validator.check_schema(json_schema())
    document = to_json(PromptSet(tuple(one_of_each().values())))
    jsonschema.validate(document, json_schema())
    for entry in document["prompts"]:
        wrong = copy.deepcopy(document)
        wrong["prompts"] = [{**entry, "unknown": 1}]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "schema_version": 2}, json_schema())


numbers = st.floats(-1e6, 1e6, allow_nan=False)
vectors = st.tuples(numbers, numbers, numbers)
ids = st.integers(1, 65535)
spaces = st.sampled_from(["world", "voxel"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(vectors, st.booleans(), ids, spaces)
def test_any_point_round_trips(position, positive, object_id, space):
    prompts = PromptSet((Point(position, positive, object_id, space),))
    assert from_json(json.dumps(prompts.to_json())) == prompts


@settings(max_examples=60, deadline=None, derandomize=True)
@given(vectors, st.tuples(*[st.floats(1e-3, 1e6)] * 3), ids, spaces)
def test_any_box_round_trips(low, size, object_id, space):
    prompts = PromptSet((Box(low, tuple(a + b for a, b in zip(low, size)), object_id, space),))
    assert from_json(json.dumps(prompts.to_json())) == prompts


def test_objects_without_prompts_round_trip():
    prompts = PromptSet((), (ObjectInfo(7, "Leber", (0, 128, 255)), ObjectInfo(8)))
    assert from_json(json.dumps(prompts.to_json())) == prompts
    assert from_json({"schema_version": 1}) == PromptSet()


@pytest.mark.parametrize("version", [2, 99, 0, -1, None, "1", True, 1.0])
def test_unknown_versions_are_refused(version):
    with pytest.raises(PromptError, match="prompt set schema_version: got .*an integer from 1 to 1.*Update promptzoo"):
        from_json({"schema_version": version, "prompts": []})


def _document(**entry):
    return {"schema_version": 1, "prompts": [entry]}


BITS = base64.b64encode(zlib.compress(b"\x80")).decode()


@pytest.mark.parametrize("document, message", [
    ("{", "prompt set is not JSON: got"),
    (b"\xff\xfe\x00", "prompt set is not JSON"),
    ("[1, 2]", "prompt set: got list; allowed: a JSON object"),
    (None, "prompt set: got NoneType"),
    ({"schema_version": 1, "prompts": {}}, "prompt set members: got .*dict"),
    ({"schema_version": 1, "objects": 3}, "prompt set members"),
    ({"schema_version": 1, "objects": [{}]}, "object entry: got .*object_id, name, color"),
    ({"schema_version": 1, "objects": ["a"]}, "object entry"),
    ({"schema_version": 1, "prompts": [5]}, "prompt kind: got 5; allowed: point, box"),
    (_document(kind="star"), "prompt kind: got star"),
    (_document(kind="point", position=[1, 2, 3], size=4), "fields of a point prompt: got .*'size'.*position"),
    (_document(kind="point"), "fields of a point prompt"),
    (_document(kind="box", low=[1, 1, 1]), "fields of a box prompt"),
    (_document(kind="point", position=[1, 2]), "point has the wrong dimension"),
    (_document(kind="scribble", points=[]), "empty scribble"),
    (_document(kind="point", position=[1, 2, 3], positive="no"), "sign of a point prompt: got no; allowed: true or"),
    ({"schema_version": 1, "objects": [{"object_id": 1, "color": "red"}]}, "object colour: got red"),
    (_document(kind="mask", shape=[2, 2, 2]), "mask prompt cannot be decoded"),
    (_document(kind="mask", shape=[1, 1, 1], affine=np.eye(4).tolist(), bits="!!"), "mask prompt cannot be decoded"),
    (_document(kind="mask", shape=[1, 1, 1], affine=np.eye(4).tolist(), bits="AAAA"), "mask prompt cannot be decoded"),
    (_document(kind="mask", shape=[1, 1, 1], affine=np.eye(3).tolist(), bits=BITS), "mask prompt cannot be decoded"),
    (_document(kind="mask", shape=[2, 2], affine=np.eye(4).tolist(), bits=BITS), "mask prompt cannot be decoded"),
    (_document(kind="mask", shape=[9, 9, 9], affine=np.eye(4).tolist(), bits=BITS),
     "mask prompt cannot be decoded: got 1 bytes for 729"),
])
def test_malformed_documents(document, message):
    with pytest.raises(PromptError, match=message):
        from_json(document)


def test_prompts_are_imported_without_torch():
    code = ("import sys, promptzoo.prompts, promptzoo.prompts.types\n"
            "print([m for m in ('torch', 'monai', 'scipy', 'skimage') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_through_slices_is_told_only_where_it_is_wanted():
    grid = Grid((8, 8, 8), np.eye(4))
    on = PromptSet((Point((1, 2, 3), True, 1, "voxel"),), through_slices=True)
    off = PromptSet(on.prompts)
    assert on != off and "through_slices" not in off.to_json() and on.to_json()["through_slices"] is True
    jsonschema.validate(on.to_json(), json_schema())
    assert PromptSet.from_json(on.to_json()) == on and PromptSet.from_json(off.to_json()) == off
    for other in (on.to_world(grid), on.for_object(1), on.adding(Point((1, 1, 1), True, 2, "voxel"))):
        assert other.through_slices
    for wrong in (1, None, "yes"):
        with pytest.raises(PromptError, match="through_slices"):
            PromptSet.from_json({**off.to_json(), "through_slices": wrong})
