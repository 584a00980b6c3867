"""The embedded DICOMweb store over HTTP, as the public client of the DICOMweb standard sees it."""
import inspect
import json
import threading
import time
from io import BytesIO
from pathlib import Path

import highdicom
import httpx
import numpy as np
import pydicom
import pytest
import requests
import uvicorn
from dicomweb_client import DICOMwebClient
from fastapi import FastAPI
from typer.testing import CliRunner

from promptzoo.cli.app import app as promptzoo_command
from promptzoo.cli.server import problems
from promptzoo.cli.server.dicomweb import PREFIX, dicomweb_router
from promptzoo.data.dicomweb.store import DicomStore
from promptzoo.data.io import read_mask
from promptzoo.data.nifti import write_nifti
from promptzoo.data.phantoms import torso_ct

from .conftest import SERIES_UID, free_port, write_series

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real series in {REAL}")
STUDY_UID = f"{SERIES_UID}.0"


def serve(store, **options):
    """A server over a store in a thread of its own; its address, and how to stop it."""
    app, port = FastAPI(), free_port()
    app.include_router(dicomweb_router(store, **options))
    problems.install(app)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 60
    while not server.started and time.monotonic() < ends:
        time.sleep(0.02)
    assert server.started

    def stop():
        server.should_exit = True
        thread.join(20)
    return f"http://127.0.0.1:{port}{PREFIX}", stop


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A torso as DICOM series and as NIfTI, and the store's address."""
    folder = tmp_path_factory.mktemp("dicomweb") / "studies"
    folder.mkdir()
    volume, labels, names = torso_ct(1, (48, 40, 28), (8.0, 8.0, 10.0))
    data = np.round(volume.data).astype(np.int16)
    write_nifti(folder / "torso.nii.gz", data, volume.grid)
    write_series(volume, folder / "ct", SERIES_UID)
    store = DicomStore(folder, rescan_s=0)
    url, stop = serve(store, limit_bytes=8 << 20)
    yield store, url, data, volume.grid, labels
    stop()


@pytest.fixture
def client(served):
    """The public client."""
    return DICOMwebClient(served[1])


def test_search(client, served):
    store = served[0]
    link = store.link("torso")
    studies = {s["0020000D"]["Value"][0]: s for s in client.search_for_studies()}
    assert set(studies) == {STUDY_UID, link.study_uid}
    assert studies[STUDY_UID]["00201208"]["Value"] == [28]
    assert [s["0020000D"]["Value"][0] for s in client.search_for_studies(search_filters={"PatientID": "tors*"})] == [
        link.study_uid]
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_studies(limit=1, offset=1)) == 1
    series, = client.search_for_series(STUDY_UID, fields=["BodyPartExamined", "00080060"])
    assert series["0020000E"]["Value"] == [SERIES_UID] and series["00080060"]["Value"] == ["CT"]
    found = client.search_for_instances(link.study_uid, link.series_uid, search_filters={"InstanceNumber": "3"})
    assert [one["00200013"]["Value"] for one in found] == [[3]]
    assert found[0]["00081190"]["Value"][0].startswith(served[1])


def test_metadata_and_frames_of_a_wrapped_volume_are_the_volume(client, served):
    store, _, data, grid, _ = served
    link = store.link("torso")
    metadata = [pydicom.Dataset.from_json(m) for m in client.retrieve_series_metadata(link.study_uid, link.series_uid)]
    assert len(metadata) == 28 and {m.Modality for m in metadata} == {"CT"}
    planes = []
    for header in metadata:
        frame, = client.retrieve_instance_frames(link.study_uid, link.series_uid, header.SOPInstanceUID, [1])
        stored = np.frombuffer(frame, "<i2").reshape(header.Rows, header.Columns)
        planes.append(stored * header.RescaleSlope + header.RescaleIntercept)
    seen = link.voxels.array_to_image(np.stack(planes).transpose(2, 1, 0))
    assert np.array_equal(seen, data)
    normal = np.cross(metadata[0].ImageOrientationPatient[:3], metadata[0].ImageOrientationPatient[3:])
    depths = [np.dot(normal, m.ImagePositionPatient) for m in metadata]
    assert depths == sorted(depths) and np.ptp(np.diff(depths)) < 1e-6


def test_whole_instances(client, served):
    store, url, data, _, _ = served
    link = store.link("torso")
    series = client.retrieve_series(link.study_uid, link.series_uid)
    assert [s.InstanceNumber for s in series] == list(range(1, 29))
    assert len(client.retrieve_study(STUDY_UID)) == 28
    one = client.retrieve_instance(link.study_uid, link.series_uid, series[4].SOPInstanceUID)
    assert one == series[4]
    path = f"{url}/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SERIES_UID}.5"
    single = httpx.get(path, headers={"Accept": "application/dicom"})
    assert single.headers["content-type"] == "application/dicom"
    assert single.content == (store.folder / "ct" / "0004.dcm").read_bytes()
    bulk = client.retrieve_instance_metadata(STUDY_UID, SERIES_UID, f"{SERIES_UID}.5")["7FE00010"]["BulkDataURI"]
    assert client.retrieve_bulkdata(bulk) == [pydicom.dcmread(BytesIO(single.content)).PixelData]


