"""The running server, asked by MONAI Label's own client and by plain HTTP."""
import json
import sys
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pytest

from promptzoo.core.bundles import find_bundles
from promptzoo.data.io import read_labels, write_mask
from promptzoo.prompts.types import Box, ObjectInfo, Point, PromptSet

from .conftest import SERIES_UID, dice, free_port, running, write_series

READY = [bundle.name for bundle in find_bundles() if bundle.label.get("type") == "deepgrow" and bundle.weights_path
         and bundle.weights_path.is_file()]
VOLUME, PLANE = "interactive_refinement_3d", "interactive_refinement_2d"
GOOD = 0.8
"""Dice that one click on a plain object of the sample study must reach."""


@pytest.fixture(scope="module")
def server(study, tmp_path_factory):
    """``promptzoo serve`` over the study."""
    port = free_port()
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(study[0]), "--port", str(port)]
    with running(command, port, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def client(server, tmp_path):
    """MONAI Label's client."""
    from monailabel.client import MONAILabelClient

    return MONAILabelClient(server.url, tmpdir=str(tmp_path))


@pytest.fixture
def ask(client, study):
    """``ask(model, case, params, …)``: labels on the case's grid, and the description."""

    def infer(model, case, params, **more):
        file, told = client.infer(model, study[1][case].image_id, dict(params), **more)
        labels, _, _ = read_labels(file, reference=study[1][case].volume.grid)
        return labels, told

    return infer


def post(server, model, params, image=None, **query):
    """A raw infer request."""
    query = {**({"image": image} if image else {}), **query}
    body = params if isinstance(params, str) else json.dumps(params)
    return httpx.post(f"{server.url}/infer/{model}", params=query, data={"params": body}, timeout=120)


def test_info_lists_the_bundles_volumes_first(client):
    models = client.info()["models"]
    assert list(models)[0] == "auto" and models["auto"]["type"] == "segmentation"
    clicks = [name for name, model in models.items() if model["type"] == "deepgrow"]
    assert sorted(clicks) == sorted(READY)
    dimensions = [models[name]["dimension"] for name in clicks]
    assert dimensions == sorted(dimensions, reverse=True)
    scribbles = [name for name, model in models.items() if model["type"] == "scribbles"]
    takers = {info.name for info in find_bundles() if "scribble" in info.prompts}
    assert takers and scribbles == [f"{name}_scribbles" for name in clicks if name in takers]
    assert {"first", "random", "foreground", "entropy", "clicks"} <= set(client.info()["strategies"])


def test_every_kind_of_study_is_an_image(client, study):
    assert sorted(client.datastore()["objects"]) == sorted(case.image_id for case in study[1].values())


@pytest.mark.parametrize("case", ["ct", "dicom"])
def test_a_click_in_a_volume(ask, study, case):
    known = study[1][case]
    click = known.click("heart")
    labels, told = ask(VOLUME, case, {"label": "heart", "foreground": [click], "background": []})
    assert dice(labels == 1, known.mask("heart")) >= GOOD
    assert told["label_names"] == {"heart": 1} and told["bundle"] == VOLUME
    assert 0 <= told["estimated_dice"]["heart"] <= 1 and told["seconds"]["decode"] > 0 and told["engine"]


@pytest.mark.parametrize("case, name", [("us", "cyst"), ("png", "nucleus 2")])
def test_a_click_on_a_slice(ask, study, case, name):
    known = study[1][case]
    labels, _ = ask(PLANE, case, {"label": name, "foreground": [known.click(name)], "background": [], "slice": 0})
    assert dice(labels == 1, known.mask(name)) >= GOOD


def test_auto_takes_the_bundle_for_the_image(ask, study):
    for case, name, bundle in (("us", "cyst", PLANE), ("ct", "lung right", VOLUME)):
        known = study[1][case]
        labels, told = ask("auto", case, {"label": "object", "foreground": [known.click(name)]})
        assert told["bundle"] == bundle and labels[tuple(known.click(name))] == 1


def test_a_region_of_interest(ask, study):
    known = study[1]["us"]
    inside = np.argwhere(known.mask("cyst"))
    (i0, j0, _), (i1, j1, _) = inside.min(0).tolist(), (inside.max(0) + 1).tolist()
    labels, _ = ask(PLANE, "us", {"label": "cyst", "foreground": [], "background": [], "roi": [i1, i0, j0, j1, 0, 1]})
    assert dice(labels == 1, known.mask("cyst")) >= GOOD


def test_scribbles(ask, study, tmp_path):
    known = study[1]["us"]
    mask = known.mask("cyst")
    strokes = np.zeros(mask.shape, np.uint8)
    i, j, _ = known.click("cyst")
    reach_i, reach_j, _ = np.ptp(np.argwhere(mask), axis=0) // 3
    strokes[i - reach_i:i + reach_i, j - 1:j + 2, 0] = 3
    strokes[i - 1:i + 2, j - reach_j:j + reach_j, 0] = 3
    strokes[~mask] = 0
    strokes[5:9, 20:300, 0] = 2
    file = write_mask(tmp_path / "scribbles.nii.gz", strokes, known.volume.grid)
    info = [{"name": "object", "id": 1}, {"name": "background_scribbles", "id": 2},
            {"name": "foreground_scribbles", "id": 3}]
    labels, told = ask(f"{PLANE}_scribbles", "us", {"roi": [], "label_info": info, "selected_label_name": "object"},
                       label_in=str(file))
    assert dice(labels == 1, mask) >= GOOD and told["label_names"] == {"object": 1}


def test_two_objects_in_one_request(ask, study):
    known = study[1]["png"]
    first, second = "nucleus 2", "nucleus 9"
    labels, told = ask(PLANE, "png", {first: [known.click(first)], second: [known.click(second)]})
    assert told["label_names"] == {first: 1, second: 2} and len(told["objects"]) == 2
    assert labels[tuple(known.click(first))] == 1 and labels[tuple(known.click(second))] == 2
    assert min(dice(labels == 1, known.mask(first)), dice(labels == 2, known.mask(second))) >= 0.7


def test_our_own_form_in_world_space(ask, study):
    known = study[1]["ct"]
    grid = known.volume.grid
    prompts = PromptSet((Point(known.click("heart"), True, 7, "voxel"),), (ObjectInfo(7, "heart"),)).to_world(grid)
    labels, told = ask(VOLUME, "ct", {"prompts": prompts.to_json()})
    assert told["label_names"] == {"heart": 7} and dice(labels == 7, known.mask("heart")) >= GOOD


def test_a_box_in_our_own_form_and_no_prompt_at_all(ask, study):
    known = study[1]["us"]
    inside = np.argwhere(known.mask("nodule"))
    box = PromptSet((Box(tuple(inside.min(0)), tuple(inside.max(0) + 1), 1, "voxel"),))
    labels, _ = ask("auto", "us", {"prompts": box.to_json()})
    assert dice(labels == 1, known.mask("nodule")) >= 0.7
    labels, told = ask("auto", "us", {})
    assert not labels.any() and "no prompt was given" in told["reason"]


def test_the_same_request_gives_the_same_mask_and_a_correction_is_obeyed(ask, study):
    known = study[1]["ct"]
    click, far = known.click("liver"), known.click("spleen")
    first, _ = ask(VOLUME, "ct", {"foreground": [click]})
    again, _ = ask(VOLUME, "ct", {"foreground": [click]})
    assert first.any() and np.array_equal(first, again)
    corrected, told = ask(VOLUME, "ct", {"foreground": [click], "background": [far]})
    assert not corrected[tuple(far)] and not told["warm_start"]


def test_a_client_with_a_name_goes_on_where_it_was(server, study):
    image, click = study[1]["ct"].image_id, study[1]["ct"].click("liver")
    beside = [click[0] + 2, *click[1:]]
    told = [post(server, VOLUME, {"client_id": "annotator", "foreground": clicks}, image, output="json").json()
            for clicks in ([click], [click, beside], [beside])]
    assert [entry["warm_start"] for entry in told] == [False, True, False]


def test_result_for_ohif_is_a_raw_nrrd_of_the_image_size(server, study):
    known = study[1]["ct"]
    params = {"foreground": [known.click("lung right")], "background": [], "result_extension": ".nrrd",
              "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
    body = post(server, VOLUME, params, known.image_id, output="image").content
    head, _, voxels = body.partition(b"\n\n")
    assert b"encoding: raw" in head and len(voxels) == known.labels.size
    assert np.frombuffer(voxels, np.uint8).reshape(known.labels.shape, order="F")[tuple(known.click("lung right"))] == 1


def test_an_uploaded_file(client, study, tmp_path):
    known = study[1]["ct"]
    file, told = client.infer(VOLUME, "", {"foreground": [known.click("lung right")]},
                              file=str(study[0] / "torso.nii.gz"))
    assert told["objects"][0]["voxels"] == np.count_nonzero(np.asarray(nibabel.load(file).dataobj))
    session = client.create_session(str(study[0] / "torso.nii.gz"))["session_id"]
    _, told = client.infer(VOLUME, "", {"foreground": [known.click("lung right")]}, session_id=session)
    assert told["label_names"]


WRONG = {
    "model": ("none", {}, "frame", 404, "NotFoundError", "model"),
    "image": ("auto", {}, "none", 404, "NotFoundError", "image id"),
    "path": ("auto", {}, "/etc/hostname", 404, "NotFoundError", "image id"),
    "path in params": ("auto", {"image": "/etc/hostname"}, "frame", 404, "NotFoundError", "image id"),
    "no image": ("auto", {}, None, 404, "NotFoundError", "image of the request"),
    "no json": ("auto", "[1", "frame", 422, "PromptError", "not JSON"),
    "a list": ("auto", "[1]", "frame", 422, "PromptError", "a JSON object"),
    "outside": (PLANE, {"foreground": [[9999, 0, 0]]}, "frame", 422, "PromptError", "outside the image"),
    "two numbers": (PLANE, {"foreground": [[5, 5]]}, "frame", 422, "PromptError", "wrong dimension"),
    "not a number": (PLANE, '{"foreground": [[NaN, 5, 0]]}', "frame", 422, "PromptError", "not finite"),
    "no clicks": (PLANE, {"foreground": "here"}, "frame", 422, "PromptError", "list of voxel indices"),
    "roi": (PLANE, {"roi": [1, 2, 3]}, "frame", 422, "PromptError", "six finite numbers"),
    "text": (PLANE, {"text_prompt": "the cyst"}, "frame", 422, "PromptError", "not taken"),
    "own form": (PLANE, {"prompts": {"schema_version": 99}}, "frame", 422, "PromptError", "schema_version"),
    "extension": (PLANE, {"result_extension": ".exe"}, "frame", 422, "ImageError", ".nii.gz"),
    "type": (PLANE, {"result_dtype": "str"}, "frame", 422, "ImageError", "result_dtype"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_requests_are_4xx_with_a_reason(server, what):
    model, params, image, status, kind, words = WRONG[what]
    answer = post(server, model, params, image)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["kind"]) == (status, kind)
    assert words in detail["reason"] and detail["request_id"]


@pytest.mark.parametrize("method, path, status", [
    ("POST", "/activelearning/none", 404), ("GET", "/none", 404), ("GET", "/datastore/image?image=none", 404),
    ("GET", "/session/none", 404), ("POST", "/train/none", 404), ("POST", "/scoring/none", 404),
    ("POST", "/batch/infer/none", 404), ("POST", "/infer/auto?output=none", 422),
    ("POST", "/infer/auto?image=frame&output=dicom_seg", 422)])
def test_other_wrong_requests(server, method, path, status):
    answer = httpx.request(method, server.url + path, timeout=60)
    assert answer.status_code == status and answer.json()["detail"]["reason"]


def test_batch_inference_runs_without_a_cuda_device_and_keeps_no_empty_masks(server, client):
    answer = httpx.post(f"{server.url}/batch/infer/auto?run_sync=true", json={}, timeout=120)
    assert answer.status_code == 200 and SERIES_UID in answer.json()
    assert not client.datastore()["objects"]["frame"]["labels"]


def test_a_saved_label_stays_with_the_studies_and_the_next_case_is_another(server, client, study, tmp_path):
    first = client.next_sample("first", {})
    case = next(case for case in study[1].values() if case.image_id == first["id"])
    file = write_mask(tmp_path / "final.nii.gz", case.labels, case.volume.grid)
    client.save_label(first["id"], str(file), "final", {"label_info": [{"name": "object", "idx": 1}]})
    assert (study[0] / "labels" / "final" / f"{first['id']}.nii.gz").is_file()
    assert (study[0] / "datastore_v2.json").is_file()
    assert client.next_sample("first", {})["id"] != first["id"]
    back, _, _ = read_labels(client.download_label(first["id"], "final"))
    assert np.array_equal(back, case.labels)


def test_an_answer_survives_a_client_in_the_same_temporary_folder(server, study):
    """MONAI Label's server deletes the result under the name that its client keeps it; see shims.result_folder."""
    from monailabel.client import MONAILabelClient

    known = study[1]["us"]
    near = MONAILabelClient(server.url, tmpdir=str(server.folder / "tmp"))
    file, _ = near.infer(PLANE, known.image_id, {"foreground": [known.click("cyst")]})
    httpx.get(f"{server.url}/info/")
    assert Path(file).is_file()


RECORDED = {  # boundary, and the parameters as the clients send them, byte for byte but for the voxel
    "OHIF": ("----WebKitFormBoundary46b0KlNSdU2HOBW8",
             '{"foreground":[[%d,%d,%d]],"background":[],"result_extension":".nrrd","result_dtype":"uint8",'
             '"result_compress":false,"restore_label_idx":false}'),
    "3D Slicer": ("30d2b4ae2aa544b1a5a8e7ab49a0d2a7",
                  '{"label": "object", "foreground": [[%d, %d, %d]], "background": [], "result_extension": ".nrrd", '
                  '"result_dtype": "uint8", "result_compress": false}'),
}


@pytest.mark.parametrize("client_name", RECORDED)
def test_recorded_bodies(server, study, client_name, tmp_path):
    case = study[1]["ct"]
    boundary, told = RECORDED[client_name]
    body = "\r\n".join([f"--{boundary}", 'Content-Disposition: form-data; name="params"', "",
                        told % tuple(case.click("lung right")), f"--{boundary}--", ""])
    answer = httpx.post(f"{server.url}/infer/{VOLUME}", params={"image": case.image_id, "output": "image"}, timeout=120,
                        content=body.encode(),
                        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status_code == 200, answer.text
    (tmp_path / "mask.nrrd").write_bytes(answer.content)
    found, _, _ = read_labels(tmp_path / "mask.nrrd")
    assert dice(found == 1, case.mask("lung right")) > 0.6


def test_an_empty_mask_is_not_saved_but_explained(server, study):
    place = f"{server.url}/promptzoo/sessions"
    made = httpx.post(place, json={"image": study[1]["ct"].image_id}).json()
    saved = httpx.post(f"{place}/{made['id']}/save", json={}, timeout=120)
    assert saved.status_code == 200 and not saved.json()["place"], saved.text
    assert "no voxel" in saved.json()["reason"] or "no prompt" in saved.json()["reason"], saved.text


def test_a_series_that_is_sent_is_an_image_at_once(server, study, tmp_path):
    """MONAI Label looks at a folder only when it starts."""
    import pydicom
    from dicomweb_client import DICOMwebClient

    from promptzoo.data.phantoms import torso_ct

    before = {path for path in study[0].rglob("*") if path.is_file()}
    uid = f"{SERIES_UID}.5"
    write_series(torso_ct(2, (32, 32, 24), (12.0, 12.0, 12.0))[0], tmp_path / "sent", uid)
    instances = [pydicom.dcmread(path) for path in sorted((tmp_path / "sent").glob("*.dcm"))]
    try:
        DICOMwebClient(f"{server.url}/dicom-web").store_instances(instances)
        assert uid in httpx.get(f"{server.url}/datastore/", params={"output": "all"}).json()["objects"]
    finally:
        for path in {path for path in study[0].rglob("*.dcm") if path.is_file()} - before:
            path.unlink()


def test_memory_and_what_is_printed(server):
    assert server.peak_rss_mb < 2048
    printed = server.log.read_text()
    assert "3D Slicer" in printed and "curl" in printed and server.url in printed and "Traceback" not in printed


def test_slicer_option_carries_a_click_through_the_slices(ask, study):
    """One click in the right lung with a 2D bundle, with the option of Slicer's table and without."""
    known = study[1]["ct"]
    mask, click = known.mask("lung right"), known.click("lung right")
    request = {"label": "lung", "foreground": [click], "background": [], "slice": click[2]}
    alone, _ = ask(PLANE, "ct", request)
    assert np.flatnonzero((alone == 1).any((0, 1))).tolist() == [click[2]]
    carried, told = ask(PLANE, "ct", {**request, "through_slices": True})
    assert np.array_equal(carried[..., click[2]], alone[..., click[2]])
    assert (carried == 1).any((0, 1)).sum() > 5 and dice(carried == 1, mask) > dice(alone == 1, mask) + 0.1
