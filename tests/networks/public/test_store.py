"""Files of public weights on this machine: states, checks, imports."""
import os

import pytest

from promptzoo.core.errors import BundleError, NotFoundError
from promptzoo.networks.public import store

CONTENT = b"published tensors"


def test_states(place, describe):
    weights = describe(CONTENT)
    assert store.state(weights) == store.MISSING and store.place(weights) == place / "small.pth"
    store.place(weights).write_bytes(CONTENT)
    assert store.state(weights) == store.PRESENT and not store.checked(weights)
    store.check(weights)
    assert store.checked(weights)
    store.place(weights).write_bytes(CONTENT[:-1])
    assert store.state(weights) == store.DAMAGED and not store.checked(weights)


def test_damage_of_the_same_size_is_found_and_remembered(place, describe):
    weights = describe(CONTENT)
    store.place(weights).write_bytes(CONTENT[::-1])
    assert store.state(weights) == store.PRESENT, "at a glance it may be right"
    with pytest.raises(BundleError, match=f"sha256.*{weights.hashes['sha256']}.*promptzoo weights get small"):
        store.ready(weights)
    assert store.state(weights) == store.DAMAGED
    store.place(weights).write_bytes(CONTENT)
    os.utime(store.place(weights), ns=(1, 1))
    assert store.ready(weights) == store.place(weights) and store.state(weights) == store.PRESENT


def test_md5_serves_where_nothing_better_is_known(place, describe):
    weights = describe(CONTENT, sha256=None, md5="0" * 32)
    store.place(weights).write_bytes(CONTENT)
    with pytest.raises(BundleError, match="md5"):
        store.check(weights)


def test_without_a_digest_a_file_is_taken_as_it_is(place, describe):
    weights = describe(CONTENT, sha256=None, bytes=None)
    store.place(weights).write_bytes(b"anything")
    assert store.ready(weights).is_file() and not store.checked(weights)
    assert len(store.check(weights)["sha256"]) == 64


def test_missing_files_say_how_to_get_them(place, describe):
    with pytest.raises(NotFoundError, match="promptzoo weights get small"):
        store.ready(describe(CONTENT))
    by_hand = describe(CONTENT, urls=[], pages=["https://authors.example/page"])
    with pytest.raises(NotFoundError, match="https://authors.example/page elsewhere and put it at .*small.pth, then: "
                                            "promptzoo weights verify small"):
        store.ready(by_hand)


def test_a_file_is_imported_after_it_was_checked(place, describe, tmp_path):
    weights, source = describe(CONTENT), tmp_path / "fetched.pth"
    source.write_bytes(CONTENT + b"!")
    with pytest.raises(BundleError, match="size"):
        store.import_file(weights, source)
    assert store.state(weights) == store.MISSING
    source.write_bytes(CONTENT)
    assert store.import_file(weights, source).read_bytes() == CONTENT and store.checked(weights)
    with pytest.raises(NotFoundError):
        store.import_file(weights, tmp_path / "nothing.pth")
