"""Files of learned prompts: what is read of them, and what is refused."""
import json
import struct

import pytest

from promptzoo.core.errors import BundleError, NotFoundError, PromptError
from promptzoo.core.learned import add_learned, class_name, learned_prompts, read_record, remove_learned

RECORD = {"name": "left thing", "bundle": "flat", "base": {"bundle": "base", "sha256": "a" * 64}, "cases": 3}


def write(path, record=RECORD):
    """A safetensors file without tensors."""
    text = json.dumps({"__metadata__": {"promptzoo": json.dumps(record)}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """A folder of user data of its own."""
    monkeypatch.setenv("PROMPTZOO_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_add_list_remove(tmp_path, data):
    """What was added is known under its name, and removing it leaves nothing."""
    place = add_learned(write(tmp_path / "x.safetensors"), "flat", "a" * 64)
    assert learned_prompts("flat") == {"left thing": place} and learned_prompts("other") == {}
    assert learned_prompts("flat", "b" * 64) == {}
    remove_learned("Left_Thing", "flat")
    assert learned_prompts("flat") == {} and not [p for p in data.rglob("*") if p.is_file()]
    with pytest.raises(NotFoundError, match="left thing"):
        remove_learned("left thing", "flat")


def test_wrong_weights_and_names(tmp_path):
    """A prompt of other weights or another bundle, a taken name, and a second one of the same name are refused."""
    file = write(tmp_path / "x.safetensors")
    for bundle, sha in (("flat", "b" * 64), ("other", "a" * 64)):
        with pytest.raises(BundleError, match="Learn it again"):
            add_learned(file, bundle, sha)
    with pytest.raises(PromptError, match="no class of the bundle"):
        add_learned(file, "flat", "a" * 64, ("left thing",))
    add_learned(file, "flat", "a" * 64)
    with pytest.raises(PromptError, match="--replace"):
        add_learned(file, "flat", "a" * 64)
    add_learned(file, "flat", "a" * 64, replace=True)


@pytest.mark.parametrize("content", [b"", b"12345678", struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 2) + b"{}",
                                     struct.pack("<Q", 2) + b"[]", b"\xff" * 16])
def test_no_learned_prompt(tmp_path, content):
    """Any other file is refused by name."""
    (tmp_path / "y.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match="y.safetensors"):
        read_record(tmp_path / "y.safetensors")


@pytest.mark.parametrize("name", ["", "  ", "../x", "a/b", "x" * 80, "-x"])
def test_bad_names(name):
    """Names that are no names, or paths."""
    with pytest.raises(PromptError, match="name of a learned prompt"):
        class_name(name)
    assert class_name(" Left_Thing  2 ") == "left thing 2"