def test_frames_as_ohif_asks_for_them(served):
    _, url, _, _, _ = served
    path = f"{url}/studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SERIES_UID}.1/frames/1"
    answer = httpx.get(path, headers={"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"})
    kind = answer.headers["content-type"]
    assert kind.startswith('multipart/related; type="application/octet-stream"; boundary=')
    head, _, body = answer.content.partition(b"\r\n\r\n")
    assert b"Content-Type: application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1" in head
    assert len(body) == 48 * 40 * 2 + len(kind.partition("boundary=")[2]) + 8
    single = httpx.get(path, headers={"Accept": "application/octet-stream"})
    assert len(single.content) == 48 * 40 * 2


@pytest.mark.parametrize("path, status, kind, reason", [
    ("studies/1.2.3/metadata", 404, "NotFoundError", "study in the store: got 1.2.3"),
    ("studies/1.2.3", 404, "NotFoundError", "study in the store"),
    (f"studies/{STUDY_UID}/series/9.9/metadata", 404, "NotFoundError", "series in the store: got 9.9"),
    (f"studies/{STUDY_UID}/series/{SERIES_UID}/instances/9.9", 404, "NotFoundError", "SOP instance"),
    (f"studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SERIES_UID}.1/frames/2", 404, "NotFoundError", "frame"),
    (f"studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SERIES_UID}.1/frames/x", 400, "QueryError", "frame list"),
    (f"studies/{STUDY_UID}/series/{SERIES_UID}/instances/{SERIES_UID}.1/bulkdata/..%2f..%2fx", 404, "NotFoundError",
     "bulk data"),
    ("studies?NoSuchAttribute=1", 400, "QueryError", "attribute of a search: got NoSuchAttribute"),
    ("studies?limit=-1", 400, "QueryError", "limit of a search"),
    ("studies/..%2f..%2fetc/metadata", 404, None, "")])
def test_problems_are_json(served, path, status, kind, reason):
    answer = httpx.get(f"{served[1]}/{path}")
    assert answer.status_code == status, answer.text
    assert kind is None or answer.json()["detail"]["kind"] == kind
    assert reason in answer.json()["detail"]["reason"]


def test_what_cannot_be_given_is_not_acceptable(served):
    for path, accept in (("studies", "application/dicom+xml"), (f"studies/{STUDY_UID}", "image/jpeg")):
        answer = httpx.get(f"{served[1]}/{path}", headers={"Accept": accept})
        assert answer.status_code == 406 and answer.json()["detail"]["kind"] == "NotAcceptableError"


def segmentation(store, link, labels):
    """A SEG made by highdicom from what the store gives out, without a file of ours."""
    slices = [pydicom.dcmread(BytesIO(b"".join(store.file(one))))
              for one in store.instances(link.study_uid, link.series_uid)]
    for one in slices:
        for keyword in ("PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime", "AccessionNumber"):
            setattr(one, keyword, one.get(keyword, ""))
        one.FrameOfReferenceUID = one.get("FrameOfReferenceUID", "1.2.3")
    slices.sort(key=lambda one: one.ImagePositionPatient[2])
    seen = labels if link.voxels is None else link.voxels.array_to_series(labels)
    code = highdicom.sr.CodedConcept("10200004", "SCT", "Liver")
    description = highdicom.seg.SegmentDescription(
        1, "liver", highdicom.sr.CodedConcept("123037004", "SCT", "Anatomical Structure"), code, "MANUAL")
    return highdicom.seg.Segmentation(
        slices, seen.transpose(2, 1, 0).astype(np.uint8), "BINARY", [description], highdicom.UID(), 900,
        highdicom.UID(), 1, "test", "test", "1", "1")


@pytest.mark.parametrize("image_id", ["torso", SERIES_UID])
def test_a_segmentation_is_stored_and_found(client, served, image_id):
    store, _, _, _, labels = served
    link = store.link(image_id)
    mask = labels == np.unique(labels)[-1]
    seg = segmentation(store, link, mask)
    answer = client.store_instances([seg])
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert "FailedSOPSequence" not in answer
    found = client.search_for_series(link.study_uid, search_filters={"Modality": "SEG"})
    assert seg.SeriesInstanceUID in [s["0020000E"]["Value"][0] for s in found]
    assert (store.folder / "labels" / "dicom" / f"{seg.SOPInstanceUID}.dcm").is_file()
    study = [s for s in client.search_for_studies() if s["0020000D"]["Value"] == [link.study_uid]][0]
    assert study["00080061"]["Value"] == ["CT", "SEG"]
    back = client.retrieve_instance(link.study_uid, seg.SeriesInstanceUID, seg.SOPInstanceUID)
    assert np.array_equal(back.pixel_array, seg.pixel_array)
    count = int(seg.NumberOfFrames)
    frames = client.retrieve_instance_frames(link.study_uid, seg.SeriesInstanceUID, seg.SOPInstanceUID,
                                             list(range(1, count + 1)))
    voxels = sum(int(np.unpackbits(np.frombuffer(f, np.uint8)).sum()) for f in frames)
    assert voxels == np.count_nonzero(mask)
    again = client.store_instances([seg])
    assert again.ReferencedSOPSequence[0].WarningReason == 0xB007
    with pytest.raises(requests.HTTPError, match="409"):
        seg.ContentLabel = "OTHER"
        client.store_instances([seg])


