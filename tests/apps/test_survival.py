"""The server is killed with SIGKILL, between requests and while it works; nothing that it confirmed is lost."""
import contextlib
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from promptzoo.client import Client, Point
from promptzoo.data.io import read_labels

from .conftest import free_port, running


@pytest.fixture
def start(study, tmp_path):
    """A function that starts the server, each time over the same folder, as a context manager."""

    def begin():
        port = free_port()
        command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(study[0]), "--port", str(port),
                   "--engine", "torch", "--no-preload"]
        return running(command, port, tmp_path / "server")

    return begin


def kill(server):
    """SIGKILL: no handler runs, nothing is flushed."""
    os.kill(server.pid, signal.SIGKILL)


def label_file(study):
    """The final label of the torso."""
    return study[0] / "labels" / "final" / "torso.nii.gz"


def test_killed_between_and_during_requests(start, study):
    case = study[1]["ct"]
    place = tuple(case.click("lung right"))
    with start() as server, Client(server.url, retries=0) as client:
        session = client.begin(case.image_id)
        session.add(Point(place, space="voxel"))
        confirmed, _ = session.labelmap()
        saved = session.save(rtstruct=True)
        assert saved["rtstruct_instance"], saved["reason"]
        assert saved["place"] == "torso.nii.gz" and saved["seg_instance"]
        kill(server)
    before = label_file(study).read_bytes()
    labels, _, _ = read_labels(label_file(study), reference=case.volume.grid)
    assert np.array_equal(labels, confirmed)
    assert label_file(study).with_name("torso.prompts.json").is_file()

    with start() as server, Client(server.url, retries=0) as client:
        again = client.open(session.id)
        assert [p.kind for p in again.prompts.prompts] == ["point"] and again.sequence == 2
        assert np.array_equal(again.labelmap()[0], confirmed), "the same mask, computed again"
        assert again.replay()["equal"] is True
        other = tuple(case.click("heart"))
        done = []

        def work():
            with contextlib.suppress(Exception):
                done.append(again.add(Point(other, object_id=2, space="voxel")).sequence)
                again.save()
                done.append("saved")

        worker = threading.Thread(target=work)
        worker.start()
        time.sleep(0.25)
        kill(server)
        worker.join(60)

    labels, _, _ = read_labels(label_file(study), reference=case.volume.grid)
    assert label_file(study).read_bytes() == before or "saved" in done or 2 in labels, "the old label or the new one"
    with start() as server, Client(server.url, retries=0) as client:
        last = client.open(session.id)
        kinds = [p.kind for p in last.prompts.prompts]
        assert kinds in (["point"], ["point", "point"]) and (len(kinds) == 2 or not done)
        assert last.labelmap()[0].any() and "torso" in client.images()
        last.add(Point(place, space="voxel"))
