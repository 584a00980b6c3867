"""A real server over a small sample study, started once per test module that asks for it."""
import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_S = float(os.environ.get("PROMPTZOO_TEST_READY_S", 180))
"""A start takes ten seconds on a machine with nothing else to do."""


def pytest_runtest_setup(item):
    """Skip what needs MONAI Label where it is not installed."""
    if "test_requests" not in item.nodeid and importlib.util.find_spec("monailabel") is None:
        pytest.skip("MONAI Label is not installed: pip install 'promptzoo[label]'")


@dataclass(frozen=True)
class Server:
    """A running server.

    Args:
        url: its address.
        folder: everything it writes lies below.
        log: its output.
        pid: its process.
    """

    url: str
    folder: Path
    log: Path
    pid: int

    @property
    def peak_rss_mb(self):
        """Peak memory of the process."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def free_port():
    """A port of the loopback device that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(command, port, folder, extra=None, sign="/info/"):
    """Start a server, wait until it answers, stop it by its process id.

    Args:
        sign: path whose answer shows that the server is up.
        command: what to start.
        port: where it will listen.
        folder: its home, cache and temporary folder lie there.
        extra: environment on top of this process's own.
    """
    places = {"HOME": folder / "home", "PROMPTZOO_CACHE": folder / "cache", "TMPDIR": folder / "tmp"}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MONAI_LABEL_", "XDG_"))}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**kept, **{k: str(v) for k, v in places.items()}, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1",
                   "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
                   **(extra or {})}
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=folder, env=environment)
    server = Server(f"http://127.0.0.1:{port}", folder, log, process.pid)
    try:
        _wait(server, process, sign)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(server, process, sign):
    ends = time.monotonic() + READY_S
    while time.monotonic() < ends:
        if process.poll() is not None:
            pytest.fail(f"the server stopped with {process.returncode}:\n{server.log.read_text()[-4000:]}")
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"{server.url}{sign}", timeout=20) as answer:
                json.load(answer)
                return
        time.sleep(0.2)
    pytest.fail(f"no answer within {READY_S} s:\n{server.log.read_text()[-4000:]}")


@dataclass(frozen=True, eq=False)
class Case:
    """An image of the study and what is known of it: labels and names on its own grid."""

    image_id: str
    volume: object
    labels: np.ndarray
    names: dict

    def mask(self, name):
        """Boolean mask of a named object."""
        return self.labels == next(value for value, known in self.names.items() if known == name)

    def click(self, name):
        """The voxel deepest inside an object, as a list."""
        from promptzoo.data.phantoms import inner_point

        return list(inner_point(self.mask(name)))


def write_series(volume, folder, uid, study=None):
    """A DICOM series of a volume in HU, classic CT images from the last slice to the first; in a study of its own
    unless one is named."""
    import pydicom

    from promptzoo.core.geometry import LPS_TO_RAS

    folder.mkdir(parents=True)
    affine = LPS_TO_RAS @ volume.grid.affine
    spacing = volume.grid.spacing_mm
    cosines = affine[:3, :3] / spacing
    for k in range(volume.grid.shape[2]):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{k + 1}"
        data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = uid, study or f"{uid}.0", "CT"
        data.PatientID = data.PatientName = "PHANTOM"
        data.Columns, data.Rows, data.InstanceNumber = *volume.grid.shape[:2], volume.grid.shape[2] - k
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.RescaleSlope, data.RescaleIntercept = 15, 1, 0
        data.PixelSpacing, data.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        data.ImageOrientationPatient = [*cosines[:, 0], *cosines[:, 1]]
        data.ImagePositionPatient = list((affine @ [0, 0, k, 1])[:3])
        data.PixelData = np.round(volume.data[:, :, k].T).astype(np.int16).tobytes()
        data.save_as(folder / f"{k:04d}.dcm", enforce_file_format=True)


SERIES_UID = "1.2.826.0.1.3680043.10.511.3.77"


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A folder with a torso as NIfTI, as DICOM series in a sub-folder, an ultrasound frame as NRRD and nuclei as PNG.

    Returns:
        The folder, and the cases by ``ct``, ``dicom``, ``us``, ``png``.
    """
    import nrrd
    from PIL import Image

    from promptzoo.core.geometry import LPS_TO_RAS
    from promptzoo.data.nifti import write_nifti
    from promptzoo.data.phantoms import microscopy_nuclei, torso_ct, ultrasound_cyst

    folder = tmp_path_factory.mktemp("study") / "cases"
    folder.mkdir()
    torso, frame, nuclei = torso_ct(1, (96, 72, 56), (4.0, 4.0, 5.0)), ultrasound_cyst(1), microscopy_nuclei(1)
    write_nifti(folder / "torso.nii.gz", torso[0].data.astype(np.int16), torso[0].grid)
    write_series(torso[0], folder / "scanner" / "ct", SERIES_UID)
    affine = LPS_TO_RAS @ frame[0].grid.affine
    nrrd.write(str(folder / "frame.nrrd"), frame[0].data.astype(np.uint8), {
        "space": "left-posterior-superior", "space directions": affine[:3, :3].T, "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3}, index_order="F")
    Image.fromarray(nuclei[0].data[:, :, 0].T.astype(np.uint8)).save(folder / "nuclei.png")
    cases = {"ct": ("torso", torso), "dicom": (SERIES_UID, torso), "us": ("frame", frame), "png": ("nuclei", nuclei)}
    return folder, {name: Case(image_id, *phantom) for name, (image_id, phantom) in cases.items()}


def dice(found, wanted):
    """Dice of two boolean masks."""
    return 2 * np.count_nonzero(found & wanted) / max(1, np.count_nonzero(found) + np.count_nonzero(wanted))
