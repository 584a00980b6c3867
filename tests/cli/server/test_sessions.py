"""Sessions over HTTP, on a service whose predictors need no network."""
import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import nibabel
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the server needs the extra label")

from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from promptzoo.cli.server.problems import install  # noqa: E402
from promptzoo.cli.server.saving import Saved  # noqa: E402
from promptzoo.cli.server.sessions import PREFIX, sessions_router  # noqa: E402
from promptzoo.core.errors import BusyError, NotFoundError, PromptError  # noqa: E402
from promptzoo.core.protocols import ObjectPrediction, Prediction  # noqa: E402
from promptzoo.data.nifti import write_nifti  # noqa: E402
from promptzoo.inference.sessions import SessionRunner, SessionStore, label_digest  # noqa: E402


class BallPredictor:
    """Balls around clicks; half of what was there before stays in the probability."""

    engine = "balls fp32"

    def __init__(self, name):
        self.name, self.prompt_kinds, self.decodes = name, frozenset({"point", "box", "scribble", "mask"}), 0

    def encode(self, volume):
        return type("State", (), {"nbytes": volume.data.nbytes, "grid": volume.grid})()

    def decode(self, state, prompts, previous=None):
        self.decodes += 1
        found, voxel = [], prompts.to_voxel(state.grid)
        earlier = {entry.object_id: entry.probability for entry in previous.objects} if previous else {}
        for info in voxel.objects:
            if info.name == "bad":
                raise PromptError("no such structure: got bad; allowed: good")
            value = 0.5 * earlier.get(info.object_id, np.zeros(state.grid.shape, np.float32))
            for point in voxel.of("point", info.object_id):
                squares = [(axis - at) ** 2 for axis, at in zip(np.indices(state.grid.shape), point.position)]
                value[sum(squares) <= 4] += 0.6 if point.positive else -0.6
            value = np.clip(value, 0, 1).astype(np.float32)
            reason = {} if (value >= 0.5).any() else {"reason": "no positive prompt"}
            found.append(ObjectPrediction(info.object_id, state.grid, (0, 0, 0), value, 0.75, info=reason))
        return Prediction(state.grid, tuple(found), 0.01, self.engine)


@pytest.fixture
def served(service, image_file, tmp_path):
    """A function that starts a server over the same files: ``served(**arguments of sessions_router)``."""
    made = {}

    def load(path, engine):
        made[path.name] = BallPredictor(path.name)
        return made[path.name]

    service._load = load
    stores = []

    def find_image(name):
        if name != "scan":
            raise NotFoundError("image: got x; allowed: scan")
        return image_file

    def start(**more):
        store = SessionStore(tmp_path / "sessions.sqlite")
        stores.append(store)
        app = FastAPI()
        app.include_router(sessions_router(service, store, find_image, **more))
        install(app)
        client = TestClient(app, raise_server_exceptions=False)
        client.made, client.store = made, store
        return client

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def client(served):
    return served()


def begin(client, **more):
    """The address of a new session."""
    answer = client.post(PREFIX, json={"image": "scan", "bundle": "clicks_3d", "user": "ann", **more})
    assert answer.status_code == 201, answer.text
    return f"{PREFIX}/{answer.json()['id']}"


def click(*at, **more):
    """A body with one click."""
    point = {"kind": "point", "position": at, "space": "voxel", **more}
    return {"prompts": [point]}


def good(answer):
    """The JSON of an answer that must be one."""
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def voxels(client, url):
    """The label map at an address, as shape and type in its headers tell."""
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    shape = json.loads(answer.headers["x-promptzoo-shape"])
    return np.frombuffer(answer.content, answer.headers["x-promptzoo-dtype"]).reshape(shape, order="F")


