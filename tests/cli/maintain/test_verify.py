"""Offline verification: a sound bundle passes, and every fault is named."""
import json

import pytest
import torch

from promptzoo.cli.maintain.verify import CHECKS, main, verify


def _edit(path, **changes):
    file = path / "configs" / "metadata.json"
    document = json.loads(file.read_text())
    document.update({k: v for k, v in changes.items() if k != "block"})
    document["promptzoo"].update(changes.get("block", {}))
    file.write_text(json.dumps(document))


def test_a_sound_bundle_passes(bundle_path, capsys):
    assert verify(bundle_path) == {}
    assert main(["--folder", str(bundle_path.parent)]) == 0
    assert capsys.readouterr().out == "interactive_refinement_2d: ok\n1 of 1 bundles are well\n"


def _no_schema(path):
    _edit(path, schema="https://example.org/meta_schema_20220324.json", authors=3)


def _block(path):
    _edit(path, block={"task": "segment"})


def _missing(path):
    (path / "docs" / "data_license.txt").unlink()
    (path / "LICENSE").write_text("\n")


def _python(path):
    (path / "scripts").mkdir()
    (path / "scripts" / "nets.py").write_text("x = 1\n")


def _absolute(path):
    (path / "configs" / "train.json").write_text('{"dataset_dir": ["/data/me", "$1 / 2"]}')


def _systems(path):
    _edit(path, block={"systems": {"pe-mad": "planned", "samed": "planned", "khor-ctv": "works"}})


def _needs(path):
    _edit(path, block={"needs": ["not_here"]})


def _version(path):
    _edit(path, version="0.1.10")


def _results(path):
    (path / "docs" / "results.json").write_text('{"schema_version": 1, "box": {"dice": [0.9]}, "x": {"command": " "}}')


def _readme(path):
    (path / "docs" / "README.md").write_text("# Best in class\n")


def _big(path):
    torch.save({"weight": torch.zeros(4096)}, path / "models" / "model.pt")


def _nested(path):
    torch.save({"model": {"weight": torch.zeros(4)}}, path / "models" / "model.pt")


def _not_finite(path):
    torch.save({"weight": torch.full((4,), torch.nan)}, path / "models" / "model.pt")


def _pickle(path):
    torch.save({"weight": object()}, path / "models" / "model.pt")


@pytest.mark.parametrize("harm, check, lines", [
    (_no_schema, "metadata", ["authors: 3 is not of type 'string'", "schema: got 'https://example.org"]),
    (_block, "promptzoo_block", ["task: 'segment' is not one of"]),
    (_missing, "required_files", ["missing file: docs/data_license.txt", "empty file: LICENSE"]),
    (_python, "no_python", ["Python inside the bundle: scripts/nets.py"]),
    (_absolute, "configs", ["configs/train.json, dataset_dir::0: absolute path /data/me"]),
    (_needs, "needs", ["no bundle not_here beside it"]),
    (_systems, "systems", ["khor-ctv works, but there is no", "pe-med.json: not named in systems",
                           "catalog id: got pe-mad", "samed is of the family sam-peft"]),
    (_version, "version", ["version 0.1.10: allowed are three one-digit numbers", "has no line in the changelog"]),
    (_results, "results", ["docs/results.json, box.dice.0: a number without a command"]),
    (_readme, "docs", ["does not say: not a medical device"]),
    (_big, "weights", ["bytes; allowed: 4096"]),
    (_nested, "weights", ["not a flat state dict"]),
    (_not_finite, "weights", ["weight is not finite"]),
    (_pickle, "weights", ["does not load with weights_only=True"]),
])
def test_a_fault_is_named_and_can_be_excused(harm, check, lines, bundle_path):
    harm(bundle_path)
    found = verify(bundle_path)
    assert list(found) == [check]
    for line in lines:
        assert any(line in problem for problem in found[check]), (line, found)
    if check != "promptzoo_block":
        _edit(bundle_path, block={"exemptions": {check: "the reason, as a sentence"}})
        assert verify(bundle_path) == {}


def test_findings_as_json_and_exit_code(bundle_path, capsys):
    (bundle_path.parent / "empty").mkdir()
    assert main(["--json", "--folder", str(bundle_path.parent)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["interactive_refinement_2d"] == {} and "unreadable file" in found["empty"]["promptzoo_block"][0]


def test_a_missing_folder_is_said_plainly(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROMPTZOO_BUNDLES", str(tmp_path / "nowhere"))
    assert main([]) == 1
    assert "bundles folder: got" in capsys.readouterr().err


def test_exemptions_can_name_every_check():
    assert all(name.replace("_", "").isalpha() and check.__doc__ for name, check in CHECKS.items())
