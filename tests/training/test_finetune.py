"""Fine-tuning on corrected cases: what is measured, what is kept, and what is refused."""
import pytest

from promptzoo.core.bundles import get_shipped
from promptzoo.core.errors import BundleError, PromptZooError
from promptzoo.core.versions import Versions
from promptzoo.training import finetune as module
from promptzoo.training.corrections import from_datalist
from promptzoo.training.finetune import finetune
from promptzoo.training.settings import Settings, why_not_trainable


@pytest.fixture
def cases(disc_list, tmp_path, monkeypatch):
    """Three images of a dark disc."""
    monkeypatch.setenv("PROMPTZOO_VERSIONS", str(tmp_path / "versions"))
    return from_datalist(disc_list(3))


def test_a_training_from_begin_to_end(cases):
    bundle, heard = get_shipped("sam_box_finetune"), []
    record = finetune(bundle, cases, Settings(iterations=4, clicks=1, learning_rate=1e-6, least_gain=-1.0),
                      heard.append)
    versions = Versions(bundle)
    assert record["accepted"] and versions.current == record["version"] == 1, "any result is good enough here"
    assert record["held_back"] == ["case 1"] and record["cases"] == ["case 0", "case 2"]
    assert record["before"]["protocol"] == "box+clicks" and len(record["after"]["steps"]) == 2
    assert abs(record["gain"]) < 0.2, "hardly any learning rate, hardly any change"
    assert [state["state"] for state in heard][::len(heard) - 1] == ["comparing", "done"]
    assert versions.progress()["state"] == "done" and versions.history()[0]["gain"] == record["gain"]
    assert not list(versions.folder.glob("run-*")) and versions.parts()["case 1"] == "held"


def test_a_worse_result_is_not_used(cases, monkeypatch):
    scores = iter((0.9, 0.8))
    monkeypatch.setattr(module, "measured", lambda *_: {"score": next(scores), "first": None, "steps": []})
    monkeypatch.setattr(module, "train_on", lambda source, *_: source.weights_path)
    bundle = get_shipped("sam_box_finetune")
    record = finetune(bundle, cases)
    assert (record["accepted"], record["version"], record["gain"]) == (False, None, -0.1)
    assert Versions(bundle).numbers() == [0] and not Versions(bundle).history()[0]["accepted"]


def test_a_failure_is_told_and_changes_nothing(cases, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(module, "train_on", fail)
    monkeypatch.setattr(module, "measured", lambda *_: {"score": 0.5})
    bundle = get_shipped("sam_box_finetune")
    with pytest.raises(OSError, match="disk full"):
        finetune(bundle, cases)
    told = Versions(bundle).progress()
    assert told["state"] == "failed" and "disk full" in told["error"] and Versions(bundle).numbers() == [0]


def test_what_cannot_be_trained(cases):
    assert why_not_trainable(get_shipped("interactive_refinement_3d")) == ""
    with pytest.raises(BundleError, match="derived from sam_box_finetune"):
        finetune(get_shipped("sam_peft"), cases)
    with pytest.raises(PromptZooError, match="1 to train on, 0 held back"):
        finetune(get_shipped("sam_box_finetune"), cases[:1])
    with pytest.raises(PromptZooError, match="settings of the training"):
        Settings(iterations=0)
