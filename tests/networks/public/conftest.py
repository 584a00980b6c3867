"""A folder of public weights for each test, and small descriptions of files."""
import hashlib
import importlib.util
import json
from pathlib import Path

import pytest

from promptzoo.networks.public import catalog

HERE = Path(__file__).parent


def published_module():
    """``published.py`` beside this file."""
    spec = importlib.util.spec_from_file_location("published", HERE / "published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def published():
    """Names and shapes of the published checkpoints."""
    return published_module()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of public weights of this test."""
    monkeypatch.setenv("PROMPTZOO_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def describe(tmp_path, monkeypatch):
    """A function that describes a file of some bytes as weights of their own: ``describe(content, **changes)``."""
    folder = tmp_path / "descriptions"
    folder.mkdir()
    monkeypatch.setattr(catalog, "FOLDER", folder)
    record = json.loads((HERE.parents[2] / "promptzoo/networks/public/weights/lite-medsam.json").read_text())

    def make(content, name="small", **changes):
        own = {"file": "small.pth", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
               "urls": ["https://weights.example/small.pth"]}
        (folder / f"{name}.json").write_text(json.dumps({**record, **own, **changes}))
        return catalog.get_public(name)

    return make
