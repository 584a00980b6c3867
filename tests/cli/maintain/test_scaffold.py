"""A new bundle is sound from its first minute, and says that it is a copy."""
import json

import pytest

from promptzoo.cli.maintain.scaffold import main, new_bundle
from promptzoo.cli.maintain.verify import verify
from promptzoo.core.errors import BundleError, NotFoundError


def test_a_new_bundle_verifies_and_runs_on_its_model(bundle_path):
    bundle = new_bundle("sam_peft_lora", folder=bundle_path.parent)
    assert verify(bundle.path) == {}
    assert (bundle.family, bundle.version, bundle.systems, bundle.variants()) == ("sam-peft", "0.1.0", {}, {})
    assert bundle.weights["trained_on"].startswith("Not trained yet: a copy of the weights of interactive_")
    assert bundle.results() == {"schema_version": 1}
    assert (bundle.path / "models" / "model.pt").read_bytes() == (bundle_path / "models" / "model.pt").read_bytes()
    assert json.loads((bundle_path / "configs" / "metadata.json").read_text())["promptzoo"]["systems"]  # untouched


@pytest.mark.parametrize("name, options, error, line", [
    ("Sam-Peft", {}, BundleError, "bundle name: got Sam-Peft"),
    ("interactive_refinement_2d", {}, BundleError, "a name that is not taken"),
    ("my_bundle", {}, NotFoundError, "bundle name without a family.* Give --family"),
    ("my_bundle", {"family": "sam-pft"}, NotFoundError, "family: got sam-pft; allowed: sam-peft"),
    ("my_bundle", {"family": "sam-peft", "like": "interactive"}, NotFoundError, "bundle: got interactive"),
])
def test_bad_wishes_are_refused(name, options, error, line, bundle_path):
    with pytest.raises(error, match=line):
        new_bundle(name, folder=bundle_path.parent, **options)


def test_the_command(bundle_path, monkeypatch, capsys):
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(bundle_path.parent))
    assert main(["interactive_refinement_fast"]) == 0
    assert "next: its network" in capsys.readouterr().out
    assert main(["interactive_refinement_fast"]) == 1