def test_storing_some_of_many(client, served):
    store = served[0]
    link = store.link(SERIES_UID)
    seg = segmentation(store, link, np.ones(served[2].shape, bool))
    taken = pydicom.dcmread(store.folder / "ct" / "0000.dcm")
    taken.PatientName = "OTHER"
    answer = client.store_instances([seg, taken])
    assert [r.ReferencedSOPInstanceUID for r in answer.ReferencedSOPSequence] == [seg.SOPInstanceUID]
    assert [r.FailureReason for r in answer.OtherFailuresSequence] == [0x0111]


@pytest.mark.parametrize("kind, body, status", [
    ("application/json", b"{}", 415), ("multipart/related; type=application/dicom; boundary=b", b"", 422),
    ("multipart/related; type=application/dicom; boundary=b", b"--b\r\n\r\nnonsense\r\n--b--", 422),
    ("application/dicom", b"nonsense", 422), ("application/dicom", b"\0" * (9 << 20), 413)])
def test_requests_to_store_that_are_none(served, kind, body, status):
    answer = httpx.post(f"{served[1]}/studies", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status and "allowed" in answer.json()["detail"]["reason"]


def test_the_loop_is_free_while_a_study_is_sent(served):
    """A reader that stops in the middle of a study does not hold up a search."""
    store, url, _, _, _ = served
    link = store.link("torso")
    with httpx.Client(timeout=30) as http:
        with http.stream("GET", f"{url}/studies/{link.study_uid}"):  # begun and not read on
            started = time.monotonic()
            assert http.get(f"{url}/studies").status_code == 200
            assert time.monotonic() - started < 10


def test_nothing_is_async_but_the_body(tmp_path):
    store_routes = dicomweb_router(DicomStore(tmp_path)).routes
    assert len(store_routes) >= 16
    assert not [r.path for r in store_routes if inspect.iscoroutinefunction(r.endpoint)]


@real
def test_real_hospital_series(tmp_path):
    """Values over the limits of their type: dicomweb_client's own file client lists none of these files."""
    store = DicomStore(REAL / "sts002_ct_mr_pet_rtstruct")
    url, stop = serve(store)
    try:
        client = DICOMwebClient(url)
        series = client.search_for_series()
        assert sorted(s["00080060"]["Value"][0] for s in series) == ["CT", "MR", "PT", "RTSTRUCT", "RTSTRUCT",
                                                                     "RTSTRUCT"]
        mr = next(s for s in series if s["00080060"]["Value"] == ["MR"])
        study, uid = mr["0020000D"]["Value"][0], mr["0020000E"]["Value"][0]
        metadata = client.retrieve_series_metadata(study, uid)
        assert len(metadata) == 35
        header = pydicom.Dataset.from_json(metadata[0])
        frame, = client.retrieve_instance_frames(study, uid, header.SOPInstanceUID, [1])
        assert len(frame) == header.Rows * header.Columns * 2
        json.dumps(metadata, allow_nan=False)
    finally:
        stop()


def test_a_batch_takes_the_series_that_a_query_asks_for(served, tmp_path):
    """Words on every CT of a server; the masks lie on the series' own grids."""
    url, grid, labels = served[1], served[3], served[4]
    out = tmp_path / "out"
    result = CliRunner().invoke(promptzoo_command, [
        "batch", f"{url}?Modality=CT", "--bundle", "sam_peft_organs", "--engine", "torch", "--text", "liver", "--out",
        str(out), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["done"] == told["studies"] >= 1 and not told["errors"]
    records = {record["id"]: record for record in map(json.loads, (out / "manifest.jsonl").read_text().splitlines())}
    found, own = read_mask(out / records[SERIES_UID]["mask"])
    assert records[SERIES_UID]["objects"][0]["name"] == "liver" and own.same_space(grid)
    liver = labels == next(value for value, name in torso_ct(1, (48, 40, 28), (8.0, 8.0, 10.0))[2].items()
                           if name == "liver")
    middles = [place.affine @ [*np.argwhere(mask).mean(0), 1] for place, mask in ((own, found), (grid, liver))]
    assert np.linalg.norm(middles[0] - middles[1]) < 30, "millimetres"
    nothing = CliRunner().invoke(promptzoo_command, ["batch", f"{url}?Modality=MR", "--bundle", "sam_peft_organs",
                                                     "--text", "liver", "--out", str(out)])
    assert nothing.exit_code != 0
