"""Errors, seeds, optional imports and folders."""
import random
import re

import numpy as np
import pytest

from promptzoo.core import errors, optional, seeding
from promptzoo.core.errors import MissingDependencyError, NotFoundError, PromptZooError, complain
from promptzoo.core.locations import bundles_dir, cache_dir

# errors


def test_complaint_says_what_was_wrong_received_allowed_and_next():
    assert complain("spacing", -1, "positive numbers", "Check the header") == (
        "spacing: got -1; allowed: positive numbers. Check the header.")
    assert complain("name", "x y", "a word") == "name: got x y; allowed: a word."
    assert complain("list", ["a"], "b", "Go on.") == "list: got ['a']; allowed: b. Go on."


@pytest.mark.parametrize("size, shown", [(200, 200), (201, 200), (5000, 200)])
def test_complaint_shortens_long_values(size, shown):
    text = re.fullmatch(r"value: got (.*); allowed: less\.", complain("value", "q" * size, "less")).group(1)
    assert len(text) == shown and text.endswith("..." if size > 200 else "q")


@pytest.mark.parametrize("name, status", [
    ("PromptZooError", 400), ("PromptError", 422), ("GeometryError", 422), ("ImageError", 422), ("NotFoundError", 404),
    ("BundleError", 500), ("EngineError", 500), ("MissingDependencyError", 501)])
def test_every_error_has_a_kind_and_a_status(name, status):
    error = getattr(errors, name)("what happened")
    assert isinstance(error, PromptZooError)
    assert (error.kind, error.http_status, str(error)) == (name, status, "what happened")


def test_errors_are_also_the_builtin_ones():
    assert issubclass(errors.PromptError, ValueError) and issubclass(errors.NotFoundError, LookupError)
    assert issubclass(errors.MissingDependencyError, ImportError) and str(NotFoundError()) == ""


# seeding

def test_generators_of_equal_entropy_agree():
    first, same, other = (seeding.generator(*e).random(8) for e in ((3, 1), (3, 1), (3, 2)))
    np.testing.assert_array_equal(first, same)
    assert (first != other).all()


def test_generators_ignore_and_spare_the_global_state():
    np.random.seed(0)
    random.seed(0)
    before = np.random.get_state()[1].copy(), random.getstate()
    first = seeding.generator(7).random(8)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    assert random.getstate() == before[1]
    np.random.seed(99)
    np.testing.assert_array_equal(seeding.generator(7).random(8), first)


@pytest.mark.parametrize("entropy", [(), (-1,), (3, -2), (0.5,)])
def test_unusable_seeds(entropy):
    with pytest.raises(PromptZooError, match=r"seed: got \[.*\]; allowed: one or more non-negative integers"):
        seeding.generator(*entropy)


# optional

def test_present_modules_are_imported():
    assert optional.available("json") and optional.require("json.decoder", "Reading").__name__ == "json.decoder"


@pytest.mark.parametrize("extra, command", [
    ("trt", r"pip install 'promptzoo\[trt\]'"), ("", r"pip install no_such_package\.")])
def test_missing_module_names_the_feature_and_the_command(extra, command):
    assert not optional.available("no_such_package") and not optional.available("no_such_package.part")
    with pytest.raises(MissingDependencyError, match=rf"The thing needs the package 'no_such_package.part'.*{command}"):
        optional.require("no_such_package.part", "The thing", extra)


def test_module_that_fails_to_import(tmp_path, monkeypatch):
    (tmp_path / "pz_broken_module.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert optional.available("pz_broken_module")
    with pytest.raises(MissingDependencyError, match="No module named 'no_such_library'"):
        optional.require("pz_broken_module", "The thing")


# locations

def test_cache_folder_is_chosen_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTZOO_CACHE", str(tmp_path / "own"))
    assert cache_dir("engines", "a") == tmp_path / "own" / "engines" / "a"
    assert cache_dir("engines", "a").is_dir()
    monkeypatch.delenv("PROMPTZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "promptzoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir("x") == tmp_path / "home" / ".cache" / "promptzoo" / "x"


def test_bundles_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMPTZOO_BUNDLES", raising=False)
    assert bundles_dir().name == "bundles" and (bundles_dir() / "interactive_refinement_2d").is_dir()
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(tmp_path))
    assert bundles_dir() == tmp_path
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(tmp_path / "none"))
    with pytest.raises(NotFoundError, match="bundles folder: got .*none; allowed: an existing.*Set PROMPTZOO_BUNDLES"):
        bundles_dir()
