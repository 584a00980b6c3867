"""``monailabel start_server --app apps/promptlabel --studies DIR`` serves as ``promptzoo serve`` does."""
import configparser
import importlib.metadata
import os
import shutil
import sys
import time
from pathlib import Path

import httpx
import pytest

from .conftest import READY_S, ROOT, free_port, running

GROUP = "torch.backends"


@pytest.fixture
def environment(tmp_path):
    """What an installation of promptzoo gives to MONAI Label's command: the entry point that mends its imports.

    Where the package is not installed but on the path, the entry point of setup.cfg is laid beside it.
    """
    if any(entry.value.startswith("promptzoo.") for entry in importlib.metadata.entry_points(group=GROUP)):
        return {}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup.get("options.entry_points", GROUP, fallback=None)
    if wanted is None:
        pytest.fail(f"setup.cfg has no entry point {GROUP}: see promptzoo/core/autoload.py")
    record = tmp_path / "site" / "promptzoo-0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: promptzoo\nVersion: 0\n")
    (record / "entry_points.txt").write_text(f"[{GROUP}]\n{wanted.strip()}\n")
    return {"PYTHONPATH": os.pathsep.join([str(record.parent), str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_start_server(tmp_path, environment):
    import nibabel
    import numpy as np

    studies, app = tmp_path / "studies", tmp_path / "promptlabel"
    studies.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(32, 32, 24)), np.eye(4)),
                 studies / "noise.nii.gz")
    shutil.copytree(ROOT / "apps" / "promptlabel", app,  # MONAI Label makes folders in it
                    ignore=shutil.ignore_patterns("__pycache__", "logs", "model", "bin"))
    port = free_port()
    command = [str(Path(sys.executable).with_name("monailabel")), "start_server", "--app", str(app), "--studies",
               str(studies), "--host", "127.0.0.1", "--port", str(port), "--conf", "preload", "false"]
    with running(command, port, tmp_path / "server", environment) as server:
        models = httpx.get(f"{server.url}/info/", timeout=60).json()["models"]
        assert list(models)[0] == "auto"
        wrong = httpx.post(f"{server.url}/infer/none", params={"image": "noise"}, timeout=60)
        assert wrong.status_code == 404 and wrong.json()["detail"]["kind"] == "NotFoundError"
        empty = httpx.post(f"{server.url}/infer/auto", params={"image": "noise", "output": "json"}, timeout=60)
        assert empty.status_code == 200 and "no prompt was given" in empty.json()["reason"]
        assert httpx.post(f"{server.url}/batch/infer/auto", json={}, timeout=60).status_code == 200
        ends, state = time.monotonic() + READY_S, {"status": "SUBMITTED"}
        while state["status"] in ("SUBMITTED", "RUNNING") and time.monotonic() < ends:  # a process of its own
            time.sleep(0.5)
            state = httpx.get(f"{server.url}/batch/infer", timeout=60).json()
        assert state["status"] == "DONE", state
