"""Descriptions of public weights: complete, honest about what is unknown, and each with a network."""
import importlib
import json

import pytest

from promptzoo.core.errors import BundleError, NotFoundError
from promptzoo.networks.public import catalog
from promptzoo.networks.public.keys import CONVERSIONS
from promptzoo.networks.public.preprocess import PREPARATIONS

EXPECTED = {"sam-vit-b", "sam2.1-tiny", "sam2.1-small", "medsam", "sam-med2d", "sam-med3d", "mobile-sam", "lite-medsam"}


def test_every_weight_file_is_described():
    assert {weights.name for weights in catalog.public_weights()} == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_description_can_be_used(name):
    weights = catalog.get_public(name)
    module, _, network = weights.layout["network"].rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), network), type)
    assert weights.layout["keys"] in CONVERSIONS
    assert (weights.preprocessing["kind"] in PREPARATIONS) == (weights.dimensions == 2)
    assert weights.layout["args"]["size"] == weights.preprocessing["size"]
    assert ("unknown" in weights.record["hash_note"].lower()) == (not weights.hashes or weights.bytes is None)
    assert weights.record["unverified"], "nothing published could be opened here"


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(NotFoundError, match="medsam2.*lite-medsam, medsam.*Did you mean"):
        catalog.get_public("medsam2")


def test_a_wrong_description_is_named(tmp_path):
    record = dict(catalog.get_public("medsam").record, sha256="abc", licence="")
    (tmp_path / "own.json").write_text(json.dumps(record))
    with pytest.raises(BundleError, match="own.json.*licence.*sha256"):
        catalog.public_weights(tmp_path)
