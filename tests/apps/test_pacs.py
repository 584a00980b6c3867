"""The server over a real Orthanc: studies, sessions and masks over DICOMweb."""
import contextlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient

from promptzoo.client import Client, ObjectInfo, Point
from promptzoo.data.dicom_seg_read import read_seg
from promptzoo.data.io import write_mask

from .conftest import SERIES_UID, free_port, running, write_series

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or ("/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").is_file() else "")
pytestmark = pytest.mark.skipif(not ORTHANC or not PLUGIN.is_file(),
                                reason="Orthanc is not here: apt-get install orthanc orthanc-dicomweb")


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """A running Orthanc on the loopback device; its DICOMweb root."""
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {"Name": "test", "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"),
                "HttpPort": port, "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False,
                "DicomServerEnabled": False, "AuthenticationEnabled": True, "RegisteredUsers": {"ann": "secret"},
                "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    root = f"http://127.0.0.1:{port}/dicom-web"
    try:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{root}/studies", auth=("ann", "secret")).status_code == 200:
                    break
            time.sleep(0.3)
        else:
            pytest.fail(f"Orthanc does not answer:\n{(folder / 'log').read_text()[-2000:]}")
        yield root
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def series(study, tmp_path_factory):
    """The torso as DICOM files."""
    folder = tmp_path_factory.mktemp("pacs") / "series"
    write_series(study[1]["ct"].volume, folder, SERIES_UID)
    return folder


@pytest.fixture(scope="module")
def server(orthanc, series, tmp_path_factory):
    """``promptzoo serve`` over it, with credentials."""
    session = __import__("requests").Session()
    session.auth = ("ann", "secret")
    DICOMwebClient(orthanc, session=session).store_instances([pydicom.dcmread(path) for path in series.iterdir()])
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    (folder / "password").write_text("secret\n")
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", orthanc, "--port", str(port),
               "--pacs-user", "ann", "--pacs-password-file", str(folder / "password"), "--engine", "torch",
               "--no-preload"]
    with running(command, port, folder) as found:
        yield found


def test_searches_keep_their_query_and_need_no_credentials(server, orthanc):
    ours = DICOMwebClient(f"{server.url}/dicom-web")
    assert httpx.get(f"{orthanc}/studies").status_code == 401
    assert [s["0020000D"]["Value"] for s in ours.search_for_studies(search_filters={"PatientID": "PHANTOM"})]
    assert ours.search_for_studies(search_filters={"PatientID": "NOBODY"}) == []
    assert len(ours.retrieve_series_metadata(f"{SERIES_UID}.0", SERIES_UID)) == 56
    assert httpx.get(f"{server.url}/dicom-web/nothing").status_code in (400, 404)


def test_a_session_ends_as_a_seg_in_the_pacs(server, orthanc, series, study, tmp_path):
    case = study[1]["ct"]
    with Client(server.url) as client:
        assert client.next()["series"] == SERIES_UID
        session = client.begin(SERIES_UID)
        session.add(Point(tuple(case.click("lung right")), space="voxel"), objects=[ObjectInfo(1, "lung")])
        labels, affine = session.labelmap()
        assert labels.shape == case.labels.shape and np.allclose(affine, case.volume.grid.affine, atol=1e-3)
        saved = session.save()
        assert saved["seg_instance"] and not saved["reason"]
        assert client.next()["image"] is None, "the only case is done"
    ours = DICOMwebClient(f"{server.url}/dicom-web")
    seg = ours.retrieve_instance(f"{SERIES_UID}.0", saved["seg_series"], saved["seg_instance"])
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    found, _, names = read_seg(tmp_path / "seg.dcm", reference=series)
    assert np.array_equal(found, labels) and names == {1: "lung"}


def test_monai_labels_own_way_of_saving_names_the_right_segment(server, series, study, tmp_path):
    from monailabel.client import MONAILabelClient

    case = study[1]["ct"]
    kept = np.where(case.labels == 2, 2, 0).astype(np.uint8)
    write_mask(tmp_path / "label.nii.gz", kept, case.volume.grid)
    client = MONAILabelClient(server.url, tmpdir=str(tmp_path))
    assert client.info()["datastore"]["total"] == 1
    client.save_label(SERIES_UID, str(tmp_path / "label.nii.gz"), params={
        "label_info": [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]})
    ours = DICOMwebClient(f"{server.url}/dicom-web")
    written = []
    for entry in ours.search_for_series(f"{SERIES_UID}.0", search_filters={"Modality": "SEG"}):
        [seg] = ours.retrieve_series(f"{SERIES_UID}.0", entry["0020000E"]["Value"][0])
        written.append([segment.SegmentLabel for segment in seg.SegmentSequence])
    assert ["spleen"] in written


def test_a_pacs_that_is_away_is_told(tmp_path):
    away = f"http://127.0.0.1:{free_port()}/dicom-web"
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", away, "--port", str(free_port()),
               "--no-preload"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode != 0 and "DICOMweb server: got ConnectionError" in done.stderr.splitlines()[-1]
