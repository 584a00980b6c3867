"""Label, train, go on with the new version, go back: over HTTP, with a real training in a process of its own."""
import contextlib
import os
import shutil
import signal
import sqlite3
import sys
import time

import numpy as np
import pytest
from PIL import Image

from promptzoo.client import Box, Client, ServerError
from promptzoo.core.bundles import get_shipped
from promptzoo.core.versions import Versions

from .conftest import free_port, running

BUNDLE = "sam_box_finetune"


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder of four pictures of a dark disc."""
    folder = tmp_path_factory.mktemp("learning") / "cases"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(4):
        y, x = np.mgrid[:80, :80]
        disc = (x - 36 - 3 * n) ** 2 + (y - 40) ** 2 < 16 ** 2
        Image.fromarray(np.uint8(np.where(disc, 60, 150) + rng.normal(0, 8, disc.shape))).save(folder / f"case{n}.png")
    return folder


@pytest.fixture(scope="module")
def server(cases):
    """A server whose versions lie in a folder of its own."""
    home = cases.parent / "server"
    port = free_port()
    command = [sys.executable, "-m", "promptzoo.cli", "serve", "--studies", str(cases), "--port", str(port),
               "--engine", "torch", "--no-preload"]
    with running(command, port, home, {"PROMPTZOO_VERSIONS": str(home / "versions")}) as found:
        yield found


@pytest.fixture
def client(server):
    """A client of the server."""
    with Client(server.url, retries=0) as found:
        yield found


@pytest.fixture
def versions(server, monkeypatch):
    """The versions of the bundle on the server."""
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(server.folder / "versions"))
    return Versions(get_shipped(BUNDLE))


def label(client, name):
    """Mark the disc of a case with a box and save."""
    n = int(name[-1])
    session = client.begin(name, BUNDLE, user="anna")
    session.add(Box((19 + 3 * n, 23, 0), (54 + 3 * n, 58, 1), space="voxel"))
    assert session.save()["place"]
    return session


def waited(client, until, seconds=240):
    """The state of learning once ``until`` holds for it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        told = client.learning(BUNDLE)
        if until(told):
            return told
        time.sleep(0.3)
    pytest.fail(f"not within {seconds} s: {told}")


def test_too_few_labels_are_refused(client):
    assert client.learning(BUNDLE)["progress"] == {"state": "idle"}
    with pytest.raises(ServerError, match="at least 2"):
        client.train(BUNDLE)
    with pytest.raises(ServerError, match="bundle to train"):
        client.train("sam_peft")
    with pytest.raises(ServerError, match="none runs"):
        client.cancel_training(BUNDLE)


def test_next_cases_are_scored_and_different_for_everybody(client, server):
    given = [client.next("entropy", user)["image"] for user in ("anna", "bert", "carl")]
    assert len(set(given)) == 3 and set(given) <= {f"case{n}" for n in range(4)}
    client.next("first", "dora")
    assert client.next("first", "anna")["image"] == given[0], "nothing else is left"
    [file] = server.folder.rglob("*.work.sqlite")
    with contextlib.closing(sqlite3.connect(file)) as ledger:
        ends = time.monotonic() + 120
        while ledger.execute("SELECT count(*) FROM scores").fetchone()[0] < 4 and time.monotonic() < ends:
            time.sleep(0.3)
        assert ledger.execute("SELECT count(*) FROM scores").fetchone()[0] == 4
        ledger.execute("DELETE FROM assigned")
        ledger.commit()
    assert "bits per voxel" in client.next("entropy", "anna")["reason"]


def test_a_training_is_seen_cancelled_killed_and_done(client, versions):
    for n in range(3):
        label(client, f"case{n}")
    assert client.learning(BUNDLE)["corrected"] == 3
    client.train(BUNDLE, iterations=4000)
    waited(client, lambda told: told["progress"]["state"] == "training" and told["progress"]["iteration"] >= 1)
    with pytest.raises(ServerError, match="one runs already"):
        client.train(BUNDLE)
    session = client.begin("case3", BUNDLE)
    session.add(Box((25, 20, 0), (60, 60, 1), space="voxel"))
    assert session.labelmap()[0].any(), "clicks are answered meanwhile"
    assert client.cancel_training(BUNDLE)["version"] == "0.1.0"
    assert waited(client, lambda told: told["progress"]["state"] == "interrupted")["current"] == 0

    client.train(BUNDLE, iterations=4000)
    told = waited(client, lambda told: told["progress"]["state"] == "training")
    with contextlib.suppress(ProcessLookupError):
        os.kill(told["progress"]["pid"], signal.SIGKILL)
    assert waited(client, lambda told: told["progress"]["state"] == "interrupted")["versions"][-1]["number"] == 0

    client.train(BUNDLE, iterations=4)
    told = waited(client, lambda told: told["progress"]["state"] in ("done", "failed"))
    assert told["progress"]["state"] == "done" and told["last"]["held_back"] == ["case1"]
    assert told["last"]["before"]["first"] is not None, "the box that was drawn is in the log of the label"
    assert told["last"]["accepted"] == (told["last"]["gain"] >= 0.005) == (told["current"] == 1)


def test_another_version_is_served_while_a_session_goes_on(client, versions, tmp_path):
    session = client.begin("case3", BUNDLE)
    session.add(Box((25, 20, 0), (60, 60, 1), space="voxel"))
    before = client.learning(BUNDLE)["version"]
    weights = tmp_path / "same.pt"
    shutil.copy(versions.info(versions.current).weights_path, weights)
    number = versions.add(weights, {"cases": ["case0"]})
    versions.use(number)
    told = waited(client, lambda told: told["version"] == f"0.1.0+{number}")
    assert told["versions"][-1]["cases"] == 1
    later = client.begin("case3", BUNDLE)
    assert later._view["bundle_version"] == f"0.1.0+{number}" and session.replay()["equal"] is True
    session.add(Box((20, 20, 0), (50, 50, 1), space="voxel", object_id=2))
    assert client.roll_back(BUNDLE)["version"] == before
    assert client.use_version(BUNDLE, 0)["current"] == 0
    with pytest.raises(ServerError, match="allowed: 0"):
        client.use_version(BUNDLE, 99)