def test_a_session_from_the_first_click_to_the_export(client):
    place = begin(client)
    named = {**click(3, 4, 5), "objects": [{"object_id": 1, "name": "cyst"}]}
    first = good(client.post(f"{place}/prompts", json=named))
    assert (first["sequence"], first["undo_depth"], first["numbers"], first["reason"]) == (1, 1, [1], "")
    assert first["objects"] == [{"object_id": 1, "name": "cyst", "color": [255, 176, 0], "prompts": 1, "voxels": 33,
                                 "estimated_dice": 0.75, "through_slices": None, "corrected_box": None,
                                 "generated": None}]
    assert first["engine"] == "balls fp32" and first["seconds"]["total"] > 0 and first["bundle"] == "clicks_3d"
    labels = voxels(client, first["result"])
    assert labels.dtype == np.uint8 and labels.sum() == 33 and labels[3, 4, 5] == 1
    assert label_digest(labels) == first["digest"]
    second = good(client.post(f"{place}/prompts?expected_sequence=1", json=click(8, 8, 5, object_id=2)))
    assert [entry["voxels"] for entry in second["objects"]] == [33, 33] and second["numbers"] == [1, 2]
    state = good(client.get(place))
    assert state["prompts"][1]["prompt"]["kind"] == "point" and state["answer"]["digest"] == second["digest"]
    assert state["objects"][0]["name"] == "cyst" and state["user"] == "ann" and state["sequence"] == 2
    voxel = good(client.get(f"{place}?space=voxel&sequence=1"))["prompts"]
    assert [np.round(entry["prompt"]["position"], 5).tolist() for entry in voxel] == [[3, 4, 5]]
    document = good(client.get(f"{place}/export?user=reader"))
    assert document["user"] == "reader" and document["digest"] == second["digest"]
    copy = good(client.post(f"{PREFIX}/import", json={"document": document, "image": "scan", "user": "bob"}))
    assert copy["answer"]["digest"] == second["digest"] and copy["id"] != state["id"]
    assert good(client.get(f"{PREFIX}/{copy['id']}/replay"))["equal"] is True
    page = good(client.get(PREFIX, params={"image": "scan", "limit": 1}))
    assert page["total"] == 2 and [entry["user"] for entry in page["sessions"]] == ["bob"]
    assert good(client.get(PREFIX, params={"user": "nobody"})) == {"total": 0, "sessions": []}


def test_undo_redo_and_delete_show_the_masks_of_their_states(client):
    place = begin(client)
    answers = [good(client.post(f"{place}/prompts", json=click(k, 4, 5)))["digest"] for k in (2, 5, 8)]
    assert len(set(answers)) == 3
    decodes = client.made["clicks_3d"].decodes
    assert good(client.post(f"{place}/undo"))["digest"] == answers[1]
    assert good(client.post(f"{place}/redo"))["digest"] == answers[2]
    assert good(client.delete(f"{place}/prompts/3"))["digest"] == answers[1]
    assert client.made["clicks_3d"].decodes == decodes == 3
    without_first = good(client.delete(f"{place}/prompts/1"))
    assert without_first["numbers"] == [2] and without_first["objects"][0]["voxels"] == 33
    assert without_first["digest"] not in answers
    empty = good(client.delete(f"{place}/prompts/2"))
    assert empty["reason"] == "no prompt was given" and empty["objects"][0]["voxels"] == 0
    assert voxels(client, empty["result"]).sum() == 0
    assert label_digest(voxels(client, f"{place}/labelmap?sequence=2")) == answers[1]
    gone = client.delete(f"{place}/prompts/1")
    assert gone.status_code == 404 and "prompt number: got 1; allowed: none" in gone.json()["detail"]["reason"]


