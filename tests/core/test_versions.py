"""Versions of a bundle: added whole, put into use, taken back, and safe from a kill."""
import json
import multiprocessing
import os
import signal

import pytest

from promptzoo.core.bundles import find_bundles, get_bundle, get_shipped
from promptzoo.core.errors import BundleError, ConflictError, NotFoundError
from promptzoo.core.versions import SHIPPED, Versions

BLOCK = {"schema_version": 1, "family": "interactive-refinement", "task": "segmentation", "prompts": ["point"],
         "dimensions": 3, "space": "RAS", "not_for": ["Nothing medical."],
         "weights": {"kind": "shipped", "file": "models/model.pt", "trained_on": "phantoms", "licence": "Apache-2.0"}}


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle in a folder of bundles, and a folder for its versions."""
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(tmp_path / "versions"))
    place = tmp_path / "bundles" / "solid_3d"
    (place / "configs").mkdir(parents=True)
    (place / "models").mkdir()
    (place / "models" / "model.pt").write_bytes(b"shipped")
    (place / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0", "promptzoo": BLOCK}))
    return get_shipped("solid_3d")


@pytest.fixture
def weights(tmp_path):
    """A weight file."""
    file = tmp_path / "fresh.pt"
    file.write_bytes(b"trained")
    return file


def test_a_version_is_used_by_its_name_and_taken_back(bundle, weights):
    versions = Versions(bundle)
    number = versions.add(weights, {"cases": ["a", "b"]})
    assert get_bundle("solid_3d").version == "0.1.0", "added, not used"
    assert versions.use(number).version == "0.1.0+1"
    found = get_bundle("solid_3d")
    assert (found.version, found.name, found.weights_path.read_bytes()) == ("0.1.0+1", "solid_3d", b"trained")
    assert [info.version for info in find_bundles()] == ["0.1.0+1"]
    assert get_bundle(bundle.path).version == get_shipped("solid_3d").version == "0.1.0", "a path means what it says"
    assert versions.record(number)["cases"] == ["a", "b"] and versions.numbers() == [SHIPPED, 1]
    assert versions.roll_back().version == get_bundle("solid_3d").version == "0.1.0"
    assert versions.roll_back().version == "0.1.0+1", "and forth"
    second = versions.add(weights, {})
    assert second == 2 and versions.find("0.1.0+2").version == "0.1.0+2" and versions.find("9") is None


def test_what_is_not_there(bundle, weights, monkeypatch):
    versions = Versions(bundle)
    with pytest.raises(ConflictError, match="before the present one"):
        versions.roll_back()
    with pytest.raises(NotFoundError, match="got 3; allowed: 0"):
        versions.use(3)
    versions.use(versions.add(weights, {}))
    (versions.folder / "1" / "solid_3d" / "configs" / "metadata.json").write_text("{")
    assert get_bundle("solid_3d").version == "0.1.0", "a broken version does not take the bundle with it"
    monkeypatch.setenv("PROMPTZOO_VERSIONS", "off")
    with pytest.raises(BundleError, match="PROMPTZOO_VERSIONS=off"):
        Versions(bundle)


def test_bundles_of_the_same_name_do_not_share_versions(bundle, weights, tmp_path, monkeypatch):
    Versions(bundle).use(Versions(bundle).add(weights, {}))
    other = tmp_path / "others"
    other.mkdir()
    bundle.path.rename(other / "solid_3d")
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(other))
    assert get_bundle("solid_3d").version == "0.1.0"


def test_a_version_that_is_no_better_goes(bundle, weights):
    versions = Versions(bundle)
    kept, dropped = versions.add(weights, {}), versions.add(weights, {})
    versions.settle(kept, {"gain": 0.1}, True)
    versions.settle(dropped, {"gain": -0.1}, False)
    assert versions.numbers() == [0, 1] and versions.current == 1 and versions.record(1)["gain"] == 0.1


def _train_and_die(bundle_path):
    versions = Versions(get_shipped(bundle_path))
    with versions.training():
        versions.tell_progress(state="training", iteration=3, of=9)
        os.kill(os.getpid(), signal.SIGKILL)


def _train_in_silence(bundle_path, began, ends):
    with Versions(get_shipped(bundle_path)).training():
        began.set()
        ends.wait(60)


def test_a_training_that_has_said_nothing_is_starting(bundle):
    context = multiprocessing.get_context("spawn")
    began, ends = context.Event(), context.Event()
    versions = Versions(bundle)
    versions.tell_progress(state="training")
    assert versions.progress()["state"] == "interrupted"
    process = context.Process(target=_train_in_silence, args=(bundle.path, began, ends))
    process.start()
    assert began.wait(60) and versions.progress() == {"state": "starting", "pid": process.pid}
    ends.set()
    process.join(60)
    assert versions.progress()["state"] == "interrupted"


def test_a_killed_training_leaves_nothing_behind(bundle):
    versions = Versions(bundle)
    assert versions.progress() == {"state": "idle"}
    process = multiprocessing.get_context("spawn").Process(target=_train_and_die, args=(bundle.path,))
    process.start()
    process.join(60)
    told = versions.progress()
    assert told["state"] == "interrupted" and told["iteration"] == 3
    with versions.training() as place:
        assert not list(place.iterdir()) and [p.name for p in versions.folder.glob("run-*")] == [place.name]
        versions.tell_progress(state="training")
        assert versions.progress()["state"] == "training"
        with pytest.raises(ConflictError, match="one runs already"):
            with versions.training():
                pytest.fail("two trainings at once")
    versions.remember({"gain": 1})
    with (versions.folder / "history.jsonl").open("a") as stream:
        stream.write('{"half')
    assert [line["gain"] for line in versions.history()] == [1]


def test_a_case_keeps_its_part(bundle):
    versions = Versions(bundle)
    versions.keep_parts({"a": "train", "b": "held"})
    versions.keep_parts({"c": "train"})
    assert versions.parts() == {"a": "train", "b": "held", "c": "train"}
