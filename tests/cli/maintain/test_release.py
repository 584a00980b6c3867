"""Release archives: reproducible, complete, and refused for a bundle that does not verify."""
import json
import shutil
import zipfile

import pytest

from promptzoo.cli.maintain.release import main, make_release
from promptzoo.core.bundles import read_bundle
from promptzoo.core.errors import BundleError


def test_the_archive_is_reproducible_and_vendors_the_package(bundle_path, tmp_path):
    bundle = read_bundle(bundle_path)
    first, second = (make_release(bundle, tmp_path / out) for out in ("a", "b"))
    assert first.name == "interactive_refinement_2d_v0.1.0.zip" and first.read_bytes() == second.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert len(set(names)) == len(names) and all(n.startswith("interactive_refinement_2d/") for n in names)
    inside = {n.split("/", 1)[1] for n in names}
    assert {"configs/metadata.json", "configs/variants/pe-med.json", "models/model.pt", "LICENSE", "docs/README.md",
            "promptzoo/__init__.py", "promptzoo/core/catalog.csv", "promptzoo/core/catalog.py"} <= inside
    assert not any("__pycache__" in n or n.endswith(".pyc") for n in inside)


def test_bundles_that_it_runs_come_along(bundle_path, tmp_path):
    helper = bundle_path.parent / "helper"
    shutil.copytree(bundle_path, helper)
    (helper / "notes.txt").write_text("stays at home\n")
    metadata = bundle_path / "configs" / "metadata.json"
    document = json.loads(metadata.read_text())
    document["promptzoo"]["needs"] = ["helper"]
    metadata.write_text(json.dumps(document))
    names = set(zipfile.ZipFile(make_release(read_bundle(bundle_path), tmp_path / "out")).namelist())
    assert {"helper/configs/metadata.json", "helper/models/model.pt", "helper/LICENSE"} <= names
    assert "helper/notes.txt" not in names


def test_an_unsound_bundle_is_refused(bundle_path, tmp_path, capsys):
    (bundle_path / "LICENSE").unlink()
    with pytest.raises(BundleError, match="not fit for release: required_files: missing file: LICENSE"):
        make_release(read_bundle(bundle_path), tmp_path)
    assert main([str(bundle_path), "--out", str(tmp_path)]) == 1
    assert "not fit for release" in capsys.readouterr().err


def test_the_command_prints_hash_and_changelog_line(bundle_path, tmp_path, capsys):
    assert main([str(bundle_path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "sha256 " in printed and "- `interactive_refinement_2d` 0.1.0, content `" in printed