def test_every_state_replays_after_a_restart(served):
    client = served()
    place = begin(client)
    for k in (2, 5, 8):
        good(client.post(f"{place}/prompts", json=click(k, 4, 5, object_id=1 + k % 2)))
    good(client.delete(f"{place}/prompts/1"))
    good(client.post(f"{place}/undo"))
    client.store.close()
    again = served(runner=SessionRunner(0))
    for sequence in range(1, 6):
        found = good(again.get(f"{place}/replay?sequence={sequence}"))
        assert found["equal"] is True and found["digest"] == found["recorded"], sequence
    later = good(again.post(f"{place}/prompts", json=click(10, 10, 2)))
    assert later["sequence"] == 6 and good(again.get(f"{place}/replay"))["equal"] is True
    assert good(again.get(f"{place}/replay?sequence=0"))["equal"] is None


def test_objects_overlap_and_notes(client):
    place = begin(client)
    assert good(client.post(f"{place}/objects", json={"object_id": 3, "name": "a"}))["sequence"] == 1
    good(client.post(f"{place}/prompts", json=click(3, 4, 5, object_id=3)))
    last = good(client.post(f"{place}/prompts", json=click(4, 4, 5, object_id=4)))
    first = good(client.put(f"{place}/overlap", json={"rule": "first"}))
    assert first["overlap"] == "first" and first["objects"][0]["voxels"] > last["objects"][0]["voxels"]
    named = good(client.patch(f"{place}/objects/3", json={"name": "b"}))
    assert [entry["name"] for entry in named["objects"]] == ["b", ""]
    good(client.patch(f"{place}/objects/3", json={"color": [1, 2, 3]}))
    assert good(client.get(f"{place}/export"))["digest"] == first["digest"], "the masks are those before the renaming"
    assert client.patch(f"{place}/objects/3", json={}).status_code == 422
    left = good(client.request("DELETE", f"{place}/objects/3"))
    assert [entry["object_id"] for entry in left["objects"]] == [4]
    undone = good(client.post(f"{place}/undo"))
    assert undone["objects"][0]["color"] == [1, 2, 3] and undone["digest"] == first["digest"]
    assert good(client.post(f"{place}/notes", json={"text": "odd"}))["sequence"] == 9
    assert client.post(f"{place}/objects", json={"object_id": 3}).status_code == 409


def test_formats_of_the_voxels(client):
    place = begin(client)
    answer = good(client.post(f"{place}/prompts?output=probability", json=click(3, 4, 5)))
    assert answer["result"].endswith("/probability?sequence=1")
    raw = client.get(f"{place}/labelmap")
    assert raw.headers["content-encoding"] == "gzip" and raw.headers["x-promptzoo-digest"] == answer["digest"]
    plain = client.get(f"{place}/labelmap", headers={"accept-encoding": "identity"})
    assert plain.content == raw.content and "content-encoding" not in plain.headers
    labels = voxels(client, f"{place}/labelmap")
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(client.get(f"{place}/labelmap?format=nii.gz").content))
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)
    np.testing.assert_allclose(image.affine, json.loads(raw.headers["x-promptzoo-affine"]))
    nrrd = client.get(f"{place}/labelmap?format=nrrd")
    assert nrrd.content.startswith(b"NRRD") and "attachment" in nrrd.headers["content-disposition"]
    probability = voxels(client, f"{place}/probability")
    assert probability.dtype == np.float32 and probability.max() == np.float32(0.6)
    assert voxels(client, f"{place}/uncertainty?object=1").max() <= 1
    assert client.get(f"{place}/probability?object=1&format=nii.gz").content[:2] == b"\x1f\x8b"
    assert client.get(f"{place}/probability?object=9").status_code == 404
    many = good(client.post(f"{place}/prompts?output=none", json=click(9, 9, 5, object_id=300)))
    assert many["result"] is None and voxels(client, f"{place}/labelmap").dtype == np.uint16


def test_two_tabs(client):
    place = begin(client)
    good(client.post(f"{place}/prompts?expected_sequence=0", json=click(3, 4, 5)))
    for request in (lambda: client.post(f"{place}/prompts?expected_sequence=0", json=click(5, 5, 5)),
                    lambda: client.post(f"{place}/undo?expected_sequence=0"),
                    lambda: client.delete(f"{place}/prompts/1?expected_sequence=7")):
        refused = request()
        assert refused.status_code == 409 and refused.json()["detail"]["kind"] == "ConflictError"
        assert "load it again" in refused.json()["detail"]["reason"]
    assert good(client.get(place))["sequence"] == 1


