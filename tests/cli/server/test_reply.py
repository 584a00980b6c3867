"""Label maps and descriptions as clients read them."""
import json
from pathlib import Path

import numpy as np
import pytest

from promptzoo.cli.server.reply import describe, extension, label_names, labelmap, write_labels
from promptzoo.cli.server.service import Answer
from promptzoo.core.errors import ImageError
from promptzoo.core.geometry import Grid
from promptzoo.core.protocols import ObjectPrediction, Prediction
from promptzoo.data.io import read_labels
from promptzoo.prompts.types import Box, ObjectInfo, Point, PromptSet

GRID = Grid((6, 7, 5), np.array([[-1.0, 0, 0, 5], [0, 0, 2.0, -7], [0, 0.5, 0, 3], [0, 0, 0, 1]]))


def answer(service, *objects):
    """An answer with one marked voxel ``(id, 0, 0)`` per (id, name, marked)."""
    found, infos, points = [], [], []
    for number, name, marked in objects:
        probability = np.zeros(GRID.shape, np.float32)
        probability[number % 6, 0, 0] = 0.9 if marked else 0.1
        found.append(ObjectPrediction(number, GRID, (0, 0, 0), probability, 0.75))
        infos.append(ObjectInfo(number, name))
        points.append(Point((0, 0, 0), True, number, "voxel"))
    return Answer(service.bundles["clicks_3d"], Prediction(GRID, tuple(found), 0.1, "cubes"),
                  PromptSet(tuple(points), tuple(infos)), "", {"total": 0.123456})


def test_the_value_of_a_voxel_is_the_object_id_in_the_smallest_type(service):
    labels = labelmap(answer(service, (2, "liver", True), (3, "", True)), {})
    assert labels.dtype == np.uint8 and labels[2, 0, 0] == 2 and labels[3, 0, 0] == 3
    assert labelmap(answer(service, (300, "x", True)), {}).dtype == np.uint16


def test_result_dtype(service):
    assert labelmap(answer(service, (2, "", True)), {"result_dtype": "uint16"}).dtype == np.uint16
    with pytest.raises(ImageError, match="result_dtype"):
        labelmap(answer(service, (300, "", True)), {"result_dtype": "uint8"})
    with pytest.raises(ImageError, match="result_dtype"):
        labelmap(answer(service, (2, "", True)), {"result_dtype": "object"})


def test_label_names_hold_present_objects_by_value_for_slicer_reads_them_by_position(service):
    given = answer(service, (3, "lesion", True), (1, "organ", False), (2, "vessel", True))
    assert list(label_names(given, labelmap(given, {})).items()) == [("vessel", 2), ("lesion", 3)]


def test_unnamed_and_equally_named_objects_stay_apart(service):
    given = answer(service, (1, "", True), (2, "cyst", True), (3, "cyst", True))
    assert label_names(given, labelmap(given, {})) == {"object 1": 1, "cyst": 2, "cyst 3": 3}


def test_the_description_is_complete(service):
    given = answer(service, (1, "organ", False), (2, "cyst", True))
    told = describe(given, labelmap(given, {}))
    assert told["estimated_dice"] == {"organ": 0.75, "cyst": 0.75} and told["engine"] == "cubes"
    assert told["objects"][1] == {"id": 2, "name": "cyst", "voxels": 1, "estimated_dice": 0.75}
    assert "corrected_box" not in told["objects"][0]
    assert (told["bundle"], told["bundle_version"], told["seconds"]) == ("clicks_3d", "0.1.0", {"total": 0.1235})


def test_a_corrected_box_is_told_as_a_prompt(service):
    given = answer(service, (1, "organ", True))
    given.prediction.objects[0].info["corrected_box"] = Box((1, 2, 0), (3, 4, 1), 1, "voxel")
    told = describe(given, labelmap(given, {}))["objects"][0]["corrected_box"]
    assert PromptSet.from_json({"schema_version": 1, "prompts": [told]}).prompts[0].high == (3.0, 4.0, 1.0)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".seg.nrrd"])
def test_every_format_keeps_values_and_place(tmp_path, suffix):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1, 2, 3], labels[4, 5, 0] = 1, 2
    path = write_labels(labels, GRID, {"a": 1, "b": 2}, suffix, False, tmp_path)
    back, grid, _ = read_labels(path, reference=GRID)
    assert np.array_equal(back, labels) and grid.same_space(GRID)
    assert path.parent == tmp_path and path.name.endswith(suffix)


def test_nrrd_for_ohif_is_raw_in_the_order_of_the_image(tmp_path):
    labels = np.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2], dtype=np.uint8).reshape(GRID.shape) % 3
    raw = write_labels(labels, GRID, {}, ".nrrd", False, tmp_path).read_bytes()
    head, _, body = raw.partition(b"\n\n")
    assert b"encoding: raw" in head and b"type: uint8" in head and body == labels.tobytes(order="F")
    assert b"encoding: gzip" in write_labels(labels, GRID, {}, ".nrrd", True, tmp_path).read_bytes()[:500]


def test_the_extension_is_the_one_wanted_or_that_of_the_image(tmp_path):
    assert extension({"result_extension": ".nrrd"}, Path("a.nii.gz")) == ".nrrd"
    assert extension({}, Path("a.nii")) == ".nii" and extension({}, Path("a.seg.nrrd")) == ".seg.nrrd"
    picture = tmp_path / "a.png"
    picture.touch()
    assert extension({}, picture) == ".nrrd" and extension({}, tmp_path) == ".nii.gz"
    with pytest.raises(ImageError, match="result_extension"):
        extension({"result_extension": "/../x"}, picture)


def test_prompts_that_the_bundle_made_go_with_the_description(service):
    made = PromptSet((Point((1, 2, 3), True, 1, "voxel"),))
    one = ObjectPrediction(1, GRID, (0, 0, 0), np.ones(GRID.shape, np.float32), None,
                           info={"generated": json.dumps(made.to_json()), "instances": 1})
    told = describe(Answer(service.bundles["clicks_3d"], Prediction(GRID, (one,), 0.1, "cubes"),
                           PromptSet((Point((0, 0, 0), True, 1, "voxel"),)), "", {"total": 0.1}),
                    np.ones(GRID.shape, np.uint8))
    assert PromptSet.from_json(told["objects"][0]["generated"]) == made
    plain = answer(service, (1, "liver", True))
    assert "generated" not in describe(plain, labelmap(plain, {}))["objects"][0]
