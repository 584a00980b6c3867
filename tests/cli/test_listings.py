"""``bundles``, ``catalog``, the root command, and that listing things needs no torch."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import promptzoo


def test_version_and_help(run):
    assert run("--version").stdout.strip() == f"promptzoo {promptzoo.__version__}"
    said = run("--help").stdout
    for command in ("bundles", "catalog", "segment", "bench", "export", "doctor", "serve"):
        assert command in said
    for command in ("segment", "bench", "export"):
        assert "Exit codes" in run(command, "--help").stdout


def test_bundles(run, bundles):
    said = run("bundles").stdout
    assert "flat_2d" in said and "solid_3d" in said and "point, box" in said and "2 bundles" in said
    listed = json.loads(run("bundles", "--json").stdout)
    assert [entry["name"] for entry in listed] == ["flat_2d", "solid_3d"]
    assert listed[0]["dimensions"] == 2 and listed[0]["weights"]["present"] and listed[0]["variants"] == ["pe-med"]
    assert listed[0]["not_for"] == ["Nothing medical."] and listed[0]["task"] == "segmentation"


def test_show(run, make_bundle):
    results = {"clicks": {"command": "promptzoo bench x.csv", "dice": [0.5, 0.75], "noc90": 4.25}}
    make_bundle("measured_2d", 2, results=results, systems={"pe-med": "works"})
    make_bundle("bare_3d", 3, weights=False)
    said = run("bundles", "show", "measured_2d").stdout
    for text in ("Measured_2D", "Apache-2.0", "phantoms", "pe-med (works)", "Nothing medical.", "dice[1] 0.75",
                 "promptzoo bench x.csv", "7 bytes, sha256"):
        assert text in said, text
    record = json.loads(run("bundles", "show", "measured_2d", "--json").stdout)
    assert record["results"] == results and len(record["weights"]["sha256"]) == 64
    bare = run("bundles", "show", "bare_3d").stdout
    assert "missing" in bare and "nothing yet" in bare
    assert json.loads(run("bundles", "--json", "show", "bare_3d").stdout)["weights"]["sha256"] is None
    assert "Did you mean" in run("bundles", "show", "measured", code=4).stderr


def test_catalog(run, make_bundle):
    rows = json.loads(run("catalog", "--json").stdout)
    assert len(rows) == 249 and len({row["id"] for row in rows}) == 249
    assert {"id", "name", "family", "bundle", "variant", "state"} <= set(rows[0])
    assert {row["state"] for row in rows} == {"planned"}
    make_bundle("measured_2d", 2, systems={"pe-med": "works"})
    row, = json.loads(run("catalog", "--state", "works", "--json").stdout)
    assert (row["id"], row["bundle"], row["variant"]) == ("pe-med", "measured_2d", "configs/variants/pe-med.json")
    family = json.loads(run("catalog", "--family", "interactive-refinement", "--json").stdout)
    assert 1 < len(family) < 249 and {row["family"] for row in family} == {"interactive-refinement"}
    found = json.loads(run("catalog", "--search", "PE-MED refinement", "--json").stdout)
    assert [row["id"] for row in found] == ["pe-med"]
    said = run("catalog").stdout
    assert "249 systems: 1 works, 248 planned" in said and len(said.splitlines()) > 249
    assert "works, planned" in run("catalog", "--state", "perhaps", code=2).stderr
    assert "interactive-refinement" in run("catalog", "--family", "nope", code=4).stderr


def test_a_broken_bundle_does_not_hide_the_others(run, bundles):
    (bundles / "broken" / "configs").mkdir(parents=True)
    (bundles / "broken" / "configs" / "metadata.json").write_text("{")
    result = run("bundles", "--json")
    assert len(json.loads(result.stdout)) == 2 and "broken" in result.stderr
    assert "not JSON" in run("bundles", "show", "broken", code=5).stderr


PROGRAM = """import sys
from promptzoo.cli import main
try:
    main()
finally:
    print("torch" in sys.modules)"""


@pytest.fixture
def program(tmp_path):
    """A function that runs ``promptzoo`` in its own process, in another folder than the repository."""
    path = os.pathsep.join([str(Path(promptzoo.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])

    def program_(*arguments):
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=tmp_path,
                              env={**os.environ, "PYTHONPATH": path})

    return program_


def test_listing_needs_no_torch(program, bundles):
    for arguments in (["--help"], ["catalog", "--json"], ["bundles"], ["bench", "--help"]):
        done = program("-c", PROGRAM, *arguments)
        assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False", done.stderr


def test_errors_have_no_traceback_unless_it_is_asked_for(program):
    wrong = ("-m", "promptzoo.cli", "segment", "nowhere.nii", "--point", "1,2,3")
    done = program(*wrong)
    assert done.returncode == 4 and done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1
    done = program(*wrong, "--debug")
    assert done.returncode == 1 and "Traceback" in done.stderr
    done = program("-m", "promptzoo.cli", "nonsense")
    assert done.returncode == 2 and "nonsense" in done.stderr


def test_an_unexpected_error_is_one_line(monkeypatch, capsys, bundles):
    from promptzoo.cli import bundles as module
    from promptzoo.cli import main

    def broken():
        raise ZeroDivisionError("made for the test")

    monkeypatch.setattr(module, "find_bundles", broken)
    with pytest.raises(SystemExit) as end:
        main(["bundles"])
    assert end.value.code == 1
    assert "unexpected ZeroDivisionError: made for the test" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        main(["bundles", "--debug"])