def test_many_at_once(client):
    places = [begin(client) for _ in range(3)]

    def work(number):
        return client.post(f"{places[number % 3]}/prompts", json=click(number % 10, 4, 5)).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(work, range(18))) == {200}
    for place in places:
        assert good(client.get(place))["sequence"] == 6 and good(client.get(f"{place}/replay"))["equal"] is True


@pytest.mark.parametrize("body, words", [
    ({"prompts": []}, "body.prompts"), ({"prompts": [{"kind": "wish"}]}, "body.prompts.0.kind"),
    (click(99, 0, 0), "outside the image"), (click(1, 2), "three numbers"), ({}, "body.prompts"),
    ({"prompts": [{"kind": "text", "text": "liver"}]}, "prompt kind not taken by this bundle"),
    ({**click(1, 2, 3), "schema_version": 2}, "schema_version"), (click(1, 2, 3, colour=1), "fields of a point prompt"),
    ({**click(1, 2, 3), "objects": [{"object_id": 1, "color": [1, 2, 300]}]}, "object colour")])
def test_prompts_that_cannot_be_used_are_told_and_not_written(client, body, words):
    place = begin(client)
    answer = client.post(f"{place}/prompts", json=body)
    assert answer.status_code == 422 and words in answer.json()["detail"]["reason"]
    assert good(client.get(place))["sequence"] == 0


def test_prompts_that_the_predictor_refuses_are_undone(client):
    place = begin(client)
    good(client.post(f"{place}/prompts", json=click(3, 4, 5)))
    refused = client.post(f"{place}/prompts", json={**click(5, 5, 5, object_id=2),
                                                    "objects": [{"object_id": 2, "name": "bad"}]})
    assert refused.status_code == 422 and "no such structure" in refused.json()["detail"]["reason"]
    state = good(client.get(place))
    assert (state["sequence"], len(state["prompts"]), state["redo_depth"]) == (3, 1, 1)
    assert client.post(f"{place}/redo").status_code == 422 and len(good(client.get(place))["prompts"]) == 1
    good(client.post(f"{place}/prompts", json=click(5, 5, 5)))


def test_what_is_not_there(client):
    assert client.get(f"{PREFIX}/nothing").json()["detail"]["kind"] == "NotFoundError"
    assert client.post(PREFIX, json={"image": "other"}).status_code == 404
    assert client.post(PREFIX, json={"image": "scan", "bundle": "none"}).status_code == 404
    assert good(client.post(PREFIX, json={"image": "scan"}))["bundle"] == "clicks_3d"
    place = begin(client)
    assert client.get(f"{place}/labelmap?sequence=5").status_code == 404
    assert client.post(f"{place}/undo").status_code == 400
    assert client.post(f"{place}/save", json={}).status_code == 404
    wrong = client.post(f"{PREFIX}/import", json={"document": {"format": "x"}, "image": "scan"})
    assert wrong.status_code == 400 and "session document" in wrong.json()["detail"]["reason"]


def test_a_changed_image_or_bundle_is_told_before_anything_is_written(client, service, image_file):
    place = begin(client)
    good(client.post(f"{place}/prompts", json=click(3, 4, 5)))
    document = good(client.get(f"{place}/export"))
    bundle = service.bundles["clicks_3d"]
    metadata = bundle.path / "configs" / "metadata.json"
    metadata.write_text(json.dumps({**bundle.metadata, "version": "9.0.0"}))
    service.renew()
    refused = client.post(f"{place}/undo")
    assert refused.status_code == 409 and "version of bundle clicks_3d: got 9.0.0" in refused.json()["detail"]["reason"]
    assert good(client.get(f"{place}/export"))["prompts"] == document["prompts"]
    body = {"document": document, "image": "scan", "present_bundle": True}
    moved = good(client.post(f"{PREFIX}/import", json=body))
    assert moved["bundle_version"] == "9.0.0" and moved["answer"] is None
    metadata.write_text(json.dumps(bundle.metadata))
    service.renew()
    write_nifti(image_file, np.ones((12, 14, 10), np.float32), client.store.open(moved["id"]).info.grid)
    refused = client.post(f"{place}/undo")
    assert refused.status_code == 409 and "it changed since" in refused.json()["detail"]["reason"]
    assert good(client.get(place))["sequence"] == 1


def test_a_busy_server_has_written_nothing(served):
    busy = [False]

    def run(job):
        if busy[0]:
            raise BusyError("requests that wait: got 9; allowed: at most 8", 3)
        return job()

    client = served(run=run)
    place = begin(client)
    busy[0] = True
    refused = client.post(f"{place}/prompts", json=click(3, 4, 5))
    assert refused.status_code == 429 and refused.headers["retry-after"] == "3"
    assert good(client.get(place))["sequence"] == 0


def test_saving_is_left_to_the_server_and_written_into_the_log(served):
    saved = []

    def save(look, tag, rtstruct):
        saved.append((look.labels.copy(), tag))
        return Saved(f"/srv/labels/{tag}/scan.nii.gz", "1.2.3", "1.2.3.4")

    client = served(save=save)
    place = begin(client)
    answer = good(client.post(f"{place}/prompts", json=click(3, 4, 5)))
    assert client.post(f"{place}/save?expected_sequence=0", json={}).status_code == 409 and not saved
    assert client.post(f"{place}/save", json={"tag": "../out"}).status_code == 422 and not saved
    found = good(client.post(f"{place}/save", json={"tag": "original"}))
    assert (found["place"], found["seg_instance"], found["digest"]) == ("scan.nii.gz", "1.2.3.4", answer["digest"])
    assert saved[0][0].sum() == 33 and saved[0][1] == "original"
    event = client.store.open(answer["session"]).events()[-1]
    assert event.kind == "saved" and event.payload["digest"] == answer["digest"] and found["sequence"] == 2


def test_openapi_is_complete(client):
    document = client.get("/openapi.json").json()
    paths = {path: methods for path, methods in document["paths"].items() if path.startswith(PREFIX)}
    assert len(paths) == 17 and all(op["description"] for methods in paths.values() for op in methods.values())
    body = paths[PREFIX + "/{session_id}/prompts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["$ref"].endswith("NewPrompts") and "PromptBody" in document["components"]["schemas"]
    voxels_told = paths[PREFIX + "/{session_id}/labelmap"]["get"]["responses"]["200"]["content"]
    assert set(voxels_told) == {"application/gzip", "application/octet-stream"}


def test_through_slices_is_an_operation_of_the_session(served):
    client = served()
    place = begin(client)
    answer = good(client.post(f"{place}/prompts", json={**click(3, 4, 5), "through_slices": True}))
    assert client.store.open(answer["session"]).state().prompts.through_slices
    assert good(client.get(place))["through_slices"] is True
    off = good(client.put(f"{place}/through-slices", json={"on": False}))
    assert off["undo_depth"] == 2 and good(client.get(place))["through_slices"] is False
    good(client.post(f"{place}/undo"))
    assert good(client.get(place))["through_slices"] is True
    again = good(client.post(f"{place}/prompts", json=click(5, 4, 5)))
    assert client.store.open(again["session"]).state().through_slices, "left out: as before"
    assert client.put(f"{place}/through-slices", json={"on": "perhaps"}).status_code == 422
    assert client.put(f"{place}/through-slices?expected_sequence=1", json={"on": True}).status_code == 409
    assert good(client.get(f"{place}/replay"))["equal"] is True
